"""The trained model: a base encoder and a projection head."""
