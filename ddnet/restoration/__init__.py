"""Restoring images with anything that was trained or imported here: `ddnet.load`, `ddnet deblur`."""
