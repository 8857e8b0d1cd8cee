"""Small stand-ins for every dataset of the catalogue, in the layouts of BEIR's archives and of the hub."""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from dataclasses import replace
from zipfile import ZIP_DEFLATED, ZipFile

from harness.datasets.catalog import Catalogue, catalogue
from harness.types import Counts, DatasetSpec, Source
from tests.server import Site, serve_repository

WORDS = ["heart", "lung", "river", "stone", "bread", "violin", "comet", "ledger"]
HEADER = "query-id\tcorpus-id\tscore"


def content(spec: DatasetSpec, documents: int = 8) -> dict[str, bytes]:
    """A dataset's files; a query of one that excludes itself is a document too."""
    count = documents + len(spec.name) % 3
    corpus = [
        {"_id": f"d{n}", "title": WORDS[n % 8], "text": f"{WORDS[n % 8]} of {spec.name} {n}", "metadata": {}}
        for n in range(count)
    ]
    queries = [{"_id": f"q{n}", "text": f"which {WORDS[n]}"} for n in range(4)]
    if spec.exclude_self:
        queries = [{"_id": f"d{n}", "text": corpus[n]["text"]} for n in range(4)]
    judged = {query["_id"]: f"d{n + 4 if spec.exclude_self else n}" for n, query in enumerate(queries)}
    rows = [f"{query}\t{document}\t1" for query, document in judged.items()]
    ending = "\r\n" if spec.name == "fiqa" else "\n"
    files = {
        "corpus.jsonl": "".join(json.dumps(record) + "\n" for record in corpus).encode(),
        "queries.jsonl": "".join(json.dumps({**query, "metadata": {}}) + "\n" for query in queries).encode(),
        f"qrels/{spec.split}.tsv": ending.join([HEADER, *rows, ""]).encode(),
    }
    if spec.name == "msmarco":
        files["qrels/test.tsv"] = f"{HEADER}\nq0\td1\t2\n".encode()
    if spec.name == "nfcorpus":
        files["corpus.jsonl"] = b"\xef\xbb\xbf" + files["corpus.jsonl"]
    return files


def counts(files: dict[str, bytes], split: str) -> Counts:
    rows = files[f"qrels/{split}.tsv"].decode().split()[3:]
    return Counts(files["corpus.jsonl"].count(b"\n"), len(set(rows[::3])), len(rows) // 3)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def publish_zip(site: Site, specs: list[DatasetSpec], url: str) -> list[DatasetSpec]:
    """Serves one archive with all of them; returns them as a catalogue of that archive would have them."""
    files = {spec.name: content(spec) for spec in specs}
    archive = zipped({f"{name}/{path}": data for name, own in files.items() for path, data in own.items()})
    name = url.rpartition("/")[2]
    site.files[f"/{name}"] = archive
    source = Source("zip", f"{site.url}/{name}", hashlib.md5(archive).hexdigest(), len(archive))
    return [
        replace(s, counts=counts(files[s.name], s.split), sources=(replace(source, root=s.name), *s.sources[1:]))
        for s in specs
    ]


def publish_hub(site: Site, spec: DatasetSpec) -> DatasetSpec:
    """Serves a repository in NanoBEIR's layout."""
    source = next(each for each in spec.sources if each.kind == "hub")
    repository, _, commit = source.place.partition("@")
    files, held = content(spec), {}
    for name in ("corpus", "queries"):
        records = [json.loads(line) for line in files[f"{name}.jsonl"].decode("utf-8-sig").splitlines()]
        rows = [{"_id": record["_id"], "text": record["text"]} for record in records]
        held[f"{name}/train-00000-of-00001.parquet"] = parquet(rows)
    rows = [line.split("\t") for line in files[f"qrels/{spec.split}.tsv"].decode().splitlines()[1:]]
    held["qrels/train-00000-of-00001.parquet"] = parquet([{"query-id": q, "corpus-id": d} for q, d, _ in rows])
    serve_repository(site, "datasets", repository, held | {"README.md": b"x"}, commit or "main")
    return replace(spec, counts=counts(files, spec.split))


def published(site: Site) -> Catalogue:
    """The whole catalogue, with every dataset that can be fetched on the local server."""
    known = catalogue()
    families: dict[str, list[DatasetSpec]] = defaultdict(list)
    specs: dict[str, DatasetSpec] = {}
    for spec in known.datasets.values():
        if spec.sources and spec.sources[0].kind == "zip":
            families[spec.sources[0].place].append(spec)
        elif spec.sources:
            specs[spec.name] = publish_hub(site, spec)
        else:
            specs[spec.name] = replace(spec, counts=counts(content(spec), spec.split))
    for url, family in families.items():
        specs |= {spec.name: spec for spec in publish_zip(site, family, url)}
    return Catalogue({name: specs[name] for name in known.datasets}, dict(known.groups), dict(known.suites))
