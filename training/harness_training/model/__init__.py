"""The trained model: base encoder and projection head."""
