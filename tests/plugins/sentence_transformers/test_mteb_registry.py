"""Models of MTEB's registry: revision, prompts and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mteb", reason="mteb is not installed: pip install mteb")
pytest.importorskip("faiss", reason="these models need the dense extra")

from functools import partial

import mteb
from mteb.models import ModelMeta
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper, _resolve_prompt
from mteb.types import PromptType

from harness.types import UserError
from harness_plugins.sentence_transformers import mteb_registry
from tests.interchange import write_encoder
from tests.plugins.sentence_transformers.test_hub import COMMIT, LATER, WORDS, publish
from tests.server import Site, info_path

NAME = "someone/words"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The registry's entry for a tiny model; its loader's settings may be changed."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    settings: dict[str, Any] = {}
    stated = {"name": NAME, "revision": COMMIT, "loader": SentenceTransformerEncoderWrapper, "loader_kwargs": settings}
    monkeypatch.setitem(MODEL_REGISTRY, NAME, ModelMeta.create_empty(stated))
    return settings


def test_its_revision_and_prompts_are_the_registrys(
    harness, home: Path, site: Site, listed: dict[str, Any], toy: Path, tmp_path: Path
) -> None:
    publish(site, write_encoder(tmp_path / "newer", WORDS, seed=1), commit=LATER)  # main
    worded = write_encoder(tmp_path / "worded", WORDS)
    main = info_path("models", NAME, "main")
    later = site.files[main]
    publish(site, worded)
    site.files[main] = later
    found = {}
    for model in (f"mteb:{NAME}", f"{worded}", f"{worded}:query_prompt=moon "):
        done = harness("benchmark", "-m", model, "-d", toy, "--json", "--force")
        assert done.code == 0, done.err
        found[model] = json.loads(done.out)[0]
    assert found[f"mteb:{NAME}"]["measures"] == found[f"{worded}"]["measures"]
    assert found[f"mteb:{NAME}"]["model"] == f"mteb:{NAME}"
    listed["model_prompts"] = {"query": "moon "}
    done = harness("benchmark", "-m", f"mteb:{NAME}", "-d", toy, "--json", "--offline")
    prompted = json.loads(done.out)[0]
    assert prompted["measures"] == found[f"{worded}:query_prompt=moon "]["measures"]
    assert prompted["manifest"]["key"] != found[f"mteb:{NAME}"]["manifest"]["key"]


@pytest.mark.parametrize("task", ["SciFact", "NFCorpus", "ArguAna"])
@pytest.mark.parametrize(
    "prompts",
    [
        {},
        {"query": "q", "document": "d"},
        {"query": "q", "Retrieval": "r"},
        {"Retrieval-query": "rq", "Retrieval": "r", "query": "q"},
        {"SciFact": "s", "Retrieval-document": "rd"},
        {"SciFact-query": "sq", "SciFact": "s", "NFCorpus-document": "nd"},
    ],
)
def test_the_prompt_is_the_one_that_mteb_takes(task: str, prompts: dict[str, str]) -> None:
    metadata = mteb.get_task(task).metadata
    for role in ("query", "document"):
        theirs = _resolve_prompt(prompts, metadata, PromptType(role))
        assert mteb_registry.prompt(prompts, task, role) == theirs


def test_what_mteb_loads_with_code_of_its_own_is_refused(
    harness, listed: dict[str, Any], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed["trust_remote_code"] = True
    done = harness("benchmark", "-m", f"mteb:{NAME}", "-d", toy)
    assert done.code == 2
    assert f"MTEB loads {NAME} with trust_remote_code, not as a plain" in done.err
    for name in ("openai/text-embedding-3-small", "mteb/baseline-bm25s"):
        with pytest.raises(UserError, match=f"MTEB loads {name} by "):
            mteb_registry.repository({"name": name})
    with pytest.raises(UserError, match=r"There is no model of MTEB's registry 'someone/wrods'; did you mean someone/"):
        mteb_registry.repository({"name": "someone/wrods"})


def test_genuine_entries_of_the_registry() -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert mteb_registry.repository({"name": name}) == f"{name}@{mteb.get_model_meta(name).revision}"
    loaded = [meta for meta in MODEL_REGISTRY.values() if getattr(meta.loader, "__name__", "") == mteb_registry.LOADER]
    assert len(loaded) > 100
    assert not [meta for meta in loaded if isinstance(meta.loader, partial)]
