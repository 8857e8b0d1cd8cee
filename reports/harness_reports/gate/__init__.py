"""A check for continuous integration: whether models have become worse than a baseline."""
