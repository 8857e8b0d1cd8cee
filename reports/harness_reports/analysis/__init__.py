"""Analyses over stored results: isotropy and quality, difficulty of queries."""
