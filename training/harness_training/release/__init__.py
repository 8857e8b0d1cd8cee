"""Checkpoints made ready to publish."""
