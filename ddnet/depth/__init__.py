"""Depth of images: sources, the network that is fitted here, and maps kept as files."""
