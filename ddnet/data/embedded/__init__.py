"""The embedded benchmark: exact thin-lens defocus with true depth, rendered on the spot."""
