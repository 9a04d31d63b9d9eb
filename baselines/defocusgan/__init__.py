"""DefocusGAN."""
