"""Trains models: training sets, experiments, losses and releases. Evaluate a checkpoint with ``-m PATH``."""
