"""Prepares checkpoints for publication."""
