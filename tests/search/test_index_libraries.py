"""Libraries of indexes: what they need, and their parameters."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.search import index_libraries
from harness.search.index_config import IndexConfig
from harness.search.index_libraries import LIBRARIES, PLAID, SEISMIC, library_of
from harness.types import UserError


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Pretend that these distributions are installed and no others; fast-plaid is for torch 2.11.0."""
    requires = ["numpy>=1.26", 'torch>=2; extra == "dev"', "torch==2.11.0"]

    def version(name: str) -> str:
        if name.replace("-", "_") not in versions:
            raise PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    found = lambda name: SimpleNamespace(version=version(name), requires=requires)  # noqa: E731
    monkeypatch.setattr(index_libraries, "distribution", found)
    monkeypatch.setattr(index_libraries, "version", version)


@pytest.mark.parametrize("torch", ["2.11.0", "2.11.0+cu130", "2.11.0+cpu"])
def test_the_torch_that_it_is_compiled_for_is_accepted(monkeypatch: pytest.MonkeyPatch, torch: str) -> None:
    installed(monkeypatch, fast_plaid="1.7.0.2110", torch=torch)
    PLAID.require()


@pytest.mark.parametrize("torch", ["2.13.0", "2.11.1", "2.11.0a0", "2.10.0+cpu"])
def test_another_torch_is_refused(harness, monkeypatch: pytest.MonkeyPatch, torch: str, toy: Path) -> None:
    installed(monkeypatch, fast_plaid="1.7.0.2110", torch=torch)
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--index", "plaid")
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("fast-plaid 1.7.0.2110 is compiled for torch==2.11.0") == 1, done.err
    assert f"torch {torch}, which is installed" in done.err
    assert 'type: pip install "torch==2.11.0"' in done.err


@pytest.mark.parametrize(
    ("library", "there", "words"),
    [
        (SEISMIC, {}, '--index seismic needs pyseismic-lsr, .*pip install "retrieval-harness[seismic]"'),
        (PLAID, {"torch": "2.11.0"}, '--index plaid needs fast-plaid, .*pip install "retrieval-harness[plaid]"'),
        (PLAID, {"fast_plaid": "1.7.0.2110"}, '--index plaid needs torch, .*pip install "retrieval-harness[plaid]"'),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, library, there, words: str) -> None:
    installed(monkeypatch, **there)
    with pytest.raises(UserError, match=words.replace("[", r"\[")):
        library.require()


@pytest.mark.parametrize(
    ("name", "factory", "search", "words"),
    [
        ("plaid", "plaid,bits=3", "", "bits is not one of nbits, kmeans_niters"),
        ("plaid", "plaid,nbits=3", "", "nbits is 1, 2, 4 or 8, not 3"),
        ("plaid", "plaid,nbits", "", "'nbits' is no parameter with a number"),
        ("plaid", "plaid,kmeans_niters=2.5", "", "kmeans_niters is a whole number above 0, not 2.5"),
        ("plaid", "plaid", "n_ivf_probe=0", "n_ivf_probe is a whole number above 0, not 0"),
        ("plaid", "plaid", "nprobe=3", "nprobe is not one of n_ivf_probe, n_full_scores"),
        ("seismic", "seismic,nbits=4", "", "nbits is not one of n_postings"),
    ],
)
def test_parameters_are_checked(name: str, factory: str, search: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        LIBRARIES[name].check(factory, search)


def test_parameters_are_numbers() -> None:
    PLAID.check("plaid,nbits=2,n_samples_kmeans=100", "n_full_scores=8192")
    assert PLAID.numbers("plaid,nbits=2, n_samples_kmeans=100") == {"nbits": 2, "n_samples_kmeans": 100}
    assert SEISMIC.numbers("query_cut=3,heap_factor=0.7") == {"query_cut": 3, "heap_factor": 0.7}


def test_an_index_is_for_one_kind_of_vectors() -> None:
    kinds = {name: IndexConfig(f"{name},a=1").vectors for name in ("plaid", "seismic", "IVF64")}
    assert kinds == {"plaid": "multivector", "seismic": "sparse", "IVF64": "dense"}
    assert library_of("plaids") is None
    assert IndexConfig("plaid,nbits=2", "n_ivf_probe=3").label("words:a=b") == "words|plaid,nbits=2|n_ivf_probe=3:a=b"
