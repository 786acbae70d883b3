"""Settings: what a config may say, read once, checked at once, never changed."""
