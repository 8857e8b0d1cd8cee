"""A static site of stored results: leaderboard, models, datasets, comparisons, a feed and JSON."""
