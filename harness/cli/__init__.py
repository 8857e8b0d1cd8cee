"""The command line: for every name in `COMMANDS`, the module of that name holds the click command, as ``command``.

Listing the commands imports none of their modules. A command whose name is a reserved word of Python is in NAME_.py.
"""

COMMANDS = {
    "benchmark": "Evaluate models on datasets: nDCG@10 and isotropy of every pair.",
    "check": "Test a model plug-in: shapes, dtypes, determinism, batching.",
    "compress": "What truncated and quantised vectors cost, beside full ones.",
    "datasets": "List the datasets known by name.",
    "doctor": "Examine a dataset: duplicates, empty texts, dangling judgements.",
    "evaluate": "Measure any TREC run against judgements.",
    "fetch": "Download and verify datasets and model weights ahead of time.",
    "import": "Import external results: TREC runs, MTEB's folders.",
    "index": "Export a model's vectors of a dataset as a plain FAISS index.",
    "isotropy": "Measure the geometry of vectors: a model's, or a .npy file's.",
    "models": "List the models known by name, and what each still needs.",
    "plan": "What a benchmark will take: tokens, bytes, memory, hours, cost.",
    "prompts": "Benchmark several query prompts: rows and their spread.",
    "results": "List what is stored, and remove results.",
    "suites": "List the suites: datasets with one average.",
    "transform": "Benchmark a model's vectors centred, whitened or projected.",
    "verify": "Run recorded results again: OK, OKish or FAIL for each.",
}
"""Command -> its line in ``harness --help``."""
