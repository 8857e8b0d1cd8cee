"""The comparisons, one module each."""
