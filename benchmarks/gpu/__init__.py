"""Checks and measurements on a machine with a GPU: ``bash benchmarks/gpu.sh``."""
