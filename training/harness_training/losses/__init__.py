"""Retrieval losses, regularisers and the objective made of them."""
