"""What docs/security.md says is never done, is never done."""

from __future__ import annotations

import ast
import json
import os
import pickle
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from harness import UserError
from harness.cli.terminal import OBEYED
from harness.download.http import SourceFailed, download
from harness.registry.manager import load_registry
from harness.results.store import ResultStore
from harness_plugins.model_folder.files import folder_of, module_folders
from harness_reports.data.rows import _plain
from tests.conftest import ROOT, Done, write_dataset
from tests.robustness.fuzz_seeds import MODULES, RESULT, dumped, parquet, safetensors
from tests.server import running

ROOMS = ("harness", "plugins", "reports", "training", "benchmarks", ".ci")
SOURCES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
NEVER = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "imp", "runpy"}
NASTY = "\x1b]0;title\x07\x1b[31m<script>alert(1)</script>|*_$\\input{x}[a](javascript:b)\u202e=1+1"


def _name(node: ast.AST) -> str:
    return ast.unparse(node)


def _faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"imports {name}" for name in modules if name.split(".")[0] in NEVER)
        if not isinstance(node, ast.Call):
            continue
        called, given = _name(node.func), {each.arg: _name(each.value) for each in node.keywords}
        if called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pty.spawn"):
            yield f"calls {called}"
        if called.endswith(("np.load", "numpy.load", "np.save", "read_array")) and given.get("allow_pickle") != "False":
            yield f"calls {called} without allow_pickle=False"
        if called == "torch.load" and given.get("weights_only") != "True":
            yield "calls torch.load without weights_only=True"
        if given.get("shell", "False") != "False":
            yield "gives a shell something"
        if given.get("trust_remote_code", "False") != "False":
            yield "trusts remote code"
        if given.get("use_safetensors", "True") != "True":
            yield "opens other weights than safetensors"
        if called.startswith("urllib.request.urlopen") or called.endswith("extractall"):
            yield f"calls {called}"


def test_the_source_never_does_it() -> None:
    assert len(SOURCES) > 100
    for file in SOURCES:
        text = file.read_text()
        assert not (found := [*_faults(ast.parse(text))]), f"{file}: {found}"
        assert "trust_remote_code=True" not in text
        assert "trust_remote_code: True" not in text


def test_the_search_would_find_it() -> None:
    lines = [
        *("import pickle", "from joblib import load", "eval(x)", "exec(x)", "np.load(x)", "torch.load(x)"),
        *("subprocess.run(x, shell=True)", "f(trust_remote_code=flag)", "os.system(x)", "archive.extractall(x)"),
        *("np.load(x, allow_pickle=True)", "import yaml", "urllib.request.urlopen(x)", "f(use_safetensors=None)"),
    ]
    for line in lines:
        assert [*_faults(ast.parse(line))], line
    assert not [*_faults(ast.parse("model.eval(); np.load(x, allow_pickle=False); re.compile(x)"))]


class Bomb:
    """What a pickle of it does when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_pickled_weights_are_refused_unopened(tmp_path: Path, harness: Callable[..., Done], toy: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the models need the dense extra")
    folder, marker = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (folder / "modules.json").write_bytes(dumped(MODULES[:1]))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
    done = harness("benchmark", "-m", folder, "-d", toy)
    assert done.code == 2
    assert "pickled weights are never opened" in done.err
    assert "Traceback" not in done.err
    (folder / "model.safetensors").write_bytes(safetensors())
    (folder / "pytorch_model.bin").unlink()
    assert folder_of({"path": str(folder)}) == folder
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["modeling_evil.Evil", "os.path", "evil", "sentence_transformersevil.X"])
def test_foreign_modules_are_refused_unimported(kind: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_bytes(dumped([{**MODULES[0], "type": kind}]))
    with pytest.raises(UserError, match="names is never run"):
        module_folders(tmp_path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from harness_plugins.sentence_transformers.checkpoint import OPTIONS, load
    from tests.tiny import transformer

    folder, marker = tmp_path / "model", tmp_path / "ran"
    transformer(folder)
    evil = f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n"
    for name in ("modeling_evil.py", "__init__.py", "configuration_evil.py", "tokenization_evil.py", "conftest.py"):
        (folder / name).write_text(evil)
    config = json.loads((folder / "config.json").read_text())
    maps = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "configuration_evil.Evil"}
    for found in ({**config, "auto_map": maps}, {**config, "auto_map": maps, "model_type": "evil"}):
        (folder / "config.json").write_text(json.dumps(found))
        words = json.loads((folder / "tokenizer_config.json").read_text())
        words["auto_map"] = {"AutoTokenizer": ["tokenization_evil.Evil", None]}
        (folder / "tokenizer_config.json").write_text(json.dumps(words))
        (folder / "modules.json").write_bytes(dumped(MODULES[:1]))
        with suppress(UserError):  # refused or without that code, either will do
            load({name: option.default for name, option in OPTIONS.items()} | {"path": str(folder), "device": "cpu"})
        assert not marker.exists()


def test_nothing_beside_the_data_is_imported(tmp_path: Path) -> None:
    """Files that Python or pytest would run of their own accord, in every folder that a command is given."""
    marker = tmp_path / "ran"
    evil = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    dataset = write_dataset(tmp_path / "set", {"d1": "one", "d2": "two"}, {"q1": "one"}, [("q1", "d1", 1)])
    results = tmp_path / "results"
    for folder in (tmp_path, dataset, dataset / "qrels", results, results / "bm25", tmp_path / "home"):
        folder.mkdir(exist_ok=True)
        for name in ("sitecustomize", "usercustomize", "conftest", "__init__", "plugin", "pandas", "harness", "bm25"):
            (folder / f"{name}.py").write_text(evil)
        (folder / "evil.pth").write_text("import plugin\n")
        (folder / "setup.cfg").write_text("[options.entry_points]\nharness =\n  evil = plugin\n")
    program = "from harness.cli.main import main\nmain()\n"
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**inherited, "HARNESS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for words in (["benchmark", "-m", "bm25", "-d", "set"], ["report"], ["doctor", "set"], ["models"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *words],  # -P: as the installed command `harness` starts
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False},
        )
        assert done.returncode == 0, done.stderr
        assert not marker.exists(), words


def test_a_plugin_file_runs_when_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "hostile_plugin.py"
    hook = "from harness import hookimpl\n@hookimpl\ndef harness_models(): return []\n"
    file.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n{hook}")
    load_registry()
    assert not (tmp_path / "ran").exists()
    load_registry([file])
    assert (tmp_path / "ran").exists()


@contextmanager
def leading(to: str) -> Iterator[str]:
    """A local server that sends everyone elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", to)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as url:
        yield f"{url}/x"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "HTTP://x", "", "https:/x"]
)
def test_addresses_that_are_not_https_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="https://"):
        download(url, tmp_path / "x")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://localhost:9/x", "http://0/x"])
def test_nor_is_where_a_server_leads(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("harness.download.http.ALLOWED_PREFIXES", ("https://", "http://127.0.0.1:"))
    with leading(to) as url, pytest.raises(SourceFailed, match=r"redirects to|is not allowed"):
        download(url, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_plain_hub_is_refused(monkeypatch: pytest.MonkeyPatch, harness: Callable[..., Done]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = harness("fetch", "st:a/b")
    assert done.code == 2
    assert "begin with https://" in done.err


def test_every_address_of_the_catalogue_is_https_with_a_checksum() -> None:
    from harness.datasets.catalog import catalogue

    sources = [source for spec in catalogue().datasets.values() for source in spec.sources]
    zips = [source for source in sources if source.kind == "zip"]
    assert zips
    for source in zips:
        assert source.place.startswith("https://")
        assert source.md5


def hostile_results(root: Path) -> Path:
    """Cells whose names, notes and reasons hold what a terminal, HTML, Markdown, LaTeX or a spreadsheet obeys."""
    for place, model in enumerate((NASTY, f"={NASTY}", "@sum")):
        manifest = {**RESULT["manifest"], "dataset": {**RESULT["manifest"]["dataset"], "notes": [NASTY]}}
        changes = {"model": model, "dataset": f"d{NASTY}", "manifest": manifest, "command": NASTY}
        folder = root / f"m{place}" / "d"
        folder.mkdir(parents=True)
        (folder / "result.json").write_bytes(dumped({**RESULT, **changes}))
        (folder / "per_query.parquet").write_bytes(parquet())
    (root / "broken" / "d").mkdir(parents=True)
    (root / "broken" / "d" / "result.json").write_text('{"schema": "\\u001b[31m"}')
    return root


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv", "json"])
def test_names_are_text_in_every_report(form: str, tmp_path: Path, harness: Callable[..., Done]) -> None:
    if form == "html":
        pytest.importorskip("vl_convert")
    done = harness("report", "--results", hostile_results(tmp_path / "results"), "--format", form)
    assert done.code == 1  # one cell cannot be read, which is said
    assert "\x1b" not in done.err
    assert not OBEYED.search(done.out.replace("\r\n", "\n"))
    if form == "markdown":
        assert "<script" not in done.out.replace("\\<", "")
        assert "[a](" not in done.out.replace("\\[", "").replace("\\]", "")
    if form == "latex":
        assert "\\input" not in done.out
    if form == "html":
        assert "<script>alert" not in done.out
    if form == "csv":
        import csv
        import io

        models = [row["model"] for row in csv.DictReader(io.StringIO(done.out, newline=""))]
        assert {model[0] for model in models} == {"'", "\ufffd"}
    if form == "json":
        assert json.loads(done.out)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        *((text, True) for text in ("=1+1", "+1", "-1+1", "@SUM(1)", "\t=1", "\tx", "\r=1", " =1", "\n=1", "\x0b=1")),
        *(
            (text, True)
            for text in ("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)", "\ufe661", "\ufe631", "\u207a1")
        ),
        *(
            (text, True)
            for text in ("\ufeff=1", "\u200b=1", "\u00a0=1", "\u2028=1", "\x1b=1", "\u202e=1", "\ufeff \t＝1")
        ),
        *((text, False) for text in ("bm25", "1+1", "a=1", "", " ", "\ufeff", "é", "(=1)", "\u2212x", "'=1")),
    ],
    ids=ascii,
)
def test_no_cell_of_a_spreadsheet_is_a_formula(text: str, formula: bool) -> None:
    """OWASP's list, in every width, behind blanks and marks that a spreadsheet drops."""
    shown = _plain(text)
    assert shown.startswith("'") is (formula or text.startswith("'"))
    assert shown.removeprefix("'" * formula) == OBEYED.sub("\ufffd", text)
    assert not OBEYED.search(shown)
    assert _plain(-1.5) == -1.5


def test_what_is_printed_is_text_in_a_pipe_too(tmp_path: Path, harness: Callable[..., Done]) -> None:
    """Of a table U+FFFD stands in a control character's place; JSON has every character, as an escape."""
    query = "q\x1b]0;owned\x07\x9b31m\u202e"
    (tmp_path / "run").write_text(f"{query} Q0 d 1 1 t\n")
    (tmp_path / "qrels").write_text(f"{query} 0 d 1\n")
    words = (
        "evaluate",
        "--run",
        tmp_path / "run",
        "--qrels",
        tmp_path / "qrels",
        "--per-query",
        "--measures",
        "nDCG@10",
    )
    table, told = harness(*words), harness(*words, "--json")
    assert (table.code, told.code) == (0, 0)
    assert not OBEYED.search(table.out + told.out)
    assert "q\ufffd]0;owned\ufffd\ufffd31m\ufffd" in table.out
    assert list(json.loads(told.out)["per_query"]) == [query]


def test_a_terminal_is_shown_text(tmp_path: Path) -> None:
    """On a pseudo-terminal, names that hold escape sequences arrive without them."""
    run, qrels = tmp_path / "run", tmp_path / "qrels"
    run.write_bytes(b"q\x1b]0;owned\x07\x9b31m Q0 d 1 1 t\n".replace(b"\x9b", "\x9b\u202e".encode()))
    qrels.write_bytes(run.read_bytes().replace(b" Q0 d 1 1 t", b" 0 d 1"))
    ours, theirs = pty.openpty()
    words = ["evaluate", "--run", str(run), "--qrels", str(qrels), "--per-query", "--measures", "nDCG@10"]
    done = subprocess.Popen([sys.executable, "-m", "harness", *words], stdout=theirs, stderr=theirs, cwd=ROOT)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert done.wait(60) == 0, shown
    text = shown.decode()
    assert "q\ufffd]0;owned\ufffd\ufffd\ufffd31m" in text
    assert not OBEYED.search(text.replace("\r\n", "\n"))


def test_a_sentence_holds_no_escape(tmp_path: Path, harness: Callable[..., Done]) -> None:
    (tmp_path / "run").write_bytes(b"q \x1b[2J\n")
    (tmp_path / "qrels").write_bytes(b"q 0 d 1\n")
    done = harness("evaluate", "--run", tmp_path / "run", "--qrels", tmp_path / "\x1b[2Jqrels")
    assert (done.code, "\x1b" in done.err, done.err.count("\n")) == (2, False, 1)


def test_results_are_not_written_through_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "results", tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (outside / "d" / "precious").write_text("x")
    root.mkdir()
    (root / "m").symlink_to(outside)
    with pytest.raises(UserError, match="by a link"):
        ResultStore(root).write("m", "d", dict(RESULT))
    assert (outside / "d" / "precious").read_text() == "x"


def test_results_may_lie_behind_a_link(tmp_path: Path) -> None:
    """A results folder of one's own that is a link, and cells that are links, are read; links to devices are not."""
    there = hostile_results(tmp_path / "there")
    (there / "loop").symlink_to(there)
    (there / "endless" / "d").mkdir(parents=True)
    (there / "endless" / "d" / "result.json").symlink_to("/dev/zero")
    (tmp_path / "results").symlink_to(there)
    found = list(ResultStore(tmp_path / "results").scan())
    assert sum(isinstance(one, dict) for one in found) == 3


def test_an_empty_name_replaces_nobody_elses_results(tmp_path: Path, harness: Callable[..., Done]) -> None:
    """A task without a name would lie where the model's folder is."""
    source = tmp_path / "mteb" / "a__b" / "r"
    source.mkdir(parents=True)
    for name, value in (("SciFact", 0.5), ("", 0.4)):
        content = {"task_name": name, "scores": {"test": [{"ndcg_at_10": value}]}}
        (source / f"{name or 'x'}.json").write_bytes(dumped(content))
    harness("import", "--mteb", tmp_path / "mteb", "--results", tmp_path / "results")
    found = [one["measures"]["nDCG@10"] for one in ResultStore(tmp_path / "results").scan() if isinstance(one, dict)]
    assert sorted(found) == [0.4, 0.5]


def test_the_audit_finds_nothing_here_and_something_elsewhere(tmp_path: Path) -> None:
    if not (ROOT / ".ci" / "audit.py").exists():
        pytest.skip("no checkout")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    pins = (ROOT / "constraints.txt").read_text().replace("\nclick==", "\nclick==0.")
    (tmp_path / "constraints.txt").write_text(pins)
    done = subprocess.run([sys.executable, str(tmp_path / ".ci" / "audit.py")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "click" in done.stderr
    assert "constraints.txt pins 0." in done.stderr
    assert "advisories were not consulted" in done.stderr
