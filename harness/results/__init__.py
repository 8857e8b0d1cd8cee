"""Stored results: written, read, imported."""
