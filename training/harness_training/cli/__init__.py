"""The commands that train models and make their data; see `harness.cli`."""

COMMANDS = {
    "data": "Obtain training data (triplets) by name.",
    "mine": "Mine hard negatives for a training split.",
    "overlap": "How much of a test set is in a training set.",
    "release": "Make a folder for the hub: model, model card, manifest.",
    "study": "A whole study from one file: data, training, reports, claims.",
    "train": "Train experiments.",
}
"""Command -> its line in ``harness --help``."""
