"""Every mistake a user can make: exit code 2, one sentence (what, why, what to type next), nothing left behind."""

from __future__ import annotations

import errno
import gzip
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import pytrec_eval

from harness.storage import atomic
from harness_plugins.model_folder.pinned import MINILM
from tests.cli.test_benchmark import cells

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
pytest.importorskip("bm25s", reason="bm25 needs the bm25 extra")

BENCHMARK = "benchmark -m bm25 -d ./toy"
DOCUMENT = '{"_id": "heart", "text": "The heart pumps blood."}\n'
QUERY = '{"_id": "q1", "text": "how does blood move"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\theart\t1\n"
MODULES = '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]'
STORED = [f"home/models/minilm/{name}" for name in MINILM.sha256]


class Case(NamedTuple):
    """A command line typed in a folder with toy/ and home/, and what its sentence must hold."""

    command: str
    said: list[str]
    files: dict[str, str | bytes | None] = {}  # noqa: RUF012 - never changed
    """Path -> content, before the command; None: the file is removed."""
    prepare: Callable[[pytest.MonkeyPatch], object] | None = None


def corpus(*lines: str | bytes, said: list[str]) -> Case:
    content = b"".join(line.encode() if isinstance(line, str) else line for line in lines)
    return Case(BENCHMARK, said, {"toy/corpus.jsonl": content})


def qrels(*lines: str | bytes, said: list[str]) -> Case:
    content = b"".join(line.encode() if isinstance(line, str) else line for line in lines)
    return Case(BENCHMARK, said, {"toy/qrels/test.tsv": content})


def stated(text: str | bytes, *said: str) -> Case:
    return Case(BENCHMARK, ["toy/dataset.toml", *said], {"toy/dataset.toml": text})


def array(make: Callable[[], object], *said: str) -> Case:
    return Case("isotropy x.npy", ["x.npy", *said], prepare=lambda _: np.save("x.npy", make()))


def model(text: str, *said: str, **more: object) -> Case:
    return Case(f"benchmark -m {shlex.quote(text)} -d ./toy", list(said), **more)  # type: ignore[arg-type]


def plugin(content: str | None, *said: str, name: str = "mine.py") -> Case:
    return Case(f"{BENCHMARK} --plugin {name}", [name, *said], {name: content} if content is not None else {})


def without(*modules: str) -> Callable[[pytest.MonkeyPatch], None]:
    """As if these modules were not installed."""
    real = importlib.util.find_spec
    found = lambda name, *more: None if name in modules else real(name, *more)  # noqa: E731
    return lambda patch: patch.setattr(importlib.util, "find_spec", found)


def no_cache(patch: pytest.MonkeyPatch, **environment: str) -> None:
    """No weights anywhere but under home."""
    for name, value in {"HF_HUB_CACHE": str(Path("nothing").absolute()), **environment}.items():
        patch.setenv(name, value)


def unreadable(patch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Path, *more: int) -> int:
        if Path(path).name == "corpus.jsonl":  # a mode of 0 would not keep root out
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *more)

    patch.setattr("harness.storage.regular_files.os.open", refuse)


CASES = {  # mistakes in files alone are in tests/datasets
    # a dataset's folder
    "no folder": Case("benchmark -m bm25 -d ./nope", ["no folder nope", "corpus.jsonl", "`harness datasets`"]),
    "no qrels": Case(BENCHMARK, ["toy", "lacks qrels/SPLIT.tsv", "add"], {"toy/qrels/test.tsv": None}),
    "a folder for a corpus": Case(
        BENCHMARK, ["lacks corpus.jsonl"], {"toy/corpus.jsonl": None, "toy/corpus.jsonl/x": ""}
    ),
    "no permission": Case(
        BENCHMARK,
        ["corpus.jsonl", "cannot be read (Permission denied)", "corpus.jsonl, queries.jsonl and"],
        prepare=unreadable,
    ),
    # a corpus
    "too deep": corpus("[" * 100_000, said=["corpus.jsonl line 1", "nested", "fix"]),
    "gzip by another name": corpus(
        b"\x1f\x8b\x08", said=["corpus.jsonl is gzipped", "type: mv /", "toy/corpus.jsonl.gz"]
    ),
    "gzip cut short": Case(
        BENCHMARK,
        ["corpus.jsonl.gz is not a complete gzip file", "again"],
        {"toy/corpus.jsonl": None, "toy/corpus.jsonl.gz": gzip.compress(DOCUMENT.encode())[:-9]},
    ),
    # judgements
    "header with blanks": qrels("query-id corpus-id score\n", said=["test.tsv", "tabs between", "put the header"]),
    "qrels not UTF-8": qrels(QRELS, b"q1\t\xff\t1\n", said=["Line 3", "test.tsv", "not UTF-8", "save"]),
    # dataset.toml
    "toml not UTF-8": stated(b'name = "\xff"\n', "is not TOML", "fix it"),
    # names
    "unknown model": model("bm52", "no model 'bm52'", "did you mean bm25?"),
    "unknown dataset": Case(
        "benchmark -m bm25 -d pydoc", ["no dataset 'pydoc'", "did you mean pydocs or ", "-d ./folder"]
    ),
    "unknown suite": Case("benchmark -m bm25 --suite dmo", ["no suite 'dmo'", "did you mean demo?"]),
    "unknown command": Case("benchmrak", ["no command 'benchmrak'", "did you mean benchmark?"]),
    "command unlike any": Case("xyzzy", ["no command 'xyzzy'", "known:", "benchmark", "more"]),
    "unknown option": Case(f"{BENCHMARK} --messures P@1", ["--messures", "--measures", "harness benchmark --help"]),
    "limit 0": Case(f"{BENCHMARK} --limit 0", ["'--limit'", "0", "x>=1", "harness benchmark --help"]),
    "no dtype": Case(f"{BENCHMARK} --dtype float8", ["'float8'", "'bfloat16'", "harness benchmark --help"]),
    "no dataset": Case("benchmark -m bm25", ["No dataset is named", "-d NAME", "--suite demo"]),
    "no model": Case(
        "benchmark -d ./toy", ["No model is named", "-m NAME", "-m path/to/checkpoint", "`harness models`"]
    ),
    "second model": Case("benchmark -m bm25 -m bm52 -d ./toy", ["no model 'bm52'", "did you mean bm25?"]),
    "second dataset": Case(f"{BENCHMARK} -d ./nope", ["no folder nope"]),
    "two of one name": Case(
        f"{BENCHMARK} -d ./other/toy",
        ["both called 'toy'", "other/toy", 'name = "..."', "dataset.toml"],
        {"other/toy/corpus.jsonl": DOCUMENT, "other/toy/queries.jsonl": QUERY, "other/toy/qrels/test.tsv": QRELS},
    ),
    "unknown measure": Case(f"{BENCHMARK} --measures ndgc@10", ["no measure 'ndgc@10'", "did you mean nDCG@10?"]),
    "trec_eval's name": Case(f"{BENCHMARK} --measures ndcg_cut_10", ["'ndcg_cut_10'", "did you mean nDCG@10?"]),
    "cutoff 0": Case(f"{BENCHMARK} --measures nDCG@0", ["'nDCG@0'", "cutoff must be 1 or more", "type it as"]),
    # a model's options
    "no such option": model("bm25:k9=1", "no option of bm25 'k9'", "did you mean k1?"),
    "no number": model("bm25:k1=high", "k1 of bm25", "'high' is not a number", "it is how slowly"),
    "no integer option": model("mpnet:max_seq_length=1.5", "max_seq_length", "'1.5' is not an integer"),
    "too small": model("bm25:k1=-1", "k1 of bm25", "-1 is below 0"),
    "too large": model("bm25:b=1.5", "b of bm25", "1.5 is above 1"),
    "no choice": model("bm25:fields=title", "'title' is not one of flat, multifield"),
    "no pair": model("bm25:k1=1,b", "'b'", "NAME:key=value,key=value"),
    # plug-in files
    "no plug-in file": plugin(None, "no plug-in file", "Python file"),
    "plug-in fails": plugin("import nothing_like_it\n", "nothing_like_it", "(mine.py:1)", "fix it"),
    "plug-in's syntax": plugin("def (:\n", "SyntaxError", "fix it"),
    "misspelt hook": plugin("from harness import hookimpl\n@hookimpl\ndef harness_modells(): ...\n", "harness_modells"),
    "hides a module": plugin("", "an installed module (json)", "rename", name="json.py"),
    "dataset from nowhere": plugin(
        "from harness import DatasetSpec, hookimpl\n@hookimpl\ndef harness_datasets(): yield DatasetSpec('d', '')\n",
        *("dataset 'd' has no build, no sources and no instructions", "fix it"),
    ),
    "no Python file": plugin("", "ends in .py", name="mine.txt"),
    # weights
    "no checkpoint": model("./toy", "toy is not a sentence-transformers folder", "modules.json", "save()"),
    "no such checkpoint": model("./nope", "no folder ./nope", "`harness models`"),
    "pickled weights": model(
        "./old",
        "no .safetensors",
        "never opened",
        "save",
        files={"old/modules.json": MODULES, "old/pytorch_model.bin": ""},
    ),
    "altered copy": model(
        "minilm:path=copy",
        *("copy is not an unchanged copy of sentence-transformers/all-MiniLM-L6-v2", "SHA-256", "-m copy"),
        files={f"copy/{name}": "x" for name in MINILM.sha256},
    ),
    "altered weights": model(
        "minilm", "corrupt or was changed", "SHA-256", "harness fetch minilm", files=dict.fromkeys(STORED, "x")
    ),
    "offline": Case(
        "benchmark -m bm25 -m mpnet -d ./toy --offline",
        ["weights of mpnet", "not on this machine", "harness fetch mpnet", "mpnet:path=FOLDER"],
        prepare=no_cache,
    ),
    "HARNESS_OFFLINE": model(
        "mpnet",
        *("weights of mpnet", "network is switched off", "harness fetch mpnet"),
        prepare=lambda patch: no_cache(patch, HARNESS_OFFLINE="1"),
    ),
    "offline fetch": Case("fetch mpnet --offline", ["weights of mpnet", "without --offline"], prepare=no_cache),
    "no faiss": model(
        "minilm", "minilm needs faiss", 'pip install "retrieval-harness[dense]"', prepare=without("faiss")
    ),
    "no bm25s": model("bm25", "bm25 needs bm25s", 'pip install "retrieval-harness[bm25]"', prepare=without("bm25s")),
    # where things are kept
    "results is a file": Case(
        f"{BENCHMARK} --results r", ["folder r", "a file is in its place", "--results"], {"r": ""}
    ),
    "results in a file": Case(f"{BENCHMARK} --results r/x", ["folder r/x", "Not a directory", "--results"], {"r": ""}),
    "results nowhere": Case(f"{BENCHMARK} --results /proc/nope", ["folder /proc/nope cannot be created", "--results"]),
    "home is a file": Case(
        BENCHMARK,
        ["folder", "a file is in its place", "HARNESS_HOME"],
        {"h": ""},
        lambda patch: patch.setenv("HARNESS_HOME", "h"),
    ),
    "home nowhere": Case(
        BENCHMARK, ["/proc/nope", "HARNESS_HOME"], prepare=lambda patch: patch.setenv("HARNESS_HOME", "/proc/nope")
    ),
    # isotropy
    "isotropy of nothing": Case("isotropy", ["a .npy file", "-m MODEL", "-d DATASET"]),
    "isotropy of half": Case("isotropy -m minilm", ["a .npy file", "-m MODEL", "-d DATASET"]),
    "isotropy of both": Case("isotropy x.npy -m minilm -d ./toy", ["either a .npy file, or both"]),
    "isotropy of words": Case("isotropy -m bm25 -d ./toy", ["bm25 is a lexical model", "no vectors", "-m"]),
    "no file": Case("isotropy x.npy", ["x.npy", "No such file", "numpy.save"]),
    "no array": Case("isotropy x.npy", ["x.npy", "not a .npy file", "numpy.save"], {"x.npy": "rubbish"}),
    "broken header": Case("isotropy x.npy", ["x.npy", "numpy.save"], {"x.npy": b"\x93NUMPY\x01\x00\x04\x00{'(\n"}),
    "archive": Case("isotropy x.npy", ["x.npy", "numpy.save"], {"x.npy": b"PK\x03\x04 cut short"}),
    "one vector": array(lambda: np.ones(3), "shape (3,)", "one per row"),
    "integers": array(lambda: np.ones((3, 2), int), "int64", "float vectors"),
    "no vectors": array(lambda: np.ones((0, 2)), "shape (0, 2)", "at least one"),
    "no dimensions": array(lambda: np.ones((2, 0)), "shape (2, 0)", "at least one"),
    "NaN": array(lambda: np.array([[1.0, np.nan], [1.0, 2.0]]), "NaN", "drop those rows"),
    # the other commands
    "no run": Case("evaluate --run r --qrels toy/qrels/test.tsv", ["no file r", "check the path"]),
    "no judgements": Case("evaluate --run toy/queries.jsonl --qrels q", ["no file q", "check the path"]),
    "broken run": Case(
        "evaluate --run r --qrels toy/qrels/test.tsv",
        ["Line 1 of r", "2 columns", "has 6", "fix"],
        {"r": "q1 heart\n"},
    ),
    "no results folder": Case("report", ["no results folder results", "--results", "harness benchmark -m bm25"]),
    "no results": Case("report --results toy", ["no results in toy", "harness benchmark -m bm25"]),
    "report's format": Case("report --format docx", ["'docx'", "'markdown'", "harness report --help"]),
    "doctor, whom": Case("doctor qxz", ["no dataset 'qxz'", "known: arguana, ", " and 2", " more", "-d ./folder"]),
    "doctor, where": Case("doctor ./nope", ["no folder nope"]),
    "check, whom": Case("check bm26", ["no model 'bm26'", "did you mean bm25?"]),
    "check nothing": Case("check", ["'MODEL'", "harness check --help"]),
    "fetch, what": Case("fetch minilm pydoc", ["no model or dataset 'pydoc'", "did you mean pydocs or "]),
    "fetch nothing": Case("fetch", ["Nothing to fetch is named", "harness fetch NAME", "--suite NAME"]),
    "fetch, which suite": Case("fetch --suite beir81", ["no suite 'beir81'", "did you mean beir18"]),
    "fetch from nowhere": Case("fetch robust04 --from ./nope", ["no folder", "nope", "`harness fetch robust04`"]),
    "fetch from, what": Case("fetch pydocs --from .", ["--from goes with one dataset under licence", "robust04"]),
}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_sentence(name: str, harness, toy: Path, monkeypatch, tmp_path: Path) -> None:
    case = CASES[name]
    for path, content in case.files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            target.unlink()
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
    if case.prepare:
        case.prepare(monkeypatch)
    before = files(tmp_path)
    done = harness(*shlex.split(case.command))
    *earlier, sentence = done.err.splitlines()
    assert done.code == 2, done.err
    assert sentence.startswith("harness: ")
    assert not any(line.startswith("harness: ") for line in earlier)
    missing = [words for words in case.said if words not in sentence]
    assert not missing, f"{missing} not in: {sentence}"
    assert done.out == ""
    assert "Traceback" not in done.err
    left = {path for path in files(tmp_path) - before if not path.startswith(("home/corpora/", "home/indexes/"))}
    assert left <= {"home/models/hashes.json"}, "a mistake leaves nothing but caches of what was right"
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".old"))]


def test_judged_documents_that_are_not_there_are_counted_and_measured_as_trec_eval_does(harness, toy) -> None:
    """A judgement is kept when its document is gone: it still counts in the ideal ranking and in recall's divisor."""
    path = toy / "qrels" / "test.tsv"
    path.write_text(path.read_text() + "q1\tghost\t2\nq3\tghost\t1\nq3\tphantom\t0\n")
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--json")
    assert done.code == 0
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: toy: 3 judgements name documents not in the corpus (ghost, phantom); "
        "measured as never retrieved, as trec_eval 10.0 does"
    ]
    judged: dict[str, dict[str, int]] = {}
    for line in path.read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged.setdefault(query, {})[document] = int(grade)
    run: dict[str, dict[str, float]] = {}
    for line in gzip.decompress(Path("results/bm25/toy/run.trec.gz").read_bytes()).decode().splitlines():
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    scored = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10", "recall_100"}).evaluate(run)
    measures = json.loads(done.out)[0]["measures"]
    for ours, theirs in (("nDCG@10", "ndcg_cut_10"), ("R@100", "recall_100")):
        assert measures[ours] == pytest.approx(sum(scored[q][theirs] for q in judged) / len(judged), abs=1e-12)
    assert scored["q1"]["ndcg_cut_10"] < 0.5  # the ghost, graded 2, was missed
    assert scored["q1"]["recall_100"] == 0.5


def test_a_full_disk_at_any_moment_loses_nothing_but_time(harness, toy, monkeypatch, tmp_path: Path) -> None:
    """The disk fills up at the first flush, at the second, and so on until the benchmark gets through."""
    real, left = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    for flushes in range(100):
        left = flushes
        done = harness("benchmark", "-m", "bm25", "-d", toy)
        if done.code == 0:
            break
        assert done.code == 2
        assert "harness: The disk is full" in done.err
        assert "run the same command again" in done.err
        assert "Traceback" not in done.err
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".old"))]
        assert not list(Path("results").rglob("result.json"))
    assert flushes >= 3
    assert cells(Path("results"))["bm25", "toy"]["measures"]["nDCG@10"] > 0.8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written(home) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "suites"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "harness: The disk is full, so the output is not whole; free some space and run the same command again."
    ]
