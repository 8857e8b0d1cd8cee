"""Every parser of the product as a function of a file's bytes: it returns, or raises what is told in a sentence.

A target writes its bytes into an empty folder, as the file that a user would have been given, and reads them as the
command does. Whatever else than `GOOD` comes out of it is a finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

from harness.download.http import SourceFailed
from harness.metrics.measures import measure
from harness.types import PluginError, UserError
from tests.robustness import fuzz_seeds as seed

GOOD = (UserError, SourceFailed)
Parser = Callable[[Path, bytes], object]


def file(name: str, read: Callable[[Path], object]) -> Parser:
    def parse(folder: Path, data: bytes) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return read(path)

    return parse


def corpus(path: Path) -> object:
    from harness.datasets.corpus import open_corpus
    from harness.datasets.unpacked import unpacked

    os.utime(path, (1e9, 1e9))  # a file of this very moment is waited for
    with unpacked(path, path.parent / "cache") as plain, open_corpus(plain, path.parent / "cache") as corpus:
        return [corpus[row] for row in range(len(corpus))], corpus.rows(corpus.ids(slice(0, 3)))


def dataset(name: str) -> Parser:
    def read(path: Path) -> object:
        from harness.datasets.beir import open_dataset

        folder = path.parent.parent if path.parent.name == "qrels" else path.parent
        queries = b'{"_id": "q1", "text": "a"}\n'
        parts = (("corpus.jsonl", seed.DOCUMENT), ("queries.jsonl", queries), ("qrels/test.tsv", seed.QRELS[:-7]))
        for part, content in parts:
            (folder / "qrels").mkdir(exist_ok=True)
            if not (folder / part).exists():
                (folder / part).write_bytes(content)
            os.utime(folder / part, (1e9, 1e9))
        with open_dataset(folder, cache=folder / "cache") as opened:
            return opened.label

    return file(name, read)


def run(path: Path) -> object:
    from harness.metrics.ranking import read_run
    from harness.metrics.run_writer import write_run

    write_run(path.parent / "again.trec", read_run(path), "t")
    return measure({"q1": {"d1": 1}}, read_run(path), ("nDCG@10", "AP@1000", "Judged@10"))


def qrels(path: Path) -> object:
    from harness.metrics.qrels import HEADER, qrels_line, read_judgements, read_qrels
    from harness.metrics.ranking import read_run

    with contextlib.suppress(UserError):
        read_judgements(path, header=True)
    found = read_qrels(path)
    lines = [qrels_line(query, *judged) for query, documents in found.items() for judged in documents.items()]
    (path.parent / "again.tsv").write_text("".join([f"{HEADER}\n", *lines]), newline="\n")
    assert read_qrels(path.parent / "again.tsv") == found, "other judgements when written and read again"
    (path.parent / "run").write_bytes(seed.RUN)
    return measure(found, read_run(path.parent / "run"), ("nDCG@10", "nDCG", "AP@10"))


def claims(path: Path) -> object:
    from harness_reports.claims.parser import Known, read_claims

    return read_claims(path, Known(("m", "n"), ("d",), ("geometry.documents.isotropy",)))


def results(folder: Path, data: bytes, per_query: bytes | None = None) -> object:
    """Everything that reads a results folder, beside a sound cell: reports in every form, exports, comparisons."""
    from harness.evaluation.recorded import read_recorded
    from harness.results.dataset_identity import command_folders
    from harness.results.frame import load_results
    from harness.results.store import ResultStore, Unreadable
    from harness_reports.analysis.isotropy_vs_ndcg import associations
    from harness_reports.analysis.query_difficulty import difficulties
    from harness_reports.cli.report import render
    from harness_reports.compare.compare import compare
    from harness_reports.data.leaderboard import read_leaderboard
    from harness_reports.data.per_query import Evidence
    from harness_reports.export.hub import on_the_hub, write_hub
    from harness_reports.export.mteb import write_mteb
    from harness_reports.html.page_data import embedded
    from harness_reports.html.tables import html_tables
    from harness_reports.tables.sections import report

    root = folder / "results"
    sound = seed.parquet()
    for name, content, scores in (("m", data, per_query), ("n", seed.dumped({**seed.RESULT, "model": "n"}), sound)):
        (root / name / "d").mkdir(parents=True)
        (root / name / "d" / "result.json").write_bytes(content)
        (root / name / "d" / "per_query.parquet").write_bytes(sound if scores is None else scores)
    store = ResultStore(root)
    store.finished("m", "d", "key")
    found = [one for one in store.scan() if not isinstance(one, Unreadable)]
    recorded, _ = read_recorded([root])
    [list(command_folders(one.result["command"])) for one in recorded]
    load_results(root)
    for seeds in (False, True):
        board = read_leaderboard(root, seeds=seeds)
        evidence = Evidence(board)
        texts = [render(board, form, evidence) for form in ("markdown", "latex", "json", "csv")]
        texts.append(html_tables(report(board, evidence)))
        told = embedded(board, evidence, report(board, evidence).content())
        "".join([*texts, *told[1], json.dumps(told[0], allow_nan=False)]).encode()
    cells = [cell for cell in board.rows() if cell.ok and cell.score is not None and not cell.partial]
    write_mteb(cells, folder / "mteb")
    write_hub([cell for cell in cells if on_the_hub(cell)], folder / "hub")
    associations(board)
    for work in (lambda: compare(evidence, board.models), lambda: difficulties(evidence, (), (), folder)):
        with contextlib.suppress(UserError):
            work()
    return found


def per_query(folder: Path, data: bytes) -> object:
    from harness.results.store import read_per_query

    (folder / "per_query.parquet").write_bytes(data)
    with contextlib.suppress(UserError):
        read_per_query(folder, "nDCG@10")
    return results(folder, seed.dumped(seed.RESULT), data)


def shard(folder: Path, data: bytes) -> object:
    """The bytes as an array beside a record that fits them, and as the record and the list beside a sound array."""
    from harness.embeddings.store import Vectors, VectorStore

    for array, record in ((data, None), (seed.npy(), data)):
        store = VectorStore(folder, "k", "document")
        store.folder.mkdir(parents=True, exist_ok=True)
        stated = {"key": "ab", "rows": 3, "dim": 2, "sha256": hashlib.sha256(array).hexdigest(), "seconds": 1}
        (store.folder / "ab.npy").write_bytes(array)
        (store.folder / "ab.json").write_bytes(record or seed.dumped(stated | {"tokens": 1}))
        (store.folder / "list-c.json").write_bytes(record or b'{"similarity": "dot", "shards": [["ab", 3]]}')
        list(store.records())
        if (found := store.get("ab")) is not None:
            list(Vectors.open(store, [found]).blocks())
        store.read_list("c")
    return None


def npy(path: Path) -> object:
    from harness.cli.isotropy import load
    from harness.metrics.geometry import measure_geometry

    vectors = load(path)
    return measure_geometry(vectors.blocks(), len(vectors)) if vectors.dim < 50 else None


def archive(folder: Path, data: bytes) -> object:
    from harness.download.archive import extract_dataset

    (folder / "a.zip").write_bytes(data)
    (folder / "out").mkdir()
    extract_dataset(folder / "a.zip", "t", folder / "out", limit=1 << 20)
    return None


def checkpoint(name: str, *others: dict[str, Any], bare: bool = False) -> Parser:
    """A model's folder, this file of it given; ``others``: modules after the usual ones; ``bare``: no modules.json."""

    def read(path: Path) -> object:
        from harness_plugins.cross_encoder import folder_of
        from harness_plugins.forward.architectures import family_in
        from harness_plugins.model_folder.files import facts, gives_token_types, incomplete, pools
        from harness_plugins.sentence_transformers.checkpoint import fingerprint
        from harness_plugins.sentence_transformers.trained import training

        folder = path.parents[name.count("/")]
        sound = {} if bare else {"modules.json": seed.dumped([*seed.MODULES, *others])}
        sound |= {"model.safetensors": seed.safetensors()}
        sound |= {"config.json": b'{"model_type": "bert", "hidden_size": 2}', "tokenizer.json": b"{}"}
        sound |= {f"{other['path']}/model.safetensors": seed.safetensors() for other in others}
        for part, content in sound.items():
            if not (folder / part).exists():
                (folder / part).parent.mkdir(exist_ok=True)
                (folder / part).write_bytes(content)
        family_in(folder)
        gives_token_types(folder)
        pools(folder)
        options = {"path": str(folder), "dtype": "float32", "device": "cpu", "forward": "auto", "max_seq_length": 0}
        found = [incomplete(folder)]
        for work in (
            facts,
            training,
            lambda o: fingerprint({**o, "query_prompt": "", "document_prompt": ""}),
        ):
            try:
                found.append(str(work(options)))
            except UserError as error:
                found.append(str(error))
        return found, folder_of({"model": str(folder)})

    return file(name, read)


def run_record(path: Path) -> object:
    from harness_plugins.sentence_transformers.trained import known_base, locate, run_at, training
    from harness_reports.html.page_data import curves
    from harness_training.experiment.plans import Plan
    from harness_training.experiment.run_record import read_run
    from harness_training.experiment.settings import Settings

    known_base(training({"path": str(path.parent)}))
    run_at(path.parent)
    read_run(path.parent.parent.parent, Plan("e", "r", Settings())).check({"a": 1})
    for work in (lambda: curves(path.parent.parent.parent), lambda: locate({"path": str(path.parent)})):
        with contextlib.suppress(UserError):
            work()


def hub(folder: Path, data: bytes) -> object:
    """The bytes as the hub's description of a repository, and as a Parquet file that it sends."""
    from unittest.mock import patch

    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

    from harness.datasets import hub_datasets
    from harness.download import hub, hub_models

    def answer(self: object, name: str, *, repo_type: str, **_: object) -> object:
        return (ModelInfo if repo_type == "model" else DatasetInfo)(**json.loads(data))

    def download(url: str, target: Path, **_: object) -> Path:
        target.write_bytes(data)
        return target

    def repository(kind: Literal["model", "dataset"]) -> hub.Repository:
        return hub.Repository("a/b", folder / "scratch", lambda *_: None, kind)

    with patch("huggingface_hub.HfApi.repo_info", answer), patch.object(hub, "download", download):
        for work in (
            lambda: hub_models.fetch_model(repository("model"), folder / "model"),
            lambda: repository("dataset").fetch_matching("files", ("*",)),
            lambda: hub_datasets._write_records([_made(folder / "c.parquet", data)], folder / "corpus.jsonl"),
        ):
            with contextlib.suppress(GOOD):
                work()
    return None


def _made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def mteb(path: Path) -> object:
    from harness.results.import_mteb import import_mteb
    from harness.results.store import ResultStore

    (path.parent / "model_meta.json").write_bytes(b'{"name": "a/b", "training_datasets": ["SciFact"]}')
    return import_mteb(path.parents[2], ResultStore(path.parents[3] / "results"))


def kilt(path: Path) -> object:
    from harness.metrics.kilt import evaluate_kilt

    (path.parent / "gold").write_bytes(seed.dumped(seed.KILT))
    for one, other in ((path, path.parent / "gold"), (path.parent / "gold", path)):
        with contextlib.suppress(UserError):
            evaluate_kilt(one, other)
    return evaluate_kilt(path, path)


_REGISTRY = SimpleNamespace(made=None)


def expression(folder: Path, data: bytes) -> object:
    from harness.registry.manager import load_registry

    _REGISTRY.made = _REGISTRY.made or load_registry()
    text = data.replace(b"\0", b"").decode(errors="surrogateescape")  # as a command line has it
    try:
        return _REGISTRY.made.model(text).label
    except PluginError:  # a file that is there is no model's: the plug-in's own word
        return None


def gated(path: Path) -> object:
    from harness.datasets.converters.source import parse_object, text_lines

    return [parse_object(line, path, number) for number, line in text_lines(path, lambda *_: None)]


def triplets(path: Path) -> object:
    from harness_training.data.triplets import read

    return read(path, path.parent / "home").record


def experiment(path: Path) -> object:
    from harness_training.experiment.plans import plans

    return plans(str(path), (), (), 1)


def suite(path: Path) -> object:
    from harness.datasets import catalog

    return [catalog.labels(entry) for entry in catalog.suite(str(path)).datasets]


def prompts(path: Path) -> object:
    """A file of prompts."""
    from harness.evaluation.prompt_spread import read_prompts

    return read_prompts(path)


def ladder(path: Path) -> object:
    """The rows that are stored beside a result, and the loss that is read from them."""
    from harness.evaluation.compression import read_rows
    from harness_reports.analysis.compression_loss import LOSSES, loss_in

    rows = read_rows(path.parent)
    return [loss_in(rows, 8, setting) for setting in LOSSES.values()] if rows else None


def whole_json(path: Path) -> object:
    """The list of a training checkpoint's files."""
    return _checkpoints(path.parent)


def trainer_state(path: Path) -> object:
    """The trainer's state, in a checkpoint whose list fits it, with checksums or, as once, with sizes alone."""
    from harness.storage.records import seal

    size, sha256 = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    for listed in ({path.name: size}, seal({path.name: [size, sha256]})):
        (path.parent / "whole.json").write_bytes(seed.dumped(listed))
        _checkpoints(path.parent)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return None


def _checkpoints(folder: Path) -> object:
    from harness.storage.temporary_files import remove
    from harness_training.experiment.checkpoints import MARK, damaged_file, is_complete, mark_complete, newest, rotate

    (other := folder.with_name("checkpoint-1")).mkdir(exist_ok=True)
    (other / "trainer_state.json").write_bytes(b'{"best_global_step": null}')
    mark_complete(other)
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    is_complete(folder)
    damaged_file(folder)
    found = newest(folder.parent)
    assert found in (folder, other), "the sound checkpoint is not found"
    folder.mkdir(exist_ok=True)
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    rotate(folder.parent, [2])
    assert (other / MARK).is_file(), "the sound checkpoint is gone"
    remove(other)
    return found


class _Wire:
    """What a connection needs of a socket: requests are thrown away, every answer is the same."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def sendall(self, data: bytes) -> None:
        """Takes anything."""

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.answer)

    def shutdown(self, how: int) -> None:
        """As a socket's."""

    def close(self) -> None:
        """As a socket's."""


def fetched(folder: Path, answer: bytes, state: bytes | None = None) -> object:
    """A file that a server of these words delivers, the rest of it where ``state`` is beside its first bytes."""
    from harness.download import http

    def connect(connection: Any) -> None:
        connection.sock = _Wire(answer)

    target = folder / "file"
    if state is not None:
        (folder / "file.part").write_bytes(b"01234")
        (folder / "file.part.json").write_bytes(state)
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            *((http, "ALLOWED_PREFIXES", ("http://",)), (http, "RETRY_DELAY", 0.0)),
            (http._Plain, "connect", connect),
        ):
            stack.enter_context(mock.patch.object(owner, name, value, create=True))
        http.download(ADDRESS, target, limit=1 << 20)
    assert target.stat().st_size <= 1 << 20
    assert not (folder / "file.part.json").exists()
    return target


ADDRESS = "http://example.org/file"
ANSWER = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789"
WHOLE = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 10\r\n\r\n0123456789'


def part_json(folder: Path, data: bytes) -> object:
    """What is noted beside the part of a download; whatever it says, the file is whole in the end."""
    for number, answer in enumerate((ANSWER, WHOLE)):
        (place := folder / str(number)).mkdir()
        try:
            whole = fetched(place, answer, data)
        except SourceFailed:  # the server sends a part where the whole was asked for
            assert answer is ANSWER
            continue
        content = Path(str(whole)).read_bytes()
        assert content in (b"0123456789", b"56789" if answer is ANSWER else b""), content
    return None


def answer(folder: Path, data: bytes) -> object:
    """What a server answers, to a first request and to one that continues."""
    for name, state in (("first", None), ("rest", seed.dumped({"url": ADDRESS, "size": 10, "tag": '"a"'}))):
        (folder / name).mkdir()
        with contextlib.suppress(SourceFailed):
            fetched(folder / name, data, state)
    return None


def parquet(path: Path) -> object:
    """Columns by batches, within the bound that is stated for them."""
    import pyarrow

    from harness.storage.parquet import open_parquet
    from harness.storage.safe_load import most_unpacked

    try:
        with open_parquet(path) as table:
            for names in (table.names[:1], table.names):
                held = sum(batch.nbytes for batch in table.batches(names))
                assert held <= most_unpacked(table.size), f"{held} bytes"
                table.read(names)
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, MemoryError):  # what its readers expect
        return None
    return table.rows


def value(folder: Path, data: bytes) -> object:
    """An option's value: as typed, from a file, and written and read again; and the words of a command."""
    from harness.registry import option_values
    from harness.registry.parser import split_options

    text = data.replace(b"\0", b"").decode(errors="surrogateescape")
    (folder / "value").write_bytes(data)
    for word in (text, f"@{folder / 'value'}", f"@{text[:300]}"):
        with contextlib.suppress(UserError):
            option_values.read_option_values(word, "x")
    option_values.masked(text)
    with contextlib.suppress(ValueError):
        option_values.command_words(text)
    words = [text[:50_000], "b c"]
    assert option_values.command_words(option_values.command_line(words)) == words, "other words"
    if text.isascii() or text.encode(errors="replace").decode() == text:
        assert option_values.read_option_values(option_values.written(text), "x") == text, "another value"
        options = split_options(f"m:x={option_values.written(text)},y=1", files=False)[1]
        assert options == {"x": text, "y": "1"}, "other options"
    return None
