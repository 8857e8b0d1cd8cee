"""Texts to vectors, and vectors on disk."""
