"""Training sets: formats, hard negatives, filters, mixtures."""
