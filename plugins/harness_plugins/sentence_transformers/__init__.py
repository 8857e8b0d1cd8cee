"""Dense models in sentence-transformers' format, local and from the hub."""
