"""MS MARCO's triplets from the hub's layout (a local server), BEIR's folder and MS MARCO's own files, all in small."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.types import UserError
from harness_training.data import msmarco
from harness_training.data.msmarco import HUB, from_hub
from harness_training.data.triplets import read
from tests.conftest import Done, write_dataset
from tests.server import Site, serve_repository
from tests.standin import parquet

ROWS = [{"query": f"q {n}", "positive": f"p {n}", "negative": f"n {n}"} for n in range(200)]
FAULTY = [{"query": "q", "positive": "same", "negative": "same"}, {"query": "q", "positive": "", "negative": "n"}]


def command(harness: Callable[..., Done], *words: object) -> Done:
    return harness("data", "msmarco", *words)


def publish(site: Site) -> None:
    repository, _, commit = HUB.partition("@")
    held = {
        "triplet/train-00000-of-00002.parquet": parquet(ROWS[:90] + FAULTY),
        "triplet/train-00001-of-00002.parquet": parquet(ROWS[90:]),
        "triplet-ids/train-00000-of-00001.parquet": parquet([{"query": "1", "positive": "2", "negative": "3"}]),
        "README.md": b"card",
    }
    serve_repository(site, "datasets", repository, held, commit)


def test_the_hubs_triplets_are_sampled_by_seed(site: Site, tmp_path: Path) -> None:
    publish(site)

    def rows(name: str, count: int, seed: int) -> list[tuple[str, ...]]:
        return list(from_hub(tmp_path / name, count, seed, tmp_path / "home").iter())

    known = [tuple(row.values()) for row in ROWS]
    some = rows("a", 50, 42)
    assert len(set(some)) == 50
    assert [row for row in known if row in some] == some  # a sample, in the order of the files
    assert rows("b", 50, 42) == some
    assert set(rows("c", 50, 43)) != set(some)
    assert rows("d", 1000, 42) == known  # all valid ones
    assert {row[0] for row in rows("e", 1, 1)} < {row["query"] for row in ROWS}


def test_every_row_is_drawn_as_often_as_any_other(site: Site, tmp_path: Path) -> None:
    publish(site)
    drawn = [0] * 200
    for seed in range(40):
        for row in from_hub(tmp_path / str(seed), 50, seed, tmp_path / "home").iter():
            drawn[int(row[0].split()[1])] += 1
    spread = sum((count - 10) ** 2 for count in drawn) / 200  # binomial: 40 x 1/4 x 3/4 = 7.5
    assert 5 < spread < 10


def test_a_set_of_the_hub_is_recorded_and_found_again(site: Site, tmp_path: Path) -> None:
    publish(site)
    made = from_hub(tmp_path / "set", 50, 42, tmp_path / "home")
    (source,) = made.sources
    assert (source["name"], source["split"], source["fingerprint"]["hub"]) == ("msmarco", "train", HUB)
    assert len(source["fingerprint"]["files"]) == 2
    assert made.record["counts"] == {"read": 202, "faulty": 2, "rows": 50}
    assert not list((tmp_path / "home" / "downloads").rglob("*.parquet"))
    site.asked.clear()
    assert from_hub(tmp_path / "set", 50, 42, tmp_path / "home", offline=True).key == made.key
    assert site.asked == []
    with pytest.raises(UserError, match="holds another training set"):
        from_hub(tmp_path / "set", 51, 42, tmp_path / "home")


def test_without_the_hub_the_sentence_says_what_to_type(
    site: Site, harness: Callable[..., Done], tmp_path: Path
) -> None:
    done = command(harness, "-o", tmp_path / "set")
    assert done.code == 2
    assert "404" in done.err
    assert "--from FOLDER" in done.err
    site.asked.clear()
    done = command(harness, "-o", tmp_path / "set", "--offline")
    assert (done.code, site.asked) == (2, [])
    assert "the network is switched off" in done.err


def test_the_command_takes_half_a_million_by_default(harness: Callable[..., Done]) -> None:
    assert f"[default: {msmarco.TRIPLETS}" in " ".join(command(harness, "--help").out.split())
    assert msmarco.TRIPLETS == 500_000


def own_files(folder: Path, *names: str) -> Path:
    """MS MARCO's own files in small; ids are numbers, there is no header."""
    passages = {str(n): f"passage {n} about topic{n % 10} and word{n}" for n in range(100)}
    queries = {str(1000 + n): f"what is topic{n % 10}" for n in range(20)}
    triples = [(query, str(n), str(n + 50)) for n, query in enumerate(queries)]
    held = {
        "collection.tsv": passages.items(),
        "queries.train.tsv": queries.items(),
        "qrels.train.tsv": [(query, "0", positive, "1") for query, positive, _ in triples],
        "triples.train.small.tsv": [(queries[q], passages[p], passages[n]) for q, p, n in triples],
        "qidpidtriples.train.full.2.tsv": triples,
    }
    folder.mkdir(exist_ok=True)
    for name in names:
        text = "".join("\t".join(cells) + "\n" for cells in held[name.removesuffix(".gz")]).encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder


def made_from(harness: Callable[..., Done], source: Path, folder: Path, *words: object) -> dict[str, Any]:
    done = command(harness, "--from", source, "-o", folder, "--json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["triples.train.small.tsv", "triples.train.small.tsv.gz"])
def test_triples_of_texts(name: str, harness: Callable[..., Done], tmp_path: Path) -> None:
    folder = own_files(tmp_path / "own", name)
    record = made_from(harness, folder, tmp_path / "set", "--triplets", 5)
    rows = list(read(tmp_path / "set", tmp_path).iter())
    assert (record["rows"], len(set(rows)), record["counts"]["read"]) == (5, 5, 20)
    for query, positive, negative in rows:
        number = int(positive.split()[1])
        assert (query, negative.split()[1]) == (f"what is topic{number % 10}", str(number + 50))
    assert record["sources"][0]["fingerprint"]["files"].keys() == {name}
    made_from(harness, folder / name, tmp_path / "again", "--triplets", 5)
    assert list(read(tmp_path / "again", tmp_path).iter()) == rows


def test_triples_of_ids_have_their_texts_beside_them(harness: Callable[..., Done], tmp_path: Path) -> None:
    names = ["collection.tsv", "queries.train.tsv.gz", "qidpidtriples.train.full.2.tsv.gz"]
    folder = own_files(tmp_path / "own", *names)
    record = made_from(harness, folder, tmp_path / "set", "--triplets", 5)
    texts = own_files(tmp_path / "texts", "triples.train.small.tsv")
    made_from(harness, texts, tmp_path / "same", "--triplets", 5)
    assert read(tmp_path / "set", tmp_path).key == read(tmp_path / "same", tmp_path).key
    assert record["sources"][0]["fingerprint"]["files"].keys() == set(names)
    (folder / "collection.tsv").write_text("0\tonly one\n")
    done = command(harness, "--from", folder, "-o", tmp_path / "other")
    assert done.code == 2
    assert "has no text for" in done.err


@pytest.mark.parametrize("form", ["own", "beir"])
def test_a_collection_is_mined(form: str, harness: Callable[..., Done], tmp_path: Path) -> None:
    pytest.importorskip("bm25s", reason="BM25 needs the bm25 extra")
    own = own_files(
        tmp_path / "own", "collection.tsv", "queries.train.tsv", "qrels.train.tsv", "triples.train.small.tsv"
    )
    if form == "beir":
        cells = {name: [line.split("\t") for line in (own / name).read_text().splitlines()] for name in
                 ("collection.tsv", "queries.train.tsv", "qrels.train.tsv")}  # fmt: skip
        judged = [(query, doc, int(grade)) for query, _, doc, grade in cells["qrels.train.tsv"]]
        source = write_dataset(
            tmp_path / "beir", dict(cells["collection.tsv"]), dict(cells["queries.train.tsv"]), judged, "train"
        )
    else:
        source = own
    record = made_from(harness, source, tmp_path / "set", "--triplets", 12)
    rows = list(read(tmp_path / "set", tmp_path).iter())
    assert len(rows) == record["rows"] == 12
    for query, positive, negative in rows:
        topic = query.split()[-1]
        assert topic in positive.split()
        assert topic in negative.split()
        assert positive != negative
    assert record["sources"][0]["name"] == "msmarco"
    assert record["miners"][0]["depth"] == 100


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"other.txt": b"x"}, "holds none of MS MARCO's known files"),
        ({"triples.train.small.tsv": b""}, "holds no rows"),
        ({"triples.train.small.tsv": b"a\tb\n"}, "line 1 has 2 cells, not 3"),
        ({"triples.train.small.tsv": b"a\tb\tc\na\tb\t\xff\n"}, "line 2 is not UTF-8"),
        ({"triples.train.small.tsv.gz": b"no gzip"}, "cannot be read"),
        ({"qidpidtriples.train.full.2.tsv": b"1\t2\t3\n"}, "lacks collection.tsv"),
        (
            {"collection.tsv": b"1\tx\n", "queries.train.tsv": b"1\n", "qrels.train.tsv": b"1\t0\t1\t1\n"},
            "not 2 with tabs",
        ),
    ],
)
def test_spoilt_files_are_one_sentence(
    files: dict[str, bytes], sentence: str, harness: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    for name, content in files.items():
        (tmp_path / "own" / name).write_bytes(content)
    done = command(harness, "--from", tmp_path / "own", "-o", tmp_path / "set")
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "set").exists()
    assert "There is no" in command(harness, "--from", tmp_path / "nowhere", "-o", tmp_path / "set").err
