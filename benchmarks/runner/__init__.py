"""Runs contests: alternating rounds, each competitor in its own process."""
