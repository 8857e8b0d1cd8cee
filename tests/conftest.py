"""Fixtures every room shares."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

from harness.cli.main import main
from tests.endpoint_server import Endpoint, endpoint
from tests.server import Site, serving

ROOT = Path(__file__).resolve().parents[1]
BYTE_COUNTS = ROOT / "tests" / "third_party" / "byte_counts.py"

# Whoever runs the tests in the background, or under nohup, has switched signals off; the commands that the tests start
# would inherit that, and rightly ignore what they are sent.
for one, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(one) is signal.SIG_IGN:
        signal.signal(one, usual)


gc.set_threshold(50_000, 20, 20)  # as in `harness.cli.start`


@pytest.fixture(autouse=True, scope="module")
def one_thread_and_frozen_heap() -> None:
    """Excludes what earlier modules imported from garbage collections, and keeps torch to one thread.

    The models here are tiny: several threads spend their time waiting for each other.
    """
    gc.collect()
    gc.freeze()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def one_bundle() -> None:
    """Makes the page's library of plots once: that takes more than a second."""
    with suppress(ImportError):
        import vl_convert

        vl_convert.javascript_bundle = functools.cache(vl_convert.javascript_bundle)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real collections and published scores beside the repository; not part of the product."""
    folder = ROOT.parent / "shared"
    if not (folder / "data" / "scifact" / "corpus.jsonl").exists():
        pytest.skip("real collections (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def built_pydocs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of datasets in which ``harness fetch pydocs`` made pydocs, once for all processes that test."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with FileLock(root / "pydocs.lock"):
        if not (root / "pydocs" / "datasets").exists():
            words = [sys.executable, "-m", "harness", "fetch", "pydocs"]
            done = subprocess.run(words, env={**os.environ, "HARNESS_HOME": str(root / "pydocs")}, capture_output=True)
            assert done.returncode == 0, done.stderr
    return root / "pydocs" / "datasets"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $HARNESS_HOME, and an empty working directory; commands use one thread, as their data is small."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return folder


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def harness(home: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command line in this process, with an empty home."""

    def run(*words: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A local server that stands for every host datasets come from."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("harness.download.http.RETRY_DELAY", 0.0)
    monkeypatch.setattr("harness.download.http.ALLOWED_PREFIXES", ("https://", "http://127.0.0.1:"))
    with serving() as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        yield site


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """An endpoint on loopback, without keys and addresses of the environment, and without waiting between attempts."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CO_API_KEY", "CO_API_URL", "RERANK_API_KEY", "RERANK_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HARNESS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("harness_plugins.endpoints.client.RETRY_DELAY", 0.0)
    with endpoint() as state:
        yield state


def write_dataset(
    folder: Path,
    documents: Mapping[str, str | tuple[str, str]],
    queries: Mapping[str, str],
    qrels: Sequence[tuple[str, str, int]],
    split: str = "test",
) -> Path:
    """A folder in BEIR format; a document is its text, or its title and text."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    records = []
    for key, document in documents.items():
        title, text = ("", document) if isinstance(document, str) else document
        records.append({"_id": key, "title": title, "text": text})
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in queries.items()]
    (folder / "queries.jsonl").write_text("".join(lines))
    rows = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t{score}" for q, d, score in qrels)]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Twelve documents, four judged queries."""
    topics = {
        "heart": ("The heart", "The heart pumps blood through the arteries of the body."),
        "lung": "Lungs take oxygen from the air and give carbon dioxide back.",
        "rust": "Rust is a programming language with ownership and borrowing.",
        "python": "Python is a programming language with significant whitespace.",
        "bread": "Bread is baked from flour, water, salt and yeast.",
        "cheese": "Cheese is made from milk, rennet and bacteria.",
        "moon": "The moon circles the earth in twenty-seven days.",
        "mars": "Mars is the fourth planet from the sun, red with iron oxide.",
        "bond": "A bond pays interest until it matures.",
        "stock": "A stock is a share in the ownership of a company.",
        "violin": "A violin has four strings, tuned in fifths.",
        "piano": "A piano has eighty-eight keys and three pedals.",
    }
    queries = {
        "q1": "how does blood move",
        "q2": "programming languages",
        "q3": "what is bread made of",
        "q4": "red planet",
    }
    judged = [
        ("q1", "heart", 1),
        ("q2", "rust", 2),
        ("q2", "python", 1),
        ("q3", "bread", 1),
        ("q4", "mars", 1),
        ("q4", "moon", 0),
    ]
    return write_dataset(tmp_path / "toy", topics, queries, judged)
