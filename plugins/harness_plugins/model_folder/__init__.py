"""Model folders: their contents, validation and loading."""
