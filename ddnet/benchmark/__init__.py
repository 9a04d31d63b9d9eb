"""`ddnet bench` and `ddnet estimate`: time and memory on this machine."""
