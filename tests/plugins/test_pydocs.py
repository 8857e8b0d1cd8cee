"""The embedded dataset: properties of every pair, reproducibility, and parsing of docstrings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.datasets.beir import Dataset, open_dataset
from harness.datasets.doctor import examine
from harness_plugins.pydocs import dataset as pydocs
from harness_plugins.pydocs import docstrings
from harness_plugins.pydocs.docstrings import Docstring

FILES = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "dataset.toml")


@pytest.fixture(scope="module")
def folder(built_pydocs: Path) -> Path:
    return next(file.parent for file in built_pydocs.rglob("corpus.jsonl"))


@pytest.fixture(scope="module")
def dataset(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(folder, cache=tmp_path_factory.mktemp("cache"))


def test_size_with_and_without_torch(dataset: Dataset) -> None:
    ids = dataset.corpus.ids(slice(None))
    assert 2500 <= len([each for each in ids if not each.startswith("torch.")]) <= len(ids) <= 5000
    assert any(each.startswith("torch.") for each in ids) == (find_spec("torch") is not None)
    for package in ("numpy", "pandas", "collections", "asyncio"):
        assert any(each.startswith(f"{package}.") for each in ids)


def test_one_relevant_document_per_query_and_no_id_on_both_sides(dataset: Dataset) -> None:
    assert len(dataset.queries) == len(dataset.corpus) == len(dataset.qrels)
    assert all(
        query.id == f"q:{document.id}" for query, document in zip(dataset.queries, dataset.corpus.iter(), strict=True)
    )
    assert all(dataset.qrels[query.id] == {query.id[2:]: 1} for query in dataset.queries)


def test_nothing_of_the_query_leaks_into_its_document(dataset: Dataset) -> None:
    for query, document in zip(dataset.queries, dataset.corpus.iter(), strict=True):
        name = document.id.split(".")[-1]
        assert document.title == ""
        assert query.text.lower() not in document.text.lower()
        assert name.lower() not in re.split(r"[^0-9A-Za-z_]+", document.text.lower()), document.id


def test_texts_are_short_clean_and_different(dataset: Dataset) -> None:
    texts = [document.text for document in dataset.corpus.iter()]
    questions = [query.text for query in dataset.queries]
    assert len({text.lower() for text in texts}) == len({text.lower() for text in questions}) == len(texts)
    assert max(map(len, texts)) <= docstrings.DOCUMENT_CHARACTERS
    assert min(len(text.split()) for text in texts) >= docstrings.DOCUMENT_WORDS
    assert not [text for text in [*texts, *questions] if " at 0x" in text or text != " ".join(text.split())]


def test_the_doctor_finds_no_problem(dataset: Dataset) -> None:
    assert {finding.severity for finding in examine(dataset).findings} == {"ok"}
    assert dataset.notes == []
    assert (dataset.name, dataset.split, dataset.exclude_self) == ("pydocs", "test", False)
    assert "NumPy" in dataset.citation


STRANGER = """
import sys
def hook(event, arguments):
    if event.startswith("socket.") or event == "import" and arguments[0] in ("torch", "pandas"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(hook)
from pathlib import Path
from harness_plugins.pydocs import dataset as pydocs
pydocs.build(Path(sys.argv[1]))
"""


def test_byte_identical_elsewhere_without_a_network_and_without_importing_what_it_reads(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    surroundings = {
        "PYTHONHASHSEED": "12345",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "HOME": str(tmp_path / "home"),
        "TZ": "Asia/Tokyo",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STRANGER, str(tmp_path / "again")],
        env={**os.environ, **surroundings, "PYTHONPATH": str(Path(pydocs.__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_versions_are_in_the_key_and_in_dataset_toml(folder: Path) -> None:
    stated = (folder / "dataset.toml").read_text()
    for name, number in pydocs.package_versions().items():
        assert f"{name}{number}" in pydocs.key()
        assert f'{name} = "{number}"' in stated
    assert f'numpy = "{version("numpy")}"' in stated
    assert re.fullmatch(r"[A-Za-z0-9.-]+", pydocs.key()), "part of a folder's name"


@pytest.mark.parametrize(("installed", "expected"), [("2.9.1+cpu", "2.9.1"), (None, None)])
def test_torch_counts_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, expected: str | None
) -> None:
    def stand_in(name: str) -> str:
        if name == "torch" and installed is None:
            raise PackageNotFoundError(name)
        return installed if name == "torch" else version(name)  # type: ignore[return-value]

    monkeypatch.setattr(pydocs, "version", stand_in)
    assert pydocs.package_versions().get("torch") == expected
    assert ("torch" in pydocs.key()) == (expected is not None)
    assert list(pydocs.package_versions())[:3] == ["python", "numpy", "pandas"]


def test_the_packages_are_a_parameter(tmp_path: Path) -> None:
    pydocs.build(tmp_path, ["numpy", "absent-package"])
    with open_dataset(tmp_path, cache=tmp_path / "cache") as dataset:
        assert all(each.startswith("numpy.") for each in dataset.corpus.ids(slice(None)))
        assert "numpy.linalg._linalg.multi_dot" in dataset.corpus.ids(slice(None))
        assert any(each.startswith("numpy._core.multiarray.ndarray.") for each in dataset.corpus.ids(slice(None)))


SOURCE = '''
"""Module."""
def public(x):
    """Public text."""
    def inner():
        """No."""
def _private():
    """No."""
class Thing:
    """Thing text."""
    def method(self):
        """Method text."""
    def __init__(self):
        """No."""
    def silent(self): pass
try:
    import nothing
except ImportError:
    async def fallback():
        """Fallback text."""
add_newdoc("pack.core", "array", """
    array(object)

    Compiled text.
    """)
add_newdoc("pack.core", "array", [("T", "Attribute text."), ("shape", "Shape text.")])
add_newdoc("pack.core", name, f"{assembled}")
add_newdoc("other.core", "array", "Text for another package.")
'''


def test_reading_sources(tmp_path: Path) -> None:
    for name in ("b.py", "a/__init__.py", "a/tests/c.py", "not-a-module/d.py", "test/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SOURCE if name == "b.py" else 'def f():\n    """F."""\n')
    found = [(docstring.id, docstring.text) for docstring in docstrings.read_docstrings(tmp_path, "pack")]
    assert found == [
        ("pack.a.f", "F."),
        ("pack.b.public", "Public text."),
        ("pack.b.Thing", "Thing text."),
        ("pack.b.Thing.method", "Method text."),
        ("pack.b.fallback", "Fallback text."),
        ("pack.core.array", "array(object)\n\nCompiled text."),
        ("pack.core.array.T", "Attribute text."),
        ("pack.core.array.shape", "Shape text."),
    ]
    assert [each.id for each in docstrings.read_docstrings(tmp_path, "", ["a", "c"])] == ["a.f"]


SUM = "Sum of the two numbers."
REST = " ".join(f"Word{n}" for n in range(30))


@pytest.mark.parametrize(
    ("text", "query", "document"),
    [
        (f"Add numbers, e.g. two of them.  {REST}", "Add numbers, e.g. two of them.", REST),
        (f"Add numbers one to another\n\n{REST}", "Add numbers one to another", REST),
        (f"add(a, b=(1, 2)) -> int\nadd(a)\n\nSum of the two numbers. {REST}", SUM, REST),
        (f"pack.add(a) -- Sum of the two numbers. {REST}", SUM, REST),
        (f"Sum of the two numbers.\n\nUse\n---\nadd, Add() or\nadder. {REST}", SUM, f"Use , () or adder. {REST}"),
        (f"Sum of the two numbers.\n\n%(shared)s\n\n{REST}", SUM, REST),
        (f"Sum of the two numbers.\n\n{REST}\n\n{'long ' * 90}", SUM, REST),
        (f"Sum of the two numbers.\n\n{REST}. {'long ' * 90}", SUM, f"{REST}."),
    ],
    ids=["abbreviation", "no-stop", "signatures", "dash", "name", "placeholder", "paragraph", "sentence"],
)  # fmt: skip
def test_splitting(text: str, query: str, document: str) -> None:
    assert docstrings.split_docstring(Docstring("pack.add", text)) == (query, document)


@pytest.mark.parametrize("text", ["", f"Too short. {REST}", "A query of five words.", f"{REST}.\n\n{REST}. {REST}"])
def test_useless_docstrings(text: str) -> None:
    assert docstrings.split_docstring(Docstring("pack.add", text)) is None


def test_the_training_set_shares_no_query_and_no_document(dataset: Dataset) -> None:
    both = zip(dataset.queries, dataset.corpus.iter(), strict=True)
    tested = [pydocs.SplitDocstring(query.id, query.text, document.text) for query, document in both]
    training = pydocs.pairs(["scipy"], without=tested)
    assert len(training) > 1000
    for side in ("query", "document"):
        ours, theirs = (
            {" ".join(re.findall(r"\w+", getattr(pair, side).casefold())) for pair in of} for of in (training, tested)
        )
        assert not ours & theirs
