"""Documents to judge next, and results under the judgements that come back."""
