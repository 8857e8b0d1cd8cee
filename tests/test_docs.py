"""The documentation, run: what it tells a reader to type works, what it shows exists, and nothing is left out."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import click
import platformdirs
import pytest

import harness as api
from harness.cli.main import State, cli
from harness.datasets import checksums
from harness.datasets.catalog import catalogue, suite
from harness.download.local_weights import present
from harness.registry import hookspecs
from harness.registry.manager import load_registry
from harness.registry.parser import parse
from harness.types import UserError, Weights
from tests.conftest import ROOT, Done
from tests.cross_encoders import write_cross_encoder
from tests.endpoint_server import Endpoint
from tests.runs import load_here, write_checkpoint, write_run

pytest.importorskip("faiss", reason="the documented commands need the dense extra")
pytest.importorskip("bm25s", reason="the documented commands need the bm25 extra")

README, COMMANDS = ROOT / "README.md", ROOT / "docs" / "commands.md"
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *TUTORIALS]
SHELLS = ("sh", "bash", "console")
FOLDER, CHECKPOINT, CROSS_ENCODER = "path/to/folder", "path/to/checkpoint", "path/to/cross-encoder"
COLBERT = "path/to/colbert"
"""What the documentation calls a reader's own dataset and models."""
PROGRAM = shutil.which("harness", path=str(Path(sys.executable).parent)) or ""
USERS_HOME = Path(os.environ.get("HARNESS_HOME") or platformdirs.user_cache_path("retrieval-harness"))
"""Where this machine may have weights already, for the commands that need some."""


class Block(NamedTuple):
    """A fenced block, and the paragraph before it."""

    language: str
    code: str
    before: str


def blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], re.split(r"\n\n|\n```\n", text[: m.start()].strip())[-1]) for m in found]


def commands(block: Block) -> list[str]:
    """The command lines of a block in a shell's language; of a console's, those after a prompt."""
    lines = block.code.replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if block.language != "console" or line.startswith("$ ")]
    return [" ".join(line.split()) for line in typed if line.strip() and not line.startswith("#")]


def documented(*languages: str, pages: Sequence[Path] = tuple(PAGES)) -> list[Block]:
    return [block for page in pages for block in blocks(page.read_text()) if block.language in languages]


def words(line: str) -> list[str]:
    """What follows ``harness``, comment and redirection left out; nothing where the line is another program's."""
    found = shlex.split(line, comments=True)
    found = found[found.index("harness") + 1 :] if "harness" in found else []
    return found[: found.index(">")] if ">" in found else found


LINES = [line for block in documented(*SHELLS) for line in commands(block)]
HARNESS = [line for line in LINES if words(line)]
COMPLETION = [line for line in LINES if line.startswith("_HARNESS_COMPLETE=")]
INLINE = re.findall(r"`(harness [^`]+)`", "\n".join(page.read_text() for page in PAGES))
DOCS = "\n".join(page.read_text() for page in PAGES)


def parsed(line: str) -> click.Context:
    """The command line as click reads it; an error where it has an option or a command that does not exist."""
    name, *rest = words(line)
    context = click.Context(cli, obj=State())
    command = cli.get_command(context, name)
    assert command is not None, f"there is no command {name}"
    while isinstance(command, click.Group) and rest:
        context = click.Context(command, info_name=name, parent=context)
        name, *rest = rest
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    return command.make_context(name, rest, parent=context)


def named(line: str) -> dict[str, list[str]]:
    """The models, datasets and suites on a line."""
    given = parsed(line).params
    listed = {kind: list(given.get(kind) or []) for kind in ("models", "datasets", "suites")}
    for kind in ("model", "dataset", "suite"):
        listed[f"{kind}s"] += [given[kind]] if given.get(kind) else []
    for name in given["names"] if words(line)[0] == "fetch" else ():
        listed["models" if name in REGISTRY.models or ":" in name else "datasets"].append(name)
    return listed


def shown_files() -> dict[str, str]:
    """The files that the documentation shows: data in a block, its path in the paragraph before it."""
    return {
        path: block.code
        for block in documented("json", "tsv", "text")
        for path in re.findall(r"`([\w-]+/[\w/-]+\.(?:jsonl|tsv|txt))`", block.before)
    }


def absent(line: str) -> bool:
    """Whether the line needs a dataset that has to be fetched, which no test does."""
    found = named(line)
    entries = [*found["datasets"], *(entry for name in found["suites"] for entry in suite(name).datasets)]
    members = {name for entry in entries for name in REGISTRY.groups.get(entry, (entry,))}
    brings = words(line)[0] in ("fetch", "benchmark", "doctor", "isotropy")
    return brings and any(REGISTRY.datasets[name].sources for name in members & {*REGISTRY.datasets})


def names(text: str) -> list[str]:
    """The models that one is made of, itself included."""
    name, members, _ = parse(text)
    return [name, *(below for member in members or () for below in names(member))]


def weights_of(line: str) -> list[Weights]:
    refs = [REGISTRY.models.get(name) for text in named(line)["models"] for name in names(text)]
    found = [ref.spec.files.weights for ref in refs if ref and ref.spec.files.weights]
    return found + ([REGISTRY.models["minilm"].spec.files.weights] if CHECKPOINT in line else [])  # type: ignore[list-item]


REGISTRY = load_registry()


def test_blocks_and_commands_are_found() -> None:
    text = """
First, do this:

```sh
harness models   # a comment
# another
make demo

harness benchmark \\
  -m bm25
```
Then that, with `harness suites`:
```console
$ harness suites
| name |
```
```python
x = 1
```
"""
    sh, console, python = blocks(text)
    assert (sh.before, console.before) == ("First, do this:", "Then that, with `harness suites`:")
    assert commands(sh) == ["harness models # a comment", "make demo", "harness benchmark -m bm25"]
    assert commands(console) == ["harness suites"]
    assert python.code == "x = 1\n"
    assert words("A=1 harness report --format csv > x.csv  # made") == ["report", "--format", "csv"]


def test_every_line_is_one_that_is_tested() -> None:
    """A kind of command that this file does not know must not go unnoticed."""
    assert len(HARNESS) > 10
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][\w-]*)", DOCS)) <= targets
    for line in LINES:
        if line not in (*HARNESS, *COMPLETION):
            program, *rest = shlex.split(line, comments=True)
            if program == "pip":
                [project, extra] = re.fullmatch(r"([\w-]+)\[(\w+)\]", rest[-1]).groups()  # type: ignore[union-attr]
                assert extra in distribution(project).metadata.get_all("Provides-Extra")
                continue
            assert program == "make", f"no test knows what to do with: {line}"
            assert set(rest) <= targets, f"{line}: the Makefile has {sorted(targets)}"


@pytest.mark.parametrize("line", dict.fromkeys([*HARNESS, *INLINE]))
def test_commands_and_options_exist(line: str) -> None:
    try:
        parsed(line)
    except (UserError, click.ClickException) as error:
        pytest.fail(f"{line}: {error}")


@pytest.mark.parametrize("line", dict.fromkeys(HARNESS))
def test_names_exist(line: str) -> None:
    found = named(line)
    for model in found["models"]:
        own = parse(model)[0] in (CHECKPOINT, *plugin_files()) or COLBERT in model
        assert own or model in REGISTRY.models or REGISTRY.model(model)
    shown = {path.partition("/")[0] for path in shown_files()}
    assert set(found["datasets"]) <= {FOLDER, *shown, *REGISTRY.datasets, *REGISTRY.groups}
    assert set(found["suites"]) <= set(catalogue().suites)


def plugin_files() -> dict[str, str]:
    """Complete plug-ins in the documentation (the name of the file stands before it) and in the hooks' own."""
    found = {}
    for block in documented("python"):
        if "@hookimpl" in block.code:
            [name] = re.findall(r"`(\w+)\.py`", block.before)
            found[name] = block.code
    return found


def examples() -> dict[str, str]:
    docstring = inspect.getdoc(hookspecs.harness_models) or ""
    [name] = re.findall(r"\((\w+)\.py;", docstring)
    return {**plugin_files(), name: docstring.partition("::\n")[2]}


@pytest.mark.parametrize("name", examples())
def test_a_complete_plugin_is_sound_and_short(name: str, harness, toy: Path, tmp_path: Path) -> None:
    code = inspect.cleandoc(examples()[name])
    body = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(body) <= 10 or name in ("overlap", "pairs", "words", "shared", "counting", "trigrams"), (
        "ten lines for a dense model"
    )
    file = tmp_path / f"{name}.py"
    file.write_text(code)
    model, dataset = (name, toy) if "ModelSpec" in code else ("bm25", name)
    if '"reranker"' in code:
        model = f"{name}(bm25)"
    if dataset == toy:
        checked = harness("check", model, "--plugin", file, "--json")
        assert checked.code == 0, checked.out + checked.err
        assert all(outcome["passed"] for outcome in json.loads(checked.out))
    else:
        assert harness("doctor", name, "--plugin", file).code == 0
    done = harness("benchmark", "-m", model, "--plugin", file, "-d", dataset, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["measures"]["nDCG@10"] > (0 if dataset == toy else 0.9)


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


def test_every_kind_of_plugin_has_an_example() -> None:
    code = "\n".join(examples().values())
    assert all(f'"{kind}"' in code for kind in ("dense", "lexical", "sparse", "multivector", "reranker"))
    assert "DatasetSpec(" in code


def test_the_dataset_toml_that_is_shown_is_accepted(harness, toy: Path) -> None:
    shown = [block for block in documented("toml") if "`dataset.toml`" in block.before]
    assert shown
    for block in shown:
        (toy / "dataset.toml").write_text(block.code)
        done = harness("benchmark", "-m", "bm25", "-d", toy, "--json")
        assert done.code == 0, done.err
        [name] = re.findall(r'^name = "(.*)"', block.code, re.MULTILINE)
        assert json.loads(done.out)[0]["dataset"] == name


def test_the_suites_that_are_shown_are_suites(tmp_path: Path) -> None:
    shown = [block for block in documented("toml") if "`--suite " in block.before]
    assert shown
    for block in shown:
        (tmp_path / "shown.toml").write_text(block.code)
        found = suite(str(tmp_path / "shown.toml"))
        assert f'name = "{found.name}"' in block.code
        assert set(found.datasets[:-1]) <= {*REGISTRY.datasets, *REGISTRY.groups}


def test_every_dataset_and_suite_is_documented() -> None:
    known = catalogue()
    for name in (*known.suites, *known.groups, *known.datasets):
        assert name.startswith("nano-") or "/" in name or f"`{name}`" in DOCS, name


def test_every_hook_is_documented_with_its_arguments() -> None:
    hooks = [f for name, f in vars(hookspecs).items() if name.startswith("harness_")]
    assert len(hooks) >= 3
    for hook in hooks:
        assert f"`{hook.__name__}({', '.join(inspect.signature(hook).parameters)})`" in DOCS


def test_every_command_is_documented() -> None:
    context = click.Context(cli, obj=State())
    for name in cli.list_commands(context):
        assert re.search(rf"\bharness {name}\b", DOCS), f"harness {name} is not in the documentation"


@pytest.mark.parametrize("name", REGISTRY.models)
def test_every_option_of_a_built_in_model_is_documented(name: str) -> None:
    rows = [line for line in DOCS.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row for row in rows)
    for key in REGISTRY.models[name].spec.options:
        assert any(f"`{key}`" in row for row in rows), f"option {key} of {name} is not in the documentation"


def test_every_environment_variable_is_documented() -> None:
    sources = [file.read_text() for room in ("harness", "plugins", "reports") for file in (ROOT / room).rglob("*.py")]
    for name in set(re.findall(r"\bHARNESS_[A-Z_]+[A-Z]\b", "\n".join(sources))):
        assert name in DOCS, f"{name} is not in the documentation"


def slugs(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if not re.match(r"\w+:", target):
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not anchor or anchor in slugs(there.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_was_left_to_fill_in(page: Path) -> None:
    assert not re.findall(r"^[A-Z]{4,}$|\b(?:TODO|FIXME|TBD|XXX)\b", page.read_text(), re.MULTILINE)


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


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


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
