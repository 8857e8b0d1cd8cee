"""Published claims, checked against stored results."""
