"""Studies: one file states training data, experiments, evaluation and claims; one command does all of it."""
