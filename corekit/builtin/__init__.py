"""The small default plugins. They are registered exactly as strangers are."""
