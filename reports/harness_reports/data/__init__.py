"""Stored results as a leaderboard: cells, averages, seeds, intervals."""
