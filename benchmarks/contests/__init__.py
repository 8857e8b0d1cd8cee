"""The contests, one module each."""
