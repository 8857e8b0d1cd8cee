"""The documentation, run: what it tells a reader to type works."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import harness as api
from harness.datasets import checksums
from harness.download.local_weights import present
from tests.conftest import ROOT, Done
from tests.cross_encoders import write_cross_encoder
from tests.documentation import (
    CHECKPOINT,
    COLBERT,
    COMMANDS,
    COMPLETION,
    CROSS_ENCODER,
    FOLDER,
    HARNESS,
    PAGES,
    README,
    SHELLS,
    TUTORIALS,
    USERS_HOME,
    absent,
    commands,
    documented,
    named,
    plugin_files,
    shown_files,
    weights_of,
    words,
)
from tests.endpoint_server import Endpoint
from tests.runs import load_here, write_checkpoint, write_run

pytest.importorskip("faiss", reason="the documented commands need the dense extra")
pytest.importorskip("bm25s", reason="the documented commands need the bm25 extra")
PROGRAM = shutil.which("harness", path=str(Path(sys.executable).parent)) or ""


SNIPPETS = {
    page: "\n".join(block.code for block in documented("python", pages=[page]) if "@hookimpl" not in block.code)
    for page in PAGES
}


@pytest.mark.parametrize("page", [page for page, code in SNIPPETS.items() if code], ids=lambda page: page.name)
def test_the_python_of_a_page_works(page: Path, workplace: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snippets, top to bottom, where the reader's folder is."""
    monkeypatch.chdir(workplace.folder)
    monkeypatch.setenv("HARNESS_HOME", workplace.environment["HARNESS_HOME"])
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if "plot(" in SNIPPETS[page]:
        pytest.importorskip("matplotlib")
    exec(SNIPPETS[page], {name: getattr(api, name) for name in api.__all__})


class Place(NamedTuple):
    """Where commands are typed."""

    folder: Path
    environment: dict[str, str]
    harness: Callable[..., Done] | None = None
    """Runs a command of the harness in this process; None: every line is typed into a shell."""

    def type(self, line: str) -> Done:
        if self.harness and line.startswith("harness ") and ">" not in shlex.split(line, comments=True):
            return self.harness(*words(line))
        shell = ["bash", "-ec", line]
        done = subprocess.run(shell, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def datasets(built_pydocs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``harness fetch pydocs`` makes, with its first documents and questions alone."""
    if not PROGRAM or not shutil.which("bash"):
        pytest.skip("the harness command is not installed beside this Python, or there is no bash")
    folder = tmp_path_factory.mktemp("few") / "datasets"
    for source in (file for file in built_pydocs.rglob("*") if file.is_file()):
        target = folder / source.relative_to(built_pydocs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text() if source.suffix == ".toml" else head(source, 150))
    for dataset in folder.iterdir():
        (dataset / checksums.RECORD).unlink()
        checksums.write_checksums(dataset)
    return folder


@pytest.fixture
def workplace(
    tmp_path: Path, home: Path, datasets: Path, harness: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A folder with what the documentation supposes.

    The plug-in files it had its reader save, a home with the embedded dataset and nothing else, and as `FOLDER` that
    dataset's first documents and questions, in two splits.
    """
    (home / "datasets").symlink_to(datasets)
    for name, code in plugin_files().items():
        (tmp_path / f"{name}.py").write_text(code)
    for name, content in shown_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    source, target = next(datasets.iterdir()), tmp_path / FOLDER
    (target / "qrels").mkdir(parents=True)
    for part in ("corpus.jsonl", "queries.jsonl"):
        (target / part).write_text(head(source / part, 20))
    for split in ("test", "dev"):
        (target / "qrels" / f"{split}.tsv").write_text(head(source / "qrels" / "test.tsv", 21))
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setenv("PATH", f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}")
    return Place(tmp_path, dict(os.environ), harness)


def test_the_commands_of_late_interaction_work(workplace: Place) -> None:
    from tests.folders import write_multi_vector

    write_multi_vector(workplace.folder / COLBERT)
    for block in documented("sh", pages=[ROOT / "docs" / "late-interaction.md"]):
        for line in commands(block):
            done = workplace.type(line)
            assert done.code == 0, f"{line}\n{done.err}"
    stored = [json.loads(file.read_text())["counts"] for file in workplace.folder.glob("results/pool*/*/result.json")]
    assert len({counts["document_vectors"] for counts in stored}) == 2


def test_the_commands_of_plaid_work(workplace: Place) -> None:
    """Where fast-plaid cannot run, they say so; where it can, they work."""
    from tests.folders import write_multi_vector
    from tests.search.test_plaid_index import absent

    write_multi_vector(workplace.folder / COLBERT)
    lines = [line for block in documented("sh", pages=[ROOT / "docs" / "indexes.md"]) for line in commands(block)]
    lines = [line for line in lines if COLBERT in line]
    assert len(lines) == 2
    for line in lines:
        done = workplace.type(line)
        assert done.code == (2 if absent() else 0), f"{line}\n{done.err}"
        assert (absent() if absent() else "plaid") in done.err + done.out


def head(path: Path, count: int) -> str:
    return "".join(path.read_text().splitlines(keepends=True)[:count])


@pytest.mark.parametrize("size", ["few", pytest.param("whole", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("page", [README, COMMANDS], ids=lambda page: page.name)
def test_the_page_works(page: Path, size: str, workplace: Place, request: pytest.FixtureRequest) -> None:
    """Its commands, top to bottom, in one folder; those that need weights are in the tests after this one.

    With few documents in this process, with all of them in a shell.
    """
    if size == "whole":
        (there := workplace.folder / "home" / "datasets").unlink()
        there.symlink_to(request.getfixturevalue("built_pydocs"))
        workplace = workplace._replace(harness=None)
    for line in (line for block in documented(*SHELLS, pages=[page]) for line in commands(block)):
        if line in COMPLETION or (line in HARNESS and not weights_of(line) and not absent(line)):
            done = workplace.type(line)
            assert done.code == 0, f"{line}\n{done.err}"
            assert done.out.strip() or ">" in line or " rm " in line
            assert "Traceback" not in done.err
    stored = "my-data" if page == README else "pydocs"
    assert json.loads((workplace.folder / f"results/bm25/{stored}/result.json").read_text())["status"] == "ok"
    if page == COMMANDS:
        assert "_harness_completion" in (workplace.folder / "harness-completion.bash").read_text()


MEASURING = pytest.mark.slow, pytest.mark.timeout(1800)
"""For the tutorial whose plans build a training set and measure this machine."""


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.name, marks=MEASURING if p.name == "training-study.md" else ()) for p in TUTORIALS]
)
def test_a_tutorial_works(page: Path, workplace: Place) -> None:
    """Its commands, top to bottom, with few documents; that the program is there, a test before has seen."""
    lines = [line for block in documented(*SHELLS, pages=[page]) for line in commands(block) if line in HARNESS]
    assert lines
    for line in lines:
        done = workplace.type(line)
        assert done.code == 0, f"{line}\n{done.err}"
        assert done.out.strip() or ">" in line


def test_the_page_on_comparing_works(workplace: Place) -> None:
    lines = [line for block in documented(*SHELLS, pages=[ROOT / "docs" / "comparing.md"]) for line in commands(block)]
    shown = {}
    for line in lines:
        done = workplace.type(line)
        assert done.code == 0, done.err
        shown[words(line)[0]] = done.out
    assert "## Queries that moved most" in shown["compare"]


def test_the_page_on_the_store_works(workplace: Place) -> None:
    [lines] = [commands(block) for block in documented("sh", pages=[ROOT / "docs" / "store.md"])]
    for line in lines:
        done = workplace.type(line)
        assert done.code == 0, done.err
    assert len(list((workplace.folder / "path/to/store").rglob("*.npy"))) == 2  # documents and queries


def test_the_page_on_endpoints_works(workplace: Place, served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server on loopback in place of the reader's; plans send nothing."""
    scanned = {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
    monkeypatch.setattr("harness.planning.speed._scan", lambda device: scanned)
    monkeypatch.setenv("JINA_API_KEY", "of-the-reader")
    lines = [line for block in documented("sh", pages=[ROOT / "docs" / "endpoints.md"]) for line in commands(block)]
    assert len(lines) >= 6
    for line in lines:
        served.forget()
        typed = re.sub(r"http://127\.0\.0\.1:8080(/v1)?", served.url, line)
        done = workplace.type(typed)
        assert done.code == 0, f"{line}\n{done.err}"
        assert done.out.strip()
        assert not (" plan " in line and served.bodies)


@pytest.mark.parametrize("line", [line for line in dict.fromkeys(HARNESS) if absent(line)])
def test_commands_that_need_a_network_say_so_without_one(line: str, workplace: Place) -> None:
    done = workplace.type(line)
    assert done.code == 2, done.err
    assert "not on this machine and the network is switched off" in done.err.splitlines()[-1]


WEIGHTY = [line for line in dict.fromkeys(HARNESS) if weights_of(line) and not absent(line)]
SLOW = [pytest.param(x, marks=pytest.mark.slow) if set(named(x)["datasets"]) - {FOLDER} else x for x in WEIGHTY]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("line", SLOW)
def test_commands_that_need_weights(line: str, workplace: Place) -> None:
    """Run with the real weights where this machine has them; the reader's own cross-encoder alone is made for it."""
    home = Path(workplace.environment["HARNESS_HOME"])
    for weights in weights_of(line):
        own = USERS_HOME / "models" / weights.name
        if own.is_dir() and not (home / "models" / weights.name).exists():
            (home / "models").mkdir(parents=True, exist_ok=True)
            (home / "models" / weights.name).symlink_to(own)
        if not present(weights, home):
            pytest.skip(f"the weights of {weights.name} are not on this machine: harness fetch {weights.name}")
    if CHECKPOINT in line:
        minilm = home / "models" / "minilm"
        if not minilm.is_dir():
            pytest.skip("a checkpoint is tried with the weights that harness fetch minilm brings")
        (workplace.folder / CHECKPOINT).symlink_to(minilm)
    if CROSS_ENCODER in line:
        write_cross_encoder(workplace.folder / CROSS_ENCODER, {"list", "array", "return"})
    done = workplace.type(line)
    assert done.code == 0, done.err
    assert done.out.strip()


def test_what_was_trained_is_benchmarked_and_released(workplace: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a run that a tiny model stands for."""
    monkeypatch.setattr("harness_training.release.verify._run", load_here)
    checkpoint = write_checkpoint(workplace.folder / "tiny")
    write_run(workplace.folder / "runs" / "isotropy" / "seed42", checkpoint)
    lines = [line for b in documented(*SHELLS, pages=[ROOT / "docs" / "trained-models.md"]) for line in commands(b)]
    assert len(lines) > 1
    for line in lines:
        done = workplace.type(line)
        assert done.code == 0, done.err
        assert done.out.strip()
    assert "\n| folder | test |" in (workplace.folder / "path/to/release/README.md").read_text()
