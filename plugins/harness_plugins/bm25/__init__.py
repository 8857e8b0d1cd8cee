"""BM25 with Lucene's analyser and scores."""
