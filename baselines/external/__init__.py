"""Images restored elsewhere."""
