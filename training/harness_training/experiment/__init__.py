"""Experiments: plans, settings, runs and sweeps."""
