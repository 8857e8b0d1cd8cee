"""BM25 as Lucene computes it."""
