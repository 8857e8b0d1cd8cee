"""``python -m benchmarks.gpu``: runs the parts one after another, each in a process with a time limit.

The page and the JSON are rewritten after every part; the exit code is 1 if any part failed or did not finish.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
from tabulate import tabulate

from benchmarks.gpu.part import Setup
from benchmarks.runner.contest import ROOT
from harness.system.environment import git_state, machine


class Part(NamedTuple):
    """A part and the seconds it may take."""

    title: str
    seconds: int


PARTS = {
    "agreement": Part("The FlexAttention pass against transformers", 90),
    "encode": Part("Encoding against sentence-transformers, bfloat16", 220),
    "search": Part("Exact search", 130),
    "train": Part("A training step of the three experiments", 130),
}
"""``benchmarks/gpu/NAME.py`` has its ``run``; together below 10 minutes."""
REHEARSED = 10
"""Times these that a rehearsal may take: it runs on any processor, beside other work."""
PACKAGES = ("torch", "triton", "transformers", "sentence-transformers", "faiss-gpu", "faiss-cpu", "flash-attn", "numpy")
Result = dict[str, Any]


@click.command()
@click.option("--weights", envvar="GPU_WEIGHTS", default="", help="Folder with mpnet and minilm, whole or in parts.")
@click.option(
    "--output", default=ROOT / "benchmarks" / "results", type=click.Path(path_type=Path), help="For the page."
)
@click.option(
    "--part", "chosen", multiple=True, type=click.Choice([*PARTS]), help="Only this part; repeat for several."
)
@click.option("--device", default="cuda", show_default=True, help="torch's name of the device.")
@click.option("--small", is_flag=True, help="Tiny models and few texts: a rehearsal, also with --device cpu.")
def main(weights: str, output: Path, chosen: tuple[str, ...], device: str, small: bool) -> None:
    """Check and measure what needs a GPU; writes gpu.md and gpu.json."""
    if weights and not Path(weights).is_dir():
        raise click.UsageError(f"There is no folder {weights}; name one with mpnet and minilm, or omit --weights.")
    _require(device, small)
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Result] = {}
    about = _about(device, small)
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        setup = Setup(scratch, device, small, str(Path(weights).resolve()) if weights else "")
        for name in chosen or PARTS:
            seconds = PARTS[name].seconds * (REHEARSED if small else 1)
            click.echo(f"{name}: at most {seconds} s", err=True)
            results[name] = run_part(name, setup, seconds)
            click.echo(f"{name}: {results[name]['status']} in {results[name]['seconds']:.0f} s", err=True)
            (output / "gpu.json").write_text(json.dumps({**about, "parts": results}, indent=1) + "\n")
            (output / "gpu.md").write_text(page(about, results))
    click.echo((output / "gpu.md").read_text())
    sys.exit(any(result["status"] != "passed" for result in results.values()))


def _require(device: str, small: bool) -> None:
    if importlib.util.find_spec("torch") is None:
        raise click.UsageError("This Python has no torch; set PYTHON to one that has.")
    if device == "cpu" and not small:
        raise click.UsageError("On a CPU there is only the rehearsal; add --small.")
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise click.UsageError("torch finds no CUDA device; rehearse with --small --device cpu.")


def run_part(name: str, setup: Setup, seconds: float) -> Result:
    """Run a part in a process group of its own, which is killed after ``seconds``."""
    given, found = Path(setup.scratch) / "setup.json", Path(setup.scratch) / f"{name}.json"
    given.write_text(json.dumps(asdict(setup)))
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu.part", name, str(given), str(found)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=sys.stderr)
    reason = ""
    try:
        code = process.wait(timeout=seconds)
        reason = f"it ended with status {code}" if code not in (0, 1) else ""
    except subprocess.TimeoutExpired:
        reason = f"it was stopped after its {seconds:.0f} seconds"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that compile kernels
        process.wait()
    result: Result = {"rows": [], "notes": [], "failures": []}
    with suppress(OSError):
        result |= json.loads(found.read_text())
    if reason or not (result.pop("finished", False) or result["failures"]):
        result["failures"].append(reason or "it ended before it was finished")
    status = "failed" if result["failures"] else "passed"
    return {"status": status, "seconds": round(time.perf_counter() - start, 1), "limit": seconds, **result}


def _about(device: str, small: bool) -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    name, commit = device, git_state(ROOT)
    if device != "cpu":
        import torch

        name = torch.cuda.get_device_name(device)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": name,
        "small": small,
        "machine": machine(),
        "versions": versions,
        "commit": commit["commit"] if commit else None,
    }


def page(about: Mapping[str, Any], results: Mapping[str, Result]) -> str:
    """The results as Markdown."""
    machine, versions = about["machine"], ", ".join(f"{name} {one}" for name, one in about["versions"].items())
    lines = [
        "# GPU",
        "",
        f"{about['device']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; {versions}; code {(about['commit'] or 'unknown')[:10]}; "
        f"{about['started']}. "
        + ("A rehearsal at toy size: its speeds mean nothing. " if about["small"] else "")
        + "Made by `bash benchmarks/gpu.sh`.",
        "",
    ]
    for name, result in results.items():
        lines += [f"## {PARTS[name].title}", "", f"{result['status'].capitalize()} in {result['seconds']:.0f} s.", ""]
        if rows := result["rows"]:
            cells = [{column: _cell(column, value) for column, value in row.items()} for row in rows]
            lines += [tabulate(cells, headers="keys", tablefmt="pipe", disable_numparse=True), ""]
        lines += [*(f"- failed: {reason}" for reason in result["failures"]), *(f"- {note}" for note in result["notes"])]
        lines.append("")
    return "\n".join(lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "—"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if column.startswith("share"):
        return f"{value:.1%}"
    if "cosine" in column:
        return f"{value:.6f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running part is killed
    main()
