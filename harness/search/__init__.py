"""Retrieval: exact search, FAISS indexes, lexical indexes, fusions and rerankers."""
