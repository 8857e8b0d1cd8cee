"""Models of the hub by name: downloaded once from a local server and loaded as folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sentence_transformers", reason="these models need the dense extra")
pytest.importorskip("faiss", reason="these models need the dense extra")

from harness.download import hub_models
from harness.registry.manager import load_registry
from harness.types import UserError
from harness_plugins.model_folder.pinned import MINILM, TRAINED_ON
from harness_plugins.sentence_transformers import hub
from tests.interchange import write_encoder
from tests.server import Site, info_path, serve_repository

COMMIT, LATER = "a" * 40, "b" * 40
WORDS = ["heart moon bread earth planet red blood language programming the is a"]


def publish(site: Site, folder: Path, name: str = "someone/words", commit: str = COMMIT, **more: bytes) -> None:
    """Serve a model's folder as a repository with typical further files."""
    held = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    held |= {
        "README.md": b"# card",
        "train.py": b"raise SystemExit",
        "onnx/model.onnx": b"x",
        "onnx/config.json": b"{}",
    }
    held |= more
    serve_repository(site, "models", name, held, commit)


@pytest.fixture
def worded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return write_encoder(tmp_path / "worded", WORDS)


def scores(harness: Any, model: object, toy: Path, *more: str) -> dict[str, Any]:
    done = harness("benchmark", "-m", model, "-d", toy, "--json", "--force", *more)
    assert done.code == 0, done.err
    return json.loads(done.out)[0]


def test_a_model_of_the_hub_is_its_folder(harness, home: Path, site: Site, worded: Path, toy: Path) -> None:
    publish(site, worded)
    found = scores(harness, "st:someone/words", toy)
    assert found["model"] == "st:someone/words"
    local = scores(harness, worded, toy)
    assert found["measures"] == local["measures"]
    assert found["geometry"]["documents"] == local["geometry"]["documents"]
    brought = home / "models" / "hub" / "someone--words" / COMMIT
    assert {f.relative_to(brought).as_posix() for f in brought.rglob("*") if f.is_file()} == {
        f.relative_to(worded).as_posix() for f in worded.rglob("*") if f.is_file() and f.name != "README.md"
    }
    asked = len(site.asked)
    assert not [path for path, _ in site.asked if "onnx/" in path or path.endswith((".py", ".md"))]
    again = scores(harness, "st:someone/words", toy, "--offline")
    assert (again["measures"], len(site.asked)) == (found["measures"], asked)
    pinned = scores(harness, f"st:someone/words@{COMMIT}:query_prompt=moon ", toy, "--offline")
    assert pinned["model"] == f'st:someone/words@{COMMIT}:query_prompt="moon "'
    assert len(site.asked) == asked


def test_a_name_without_st_is_the_model_of_the_hub(harness, site: Site, worded: Path, toy: Path) -> None:
    publish(site, worded)
    fetched = harness("fetch", "someone/words")
    assert fetched.code == 0, fetched.err
    assert fetched.out.startswith("someone/words: ")
    found = scores(harness, "someone/words", toy, "--offline")
    assert found["model"] == "st:someone/words"
    assert found["measures"] == scores(harness, worded, toy)["measures"]


def test_a_folder_after_st_is_a_folder(harness, home: Path, worded: Path, toy: Path) -> None:
    assert scores(harness, f"st:{worded}", toy)["model"] == scores(harness, worded, toy)["model"]


def test_a_name_stays_at_its_commit_until_it_is_fetched_again(
    harness, home: Path, site: Site, worded: Path, tmp_path: Path
) -> None:
    publish(site, worded)
    first = hub_models.obtain("someone/words", home)
    publish(site, write_encoder(tmp_path / "newer", WORDS, seed=1), commit=LATER)
    assert hub_models.obtain("someone/words", home) == first
    done = harness("fetch", "st:someone/words", "--json")
    assert json.loads(done.out) == {"st:someone/words": str(first.with_name(LATER))}
    assert hub_models.find("someone/words", home) == first.with_name(LATER)
    assert hub_models.find(f"someone/words@{COMMIT}", home) == first


def test_the_hubs_own_cache_is_used_where_it_lies(home: Path, worded: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "models--someone--words"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(COMMIT)
    (kept / "snapshots").mkdir()
    (kept / "snapshots" / COMMIT).symlink_to(worded)
    for name in ("someone/words", f"someone/words@{COMMIT}"):
        assert hub_models.obtain(name, home, offline=True) == kept / "snapshots" / COMMIT
    with pytest.raises(UserError, match="not on this machine and the network is switched off"):
        hub_models.obtain(f"someone/words@{LATER}", home, offline=True)


@pytest.mark.parametrize("name", ["words", "../words", "a/b/c", "a/../b", "a/b@../c", "someone/words@"])
def test_what_is_no_repository_is_refused(harness, worded: Path, name: str, toy: Path) -> None:
    done = harness("benchmark", "-m", f"st:{name}", "-d", toy)
    assert done.code == 2
    assert "is not a repository of the hub" in done.err.splitlines()[-1]


def test_faults_of_a_repository_are_told_in_a_sentence(
    harness, home: Path, site: Site, worded: Path, toy: Path
) -> None:
    def told() -> str:
        done = harness("benchmark", "-m", "st:someone/words", "-d", toy)
        assert done.code == 2, done.err
        assert "Traceback" not in done.err
        assert not list((home / "models" / "hub").glob("*/" + "?" * 40))
        return done.err.splitlines()[-1]

    assert "answers 404" in told()
    publish(site, worded, **{"2_Dense/pytorch_model.bin": b"pickle"})
    assert "the weights in 2_Dense/pytorch_model.bin exist only as a pickle, which is never opened" in told()
    publish(site, worded, **{"../../escaped.json": b"{}"})
    site.files[f"/someone/words/resolve/{COMMIT}/model.safetensors"] = b"?" * 100
    path = next(path for path in site.files if path.endswith("model.safetensors"))
    site.files[path] = bytes(len(site.files[path]))
    assert "could not be downloaded from the Hugging Face hub" in told()
    bare = worded.with_name("bare")
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    site.files.clear()
    publish(site, bare)
    assert "it has no modules.json" in told()
    site.files[info_path("models", "someone/words", "main")] = b'{"id": "someone/words", "sha": "../x", "siblings": []}'
    assert "names no commit" in told()
    assert harness("benchmark", "-m", "st", "-d", toy).err.splitlines()[-1].endswith("type -m st:organisation/name.")


def test_paths_that_climb_out_are_not_taken(home: Path, site: Site, worded: Path) -> None:
    publish(site, worded, **{"../../escaped.json": b"{}", "/tmp/escaped.json": b"{}"})
    hub_models.obtain("someone/words", home)
    assert not list(home.rglob("escaped.json"))


def test_code_of_a_repository_is_not_run(harness, home: Path, site: Site, worded: Path, toy: Path) -> None:
    modules = json.loads((worded / "modules.json").read_text())
    modules[0]["type"] = "custom_words.Words"
    (worded / "modules.json").write_text(json.dumps(modules))
    publish(site, worded, **{"custom_words.py": b"raise SystemExit(99)"})
    done = harness("benchmark", "-m", "st:someone/words", "-d", toy)
    assert done.code == 2
    assert "'custom_words.Words', which is not one of sentence-transformers' own" in done.err.splitlines()[-1]


def test_known_weights_keep_what_they_were_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    options = load_registry().models["st"].options
    assert hub.training({**options, "path": str(tmp_path)}) == {}
    digest = MINILM.sha256["model.safetensors"]
    monkeypatch.setattr("harness_plugins.sentence_transformers.hub.sha256_file", lambda file: digest)
    assert hub.training({**options, "path": str(tmp_path)}) == {"trained_on": list(TRAINED_ON)}


def test_it_is_a_member_like_any_other(harness, home: Path, site: Site, worded: Path, toy: Path) -> None:
    publish(site, worded)
    found = scores(harness, "rrf(bm25,st:someone/words)", toy)
    assert found["model"] == "rrf(bm25,st:someone/words)"
    assert 0 < found["measures"]["nDCG@10"] <= 1
    planned = harness("plan", "-m", "st:someone/other", "-d", toy, "--json")
    assert planned.code == 0, planned.err
    assert "harness fetch st:someone/other" in planned.out
