"""Other programs. Each runs in an environment of its own, so nothing here imports the harness."""
