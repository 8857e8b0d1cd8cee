"""The tables of a report, before they are rendered."""
