"""Forecasts of time, memory, bytes and cost."""
