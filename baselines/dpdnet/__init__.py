"""DPDNet, from a single image."""
