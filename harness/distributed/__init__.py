"""Benchmarks over several workers: scheduler, executor, and pools of processes or of Ray actors."""
