"""Forward passes that are faster than sentence-transformers' own: unpadded, int8, and on GPUs."""
