"""The embedded dataset."""
