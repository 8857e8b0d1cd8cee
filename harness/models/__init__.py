"""Models at work: weights ready, loaded on demand, unloaded afterwards."""
