"""Robust04 from the files of the TREC disks."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.converters import convert, summary
from harness.datasets.converters.robust04 import ABOUT, read, topics
from harness.types import UserError
from tests.conftest import Done
from tests.datasets.converters.lzw_packer import pack

FBIS = """<DOC>
<DOCNO> FBIS3-1 </DOCNO>
<HT>    "cr00000011094001" </HT>

<HEADER>
<H2>   March Reports </H2>
<DATE1>  1 March 1994 </DATE1>
<F P=100></F>
<H3> <TI>      Title Outside the Text </TI></H3>
</HEADER>

<TEXT>
Language: <F P=105> English </F>
Article Type:BFN

<F P=106> [Text] </F> The river's level fell &amp; the ferry at Fl\xf8tten
stopped; 3 < 4 &lt; 5.
</TEXT>
</DOC>

<DOC>
<DOCNO> FBIS3-2 </DOCNO>
<TEXT>
Nothing but a ferry.
</TEXT>
</DOC>
"""
FR94 = """<DOC>
<DOCNO> FR940104-0-00001 </DOCNO>
<PARENT> FR940104-0-00001 </PARENT>
<TEXT>

<!-- PJG FTAG 4700 -->

<!-- PJG STAG 4700 -->
<USDEPT>DEPARTMENT OF RIVERS</USDEPT>
<DOCTITLE>Ferry&hyph;boat&blank;rules </DOCTITLE>
See &sect;&blank;12.
<!-- PJG /STAG
over two lines -->
</TEXT>

</DOC>
"""
FT = """<doc>
<docno>FT911-1</docno>
<profile>_AN-BEOA7AAIFT</profile>
<date>910514
</date>
<headline>
FT  14 MAY 91 / Ferry shares
rise
</headline>
<byline>
   By A WRITER
</byline>
<text>
The market rose.
</text>
<pub>The Financial Times
</pub>
</doc>
"""
LATIMES = """<DOC>
<DOCNO> LA010189-0001 </DOCNO>
<DOCID> 1 </DOCID>
<DATE>
<P>
January 1, 1989, Sunday, Home Edition
</P>
</DATE>
<SECTION>
<P>
Book Review
</P>
</SECTION>
<HEADLINE>
<P>
NEW FALLOUT;
</P>
<P>
A FERRY TALE
</P>
</HEADLINE>
<TEXT>
<P>
It sank.
</P>
</TEXT>
</DOC>
"""
TOPICS = """<top>

<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations that participate in international criminal
activity, the activity, and, if possible, collaborating organizations
and the countries involved.

<narr> Narrative:
Names of ferries are not relevant.

</top>

<top>

<num> Number: 306
<title> African Civilian Deaths

<desc> Description:
How many civilian non-combatants have been killed in\x20
the various civil wars in Africa?

<narr> Narrative:
Any.

</top>
<top>
<num> Number: 672
<title> judged nowhere
<desc> Description:
Is this judged?
<narr> Narrative:
No.
</top>
"""
QRELS = "301 0 FBIS3-1 1\n301 0 FT911-1 0\n306 0 LA010189-0001 2\n306 0 FR940104-0-00001 0\n306 0 FT999-9 1\n"


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """The four collections, as shipped (.z), repacked (.gz) and unpacked, with notes and the Congressional Record."""
    folder = tmp_path / "TREC disks"
    contents = {
        "disk5/FBIS/fb396001.z": pack(FBIS.encode("latin-1")),
        "disk5/FBIS/readmefb.z": pack(b"notes with <DOC> in them"),
        "disk4/fr94/01/fr940104.0z": pack(FR94.encode("latin-1")),
        "disk4/FT/ft911/ft911_1.gz": gzip.compress(FT.encode("latin-1")),
        "disk4/CR/e/cr93e1": b"<DOC><DOCNO>CR93E-1</DOCNO><TEXT>a ferry</TEXT></DOC>",
        "disk5/latimes/la010189": LATIMES.replace("\n", "\r\n").encode("latin-1"),
        "04.testset.gz": gzip.compress(TOPICS.encode("latin-1")),
        "qrels.robust2004.txt": QRELS.encode(),
        ".DS_Store": b"",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_elements_that_ir_datasets_takes_and_no_others(disks: Path, tmp_path: Path) -> None:
    folder = convert("robust04", disks, tmp_path / "home", lambda *_: None)
    texts = {row["_id"]: row["text"] for row in rows(folder / "corpus.jsonl")}
    assert texts == {
        "FBIS3-1": "Language: English Article Type:BFN [Text] The river's level fell & the ferry at Fl\xf8tten "
        "stopped; 3 < 4 < 5.",
        "FBIS3-2": "Nothing but a ferry.",
        "FR940104-0-00001": "DEPARTMENT OF RIVERS Ferry-boat rules See \xa7 12.",
        "FT911-1": "910514 FT 14 MAY 91 / Ferry shares rise The market rose.",
        "LA010189-0001": "January 1, 1989, Sunday, Home Edition NEW FALLOUT; A FERRY TALE It sank.",
    }
    assert {row["title"] for row in rows(folder / "corpus.jsonl")} == {""}
    assert (folder / "qrels/test.tsv").read_text().splitlines() == [
        "query-id\tcorpus-id\tscore",
        *("\t".join(line.split()[::2] + line.split()[3:]) for line in QRELS.splitlines()),
    ]
    assert summary(folder) == [
        "5 documents (BEIR: 528,155), 2 queries (BEIR: 249), 5 judgements (BEIR: 311,410)",
        "judged documents that the source lacks: 1 (such as FT999-9), which count as never retrieved; queries left "
        "without any relevant one: 0",
    ]


def test_queries_are_the_descriptions_as_beir_has_them(disks: Path, tmp_path: Path, shared: Path) -> None:
    with gzip.open(shared / "reference/beir-topics-qrels/topics.beir-v1.0.0-robust04.test.tsv.gz", "rt") as stream:
        published = dict(line.rstrip("\n").split("\t", 1) for line in stream)
    folder = convert("robust04", disks, tmp_path / "home", lambda *_: None)
    converted = {row["_id"]: row["text"] for row in rows(folder / "queries.jsonl")}
    assert converted == {key: published[key] for key in ("301", "306")}
    assert "  " in converted["306"]
    # Titles have one to five words, descriptions are sentences; and the topics are those that this converter says.
    assert min(len(text.split()) for text in published.values()) >= 5
    assert sum(text.rstrip()[-1] in ".?" for text in published.values()) >= 248
    assert [int(key) for key in published] == [n for n in (*range(301, 451), *range(601, 701)) if n != 672]
    assert len(published) == ABOUT.published.queries


def test_from_fetch_to_a_score(disks: Path, harness: Callable[..., Done]) -> None:
    told = harness("fetch", "robust04")
    assert told.code == 2
    assert "https://trec.nist.gov/data/cd45" in told.out
    assert "harness fetch robust04 --from FOLDER" in told.err
    done = json.loads(harness("fetch", "robust04", "--from", disks, "--json").out)
    assert json.loads(harness("fetch", "robust04", "--json").out) == done
    found = json.loads(harness("doctor", done["robust04"], "--json").out)
    assert (found["name"], found["documents"], found["queries"], found["dangling"]) == ("robust04", 5, 2, ["FT999-9"])
    (disks / "04.testset.gz").write_bytes(gzip.compress(TOPICS.replace("criminal", "ferry criminal").encode()))
    result = harness("benchmark", "-m", "bm25", "-d", done["robust04"], "--results", "results", "--json")
    assert result.code == 0, result.err
    cells = list(Path("results").rglob("result.json"))
    fingerprint = json.dumps(json.loads(cells[0].read_text()))
    assert "FT999-9" in fingerprint
    again = json.loads(harness("fetch", "robust04", "--from", disks, "--json").out)
    assert again["robust04"] != done["robust04"], "another topics file is another dataset"


def test_what_a_person_gets_wrong(disks: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> None:
        with pytest.raises(UserError) as caught:
            convert("robust04", disks, tmp_path / "home", lambda *_: None)
        assert not list((tmp_path / "home").rglob("*.jsonl"))
        for word in words:
            assert word in str(caught.value)

    fbis = disks / "disk5/FBIS/fb396001.z"
    whole = fbis.read_bytes()
    fbis.write_bytes(pack(FBIS[:-20].encode("latin-1")))
    refused("fb396001.z breaks off within a document after byte", "copy it again")
    fbis.write_bytes(whole[:400] + b"\xff" * 40)
    refused("fb396001.z cannot be unpacked")
    fbis.write_bytes(pack(FBIS.replace("<DOCNO> FBIS3-2 </DOCNO>", "").encode("latin-1")))
    refused("without <DOCNO> at byte")
    fbis.write_bytes(whole)
    (fbis.with_suffix("")).write_bytes(FBIS.encode("latin-1"))
    refused("FBIS3-1 a second time", "keep only one copy")
    (fbis.with_suffix("")).unlink()
    (disks / "qrels.core17.txt").write_text(QRELS)
    refused("2 files that could be its judgements", "qrels.core17.txt")
    (disks / "qrels.core17.txt").unlink()
    (disks / "qrels.robust2004.txt").write_text(QRELS + "700 0 FBIS3-1 1\n")
    refused("1 judged topics (700) are not in 04.testset.gz")
    (disks / "disk5/latimes/la010189").unlink()
    refused("holds no LATIMES of TREC disk 5", f"harness fetch robust04 --from {disks}")


def test_line_ends_and_elements_left_open(tmp_path: Path) -> None:
    path = tmp_path / "topics"
    path.write_bytes(TOPICS.encode())
    unix = topics(path)
    path.write_bytes(TOPICS.replace("\n", "\r\n").encode())
    assert topics(path) == unix
    path.write_text("<DOC>\n<DOCNO>FT1</DOCNO>\n<HEADLINE>\nA\n</HEADLINE>\n<TEXT>\nleft open\n</DOC>\n")
    assert [document.text for document in read(path)] == ["A left open"]


def test_broken_topics(tmp_path: Path) -> None:
    path = tmp_path / "topics"
    path.write_text("<top>\n<num> Number: 301\n</top>")
    with pytest.raises(UserError, match="without <num> or <desc>"):
        topics(path)
    path.write_text("301 organized crime")
    with pytest.raises(UserError, match="not a TREC topics file"):
        topics(path)
    path.write_text("")
    with pytest.raises(UserError, match=re.escape("holds no <DOC>")):
        list(read(path))
