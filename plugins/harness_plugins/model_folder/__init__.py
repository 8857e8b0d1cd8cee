"""Model folders: what they hold, whether they are safe and complete, and how they are opened."""
