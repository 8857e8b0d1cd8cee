"""Models behind an HTTP endpoint: embeddings in the shapes of OpenAI and Cohere, and rerankers."""
