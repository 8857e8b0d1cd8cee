"""Stored results -> tables. Reads the results folder alone: no dataset, no model."""
