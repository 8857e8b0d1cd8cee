"""Models compared query by query."""
