"""The blurred input itself."""
