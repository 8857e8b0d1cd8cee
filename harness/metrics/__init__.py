"""Rankings and their ties, TREC files, metrics per query, geometry of vectors, significance tests."""
