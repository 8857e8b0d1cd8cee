"""Downloads of datasets: complete or not at all, from the first working source, once for concurrent callers."""

from __future__ import annotations

import gzip
import shutil
import socket
import sys
import types
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness import UserError
from harness.datasets.acquire import obtain
from harness.datasets.beir import open_dataset
from harness.datasets.catalog import Catalogue, catalogue, place
from harness.download.http import SourceFailed
from harness.download.hub import Repository
from harness.metrics.qrels import read_qrels
from harness.types import DatasetSpec, Source
from tests import standin
from tests.server import MAIN, Site, info, info_path, serve_repository


@pytest.fixture
def known(site: Site) -> Catalogue:
    return standin.published(site)


def inside(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def downloads(home: Path) -> list[Path]:
    return [file for file in (home / "downloads").rglob("*") if file.is_file()]


def test_an_archive_becomes_a_folder(known: Catalogue, site: Site, tmp_path: Path) -> None:
    spec = known.datasets["msmarco"]
    folder = obtain(spec, tmp_path)
    assert folder == place(spec, tmp_path)
    found = inside(folder)
    stated = found.pop("dataset.toml").decode()
    found.pop("checksums.json", None)
    assert found == standin.content(spec)
    assert 'split = "dev"' in stated
    assert f'source = "{site.url}/msmarco.zip"' in stated
    assert downloads(tmp_path) == []
    asked = len(site.asked)
    assert obtain(spec, tmp_path) == folder
    assert len(site.asked) == asked


def test_one_archive_of_twelve_is_downloaded_once(known: Catalogue, site: Site, tmp_path: Path) -> None:
    for name in known.groups["cqadupstack"]:
        folder = obtain(known.datasets[name], tmp_path, known=known.datasets.values())
        assert (folder / "corpus.jsonl").read_bytes() == standin.content(known.datasets[name])["corpus.jsonl"]
    assert Counter(path for path, _ in site.asked) == {"/cqadupstack.zip": 1}
    assert sorted(folder.name.rpartition("-")[0] for folder in (tmp_path / "datasets" / "cqadupstack").iterdir()) == [
        name.partition("/")[2] for name in known.groups["cqadupstack"]
    ]


def test_concurrent_callers_wait(known: Catalogue, site: Site, tmp_path: Path) -> None:
    site.delay = 0.1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: obtain(known.datasets["scifact"], tmp_path), range(4)))
    assert Counter(path for path, _ in site.asked) == {"/scifact.zip": 1}


def test_offline_opens_no_socket(known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    with pytest.raises(UserError, match=r"scifact is not on this machine .* without --offline: harness fetch scifact$"):
        obtain(known.datasets["scifact"], tmp_path, offline=True)


def test_a_licence_is_asked_for_before_anything(known: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"robust04 needs a licence .*`harness fetch robust04` says who grants it"):
        obtain(known.datasets["robust04"], tmp_path)


def broken(spec: DatasetSpec, site: Site, data: bytes | None, *, md5: str = "", size: int = 1 << 16) -> DatasetSpec:
    """The dataset with an archive as given as its only source."""
    if data is None:
        site.files.pop("/scifact.zip")
    else:
        site.files["/scifact.zip"] = data
    return replace(spec, sources=(Source("zip", f"{site.url}/scifact.zip", md5, size, "scifact"),))


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "absent": "BEIR's archive .*the server answers 404",
        "checksum": "has MD5 [0-9a-f]{32}, not 0{32}",
        "truncated": "its archive is corrupt",
        "names": r"lacks scifact/corpus\.jsonl",
        "slip": "leads out of its folder",
        "bomb": "more than the 655,360 allowed",
        "documents": "it holds 1 documents, not [0-9]+",
        "queries": "it holds 3 queries, not 4",
        "judgements": "it holds 5 judgements, not 4",
        "split": "no judgements of the split test",
        "qrels": r"test\.tsv",
    }.items(),
)
def test_an_incomplete_copy_is_refused(known: Catalogue, site: Site, tmp_path: Path, fault: str, words: str) -> None:
    spec, good = known.datasets["scifact"], standin.content(known.datasets["scifact"])
    rows = good["qrels/test.tsv"].decode().splitlines()
    changed = {
        "names": {"corpus.json": b"{}"},
        "slip": {**good, "../../escaped": b"x"},
        "bomb": {**good, "corpus.jsonl": b" " * (1 << 20)},
        "documents": {**good, "corpus.jsonl": b'{"_id": "d0", "text": "x"}\n'},
        "queries": {**good, "qrels/test.tsv": "\n".join(rows[:-1]).encode()},
        "judgements": {**good, "qrels/test.tsv": "\n".join([*rows, "q0\td3\t1"]).encode()},
        "split": {"qrels/dev.tsv" if name.startswith("qrels") else name: data for name, data in good.items()},
        "qrels": {**good, "qrels/test.tsv": b"nothing of the kind\n"},
    }.get(fault, good)
    data: bytes | None = standin.zipped({f"scifact/{name}": content for name, content in changed.items()})
    if fault == "truncated" and data:
        data = data[: len(data) // 2]
    spec = broken(spec, site, None if fault == "absent" else data, md5="0" * 32 if fault == "checksum" else "")
    with pytest.raises(UserError, match=words) as caught:
        obtain(spec, tmp_path)
    assert str(caught.value).endswith("harness fetch scifact")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not place(spec, tmp_path).exists()
    repaired = standin.publish_zip(site, [known.datasets["scifact"]], "x/scifact.zip")[0]
    assert obtain(repaired, tmp_path).is_dir()


def test_a_cut_download_goes_on_with_the_next_command(known: Catalogue, site: Site, tmp_path: Path) -> None:
    spec = replace(known.datasets["scifact"], sources=known.datasets["scifact"].sources[:1])
    site.cuts = [200, 0, 0, 0]
    with pytest.raises(UserError, match="the connection ended after 200"):
        obtain(spec, tmp_path)
    assert obtain(spec, tmp_path).is_dir()
    assert site.asked[-1] == ("/scifact.zip", "bytes=200-")


def test_too_little_room_is_said_before_the_download(
    known: Catalogue, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = known.datasets["scifact"]
    spec = replace(spec, sources=(replace(spec.sources[0], bytes=5 * 10**9),))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 2 * 10**9))
    with pytest.raises(UserError, match=r"scifact needs about 5\.0 GB and 2\.0 GB is free .* HARNESS_HOME"):
        obtain(spec, tmp_path)
    assert site.asked == []


@pytest.mark.parametrize("layout", ["jsonl.gz", "parquet"])
def test_the_hub_steps_in_for_an_archive_that_is_gone(
    known: Catalogue, site: Site, tmp_path: Path, layout: str
) -> None:
    spec = known.datasets["fiqa"]
    del site.files["/fiqa.zip"]
    good = standin.content(spec)
    if layout == "jsonl.gz":
        held = {f"{name}.jsonl.gz": gzip.compress(good[f"{name}.jsonl"]) for name in ("corpus", "queries")}
        serve_repository(site, "datasets", "BeIR/fiqa", held)
    else:
        standin.publish_hub(site, replace(spec, sources=(Source("hub", "BeIR/fiqa"),)))
    serve_repository(site, "datasets", "BeIR/fiqa-qrels", {"test.tsv": good["qrels/test.tsv"]})
    folder = obtain(spec, tmp_path)
    assert (folder / "qrels" / "test.tsv").read_bytes() == good["qrels/test.tsv"]
    assert len((folder / "corpus.jsonl").read_bytes().splitlines()) == len(good["corpus.jsonl"].splitlines())
    assert 'source = "BeIR/fiqa"' in (folder / "dataset.toml").read_text()
    assert downloads(tmp_path) == []


def test_a_repository_of_another_layout(known: Catalogue, site: Site, tmp_path: Path) -> None:
    spec = known.datasets["nano-nq"]
    repository, _, commit = spec.sources[0].place.partition("@")
    serve_repository(site, "datasets", repository, {"data.csv": b"x"}, commit)
    with pytest.raises(UserError, match=r"nano-nq could not be downloaded from the Hugging Face hub .* no corpus"):
        obtain(spec, tmp_path)
    serve_repository(site, "datasets", repository, {"corpus/0.parquet": b"x"}, commit)
    with pytest.raises(UserError, match=r"0\.parquet is not a Parquet file"):
        obtain(spec, tmp_path)
    site.files[info_path("datasets", repository, commit)] = b"<html>"
    with pytest.raises(UserError, match="is not a list of files"):
        obtain(spec, tmp_path)


def parts(**tables: list[dict[str, object]]) -> dict[str, bytes]:
    """A repository of Parquet files: a corpus, queries, and the judgements given, by the names of their files."""
    corpus = [{"id": f"d{n}", "title": None, "text": f"text {n}"} for n in range(3)]
    queries = [{"_id": f"q{n}", "text": f"text {n}"} for n in range(3)]
    held = {"corpus/corpus-00000-of-00001": corpus, "queries/queries-00000-of-00001": queries}
    held |= {f"qrels/{name.replace('__', '/').replace('_', '-')}": rows for name, rows in tables.items()}
    return {f"{name}.parquet": standin.parquet(rows) for name, rows in held.items()}  # type: ignore[arg-type]


def delivered(site: Site, folder: Path, held: dict[str, bytes], split: str = "test") -> Path:
    """The dataset of a plug-in, which states no counts."""
    serve_repository(site, "datasets", "org/x", held)
    spec = DatasetSpec(name="x", summary="x", split=split, sources=(Source("hub", "org/x"),))
    return obtain(spec, folder)


def judged(query: str, document: str, score: object = 1) -> dict[str, object]:
    return {"query-id": query, "corpus-id": document, "score": score}


@pytest.mark.parametrize(
    "names",
    [
        ("test_00000_of_00001", "train_00000_of_00001"),
        ("test", "train"),
        ("test__0000", "train__0000"),
        ("test_00001_of_00002", "train_00000_of_00002"),
    ],
)
def test_judgements_of_one_split_are_not_merged_with_those_of_another(
    known: Catalogue, site: Site, tmp_path: Path, names: tuple[str, str]
) -> None:
    held = parts(**{names[0]: [judged("q1", "d1", 2.0)], names[1]: [judged("q1", "d2"), judged("q2", "d2")]})
    folder = delivered(site, tmp_path / "a", held)
    assert (folder / "qrels" / "test.tsv").read_text() == "query-id\tcorpus-id\tscore\nq1\td1\t2\n"
    with open_dataset(folder, cache=tmp_path / "cache") as dataset:
        assert dataset.corpus.ids(slice(None)) == ["d0", "d1", "d2"]  # of MTEB's newer repositories: id, not _id
    assert len(read_qrels(delivered(site, tmp_path / "b", held, "train") / "qrels" / "train.tsv")) == 2
    with pytest.raises(UserError, match="judgements of org/x have the splits test, train, but not dev"):
        delivered(site, tmp_path / "c", held, "dev")


def test_parts_of_a_split_belong_together(known: Catalogue, site: Site, tmp_path: Path) -> None:
    rows = {f"test_0000{n}_of_00003": [judged(f"q{n}", '"d"')] for n in range(3)}
    folder = delivered(site, tmp_path, parts(**rows, test2_00000_of_00001=[judged("q0", "d1")]))
    assert read_qrels(folder / "qrels" / "test.tsv") == {f"q{n}": {'"d"': 1} for n in range(3)}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([judged("q1", "d1"), judged("q1", "d2", None)], "row 2 of its judgements has the score None"),
        ([judged("q1", "d1", 0.5)], "row 1 of its judgements has the score 0.5"),
        ([judged("q1", "d1", float("nan"))], "row 1 of its judgements has the score nan"),
        ([judged("q1", "d 1")], "row 1 of its judgements has the corpus-id 'd 1'"),
        ([judged("q1", "d1") | {"query-id": None}], "row 1 of its judgements has the query-id None"),
        ([{"query": "q1", "corpus-id": "d1"}], "has no column query-id"),
    ],
)
def test_unusable_judgements_are_refused(
    known: Catalogue, site: Site, tmp_path: Path, rows: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        delivered(site, tmp_path, parts(test=rows))
    assert not list((tmp_path / "datasets").glob("x*/qrels"))


def test_altered_bytes_from_the_hub_are_refused(known: Catalogue, site: Site, tmp_path: Path) -> None:
    spec = known.datasets["nano-nq"]
    repository, _, commit = spec.sources[0].place.partition("@")
    path = f"/datasets/{repository}/resolve/{commit}/corpus/train-00000-of-00001.parquet"
    site.files[path] = site.files[path][:-1] + b"?"
    with pytest.raises(UserError, match="has SHA256"):
        obtain(spec, tmp_path)


def test_ir_datasets_comes_last(known: Catalogue, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = known.datasets["cqadupstack/tex"]
    del site.files["/cqadupstack.zip"]
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(UserError, match=r"nor from ir_datasets .the Python package ir_datasets is not installed"):
        obtain(spec, tmp_path)
    document = namedtuple("document", "doc_id text title")
    query = namedtuple("query", "query_id text")
    judgement = namedtuple("judgement", "query_id doc_id relevance iteration")
    asked = []

    def load(identifier: str) -> types.SimpleNamespace:
        asked.append(identifier)
        assert spec.counts
        return types.SimpleNamespace(
            docs_iter=lambda: (document(f"d{n}", "t", "") for n in range(spec.counts.documents)),
            queries_iter=lambda: (query(f"q{n}", "t") for n in range(9)),
            qrels_iter=lambda: (judgement(f"q{n}", f"d{n}", 1, "0") for n in range(spec.counts.queries)),
        )

    monkeypatch.setitem(sys.modules, "ir_datasets", types.SimpleNamespace(load=load))
    folder = obtain(spec, tmp_path)
    assert asked == ["beir/cqadupstack/tex"]
    assert (folder / "qrels" / "test.tsv").read_text().startswith("query-id\tcorpus-id\tscore\nq0\td0\t1\n")


def test_the_real_catalogue_names_real_places() -> None:
    for spec in catalogue().datasets.values():
        for source in spec.sources:
            assert source.kind != "zip" or source.place.startswith("https://public.ukp.informatik.tu-darmstadt.de/")
            assert source.kind != "hub" or source.place.startswith(("BeIR/", "zeta-alpha-ai/Nano"))


@pytest.mark.parametrize(
    ("size", "sent", "words"),
    [
        (0, b"x" * 5000, "more than the 0 bytes"),
        (10, b"x" * 5000, "more than the 10"),
        (10, b"x" * 9, "is 9 bytes, not the 10 that the hub lists"),
        (-1, b"x", "is not a list of files"),
        (True, b"x", "is not a list of files"),
        ("10", b"x", "is not a list of files"),
        (None, b"x", "is not a list of files"),
        (10**18, b"x", "takes 1000000000.00 GB"),
    ],
)
def test_the_hub_sends_what_it_lists(site: Site, tmp_path: Path, size: object, sent: bytes, words: str) -> None:
    """A file of another size, or of a size that is not stated, fills no disk."""
    site.files[info_path("datasets", "a/b", "main")] = info(MAIN, [("corpus.jsonl", size, None)])
    site.files[f"/datasets/a/b/resolve/{MAIN}/corpus.jsonl"] = sent
    site.length = False
    with pytest.raises((SourceFailed, UserError), match=words):
        Repository("a/b", tmp_path, lambda *_: None).fetch_matching("corpus", ("corpus.jsonl",))
    assert not [path for path in tmp_path.rglob("corpus.jsonl*") if path.is_file() and path.stat().st_size > 20]


def test_a_file_of_an_earlier_download_is_hashed_again(site: Site, tmp_path: Path) -> None:
    serve_repository(site, "datasets", "a/b", {"corpus/0.parquet": b"0123456789"})
    repository = Repository("a/b", tmp_path, lambda *_: None)
    (file,) = repository.fetch_matching("corpus", ("corpus/*.parquet",))
    file.write_bytes(b"012345678?")
    (again,) = repository.fetch_matching("corpus", ("corpus/*.parquet",))
    assert again.read_bytes() == b"0123456789"
