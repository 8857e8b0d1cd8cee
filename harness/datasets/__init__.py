"""Datasets in BEIR format: the catalog, readers, downloads and checks."""
