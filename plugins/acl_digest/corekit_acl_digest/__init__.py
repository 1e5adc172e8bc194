"""The digest and ip authentication schemes."""
