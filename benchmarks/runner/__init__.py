"""Runs comparisons in alternating rounds, each competitor in its own process."""
