"""Measurements without a competitor."""
