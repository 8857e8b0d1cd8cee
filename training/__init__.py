"""Experiments that make checkpoints. Nothing here yet; a checkpoint from elsewhere is evaluated with ``-m PATH``."""
