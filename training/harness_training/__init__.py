"""Experiments that make checkpoints. A checkpoint, from here or elsewhere, is evaluated with ``-m PATH``."""
