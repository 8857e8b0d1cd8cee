"""The commands that read stored results; see `harness.cli`."""

COMMANDS = {
    "claims": "Check the claims of a paper against stored results.",
    "compare": "Which differences between models are real, query by query.",
    "correlate": "Rank correlation of isotropy with nDCG@10, with interval.",
    "difficulty": "Which queries are hard, as far as the scores tell.",
    "export": "Write stored results in the formats of other tools.",
    "gate": "Fail if a model is worse than its baseline beyond chance.",
    "pool": "Which unjudged documents to judge first.",
    "report": "Tables of nDCG@10, geometry and cost from stored results.",
    "site": "Write a static site from stored results: pages, a feed, JSON.",
}
"""Command -> its line in ``harness --help``."""
