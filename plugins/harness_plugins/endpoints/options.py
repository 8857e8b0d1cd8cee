"""Options that all models behind an endpoint have."""

from __future__ import annotations

from harness import Option

MOST = 1 << 20

CONNECTION: dict[str, Option] = {
    "base_url": Option(None, "address of the endpoint, without credentials, such as http://127.0.0.1:8080/v1"),
    "key_env": Option(None, "environment variable that holds the key; none: send no key", changes_output=False),
    "timeout": Option(60.0, "seconds that an answer may take", minimum=0.1, maximum=3600, changes_output=False),
    "concurrency": Option(4, "requests at a time", minimum=1, maximum=64, changes_output=False),
    "batch_size": Option(32, "texts in a request", minimum=1, maximum=2048, changes_output=False),
    "price": Option(0.0, "US dollars per million tokens, for --max-cost and plans", minimum=0, changes_output=False),
    "max_chars": Option(0, "characters kept of a text; 0: all", minimum=0, maximum=MOST),
    "version": Option(None, "any text; vectors of another version are kept apart"),
}
EMBEDDING: dict[str, Option] = {
    "dimensions": Option(0, "length of the vectors, of models that can shorten them; 0: the model's own", minimum=0),
    "encoding_format": Option("float", "how vectors are sent", choices=("float", "base64")),
    "query_prompt": Option(None, "put before every query", role="query"),
    "document_prompt": Option(None, "put before every document", role="document"),
    "query_input_type": Option(
        None, "input_type of queries, such as search_query; unset: what the service needs", role="query"
    ),
    "document_input_type": Option(None, "input_type of documents, such as search_document", role="document"),
    "similarity": Option("cosine", "how vectors are compared", choices=("cosine", "dot", "euclidean")),
}
