"""The evaluation pipeline, the check of plug-ins, and the check of stored results by computing them again."""
