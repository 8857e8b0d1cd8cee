"""The fault campaign: ``python -m tests.robustness.faults``."""
