"""The deployment files in docs/deploy, run dry: as far as one machine without Docker and SLURM can tell, they work."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest

from harness.cli.main import State, cli
from tests.conftest import ROOT
from tests.pools import threads

DEPLOY = ROOT / "docs" / "deploy"
STUBS = {
    "sbatch": """
while [[ "$1" == -* ]]; do shift; done
export SLURM_JOB_NODELIST='node[1-3]' SLURM_CPUS_PER_TASK=1
exec bash "$@"
""",
    "scontrol": """
[ "$*" = "show hostnames node[1-3]" ] && printf 'node1\\nnode2\\nnode3\\n'
""",
    "srun": """
while [[ "$1" == --* ]]; do
  case "$1" in --nodes=1|--ntasks=1|--nodelist=node[1-3]|--export=ALL) shift;; *) echo "srun: $1?" >&2; exit 1;; esac
done
echo "$@" >> "$STUB_LOG"
exec "$@"
""",
    "hostname": "\n[ \"$1\" = --ip-address ] && echo '127.0.0.1 192.0.2.1'\n",
}


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def instructions(text: str) -> list[tuple[str, list[str]]]:
    """A Dockerfile's instructions and their words."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], shlex.split(line)[1:]) for line in lines]


def test_the_container_recipe_copies_what_there_is_and_installs_what_is_pinned() -> None:
    found = instructions((DEPLOY / "Dockerfile").read_text())
    assert found[0] == ("FROM", ["python:3.11-slim"])
    assert {name for name, _ in found} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
    copied = {source for name, words in found if name == "COPY" for source in words[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    [install] = [words for name, words in found if name == "RUN" and words[0] == "pip"]
    assert install[install.index("--constraint") + 1] in copied
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = install[-1].removeprefix(".[").removesuffix("]").split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    folders = {"harness", *project["tool"]["setuptools"]["packages"]["find"]["where"]} - {"."}
    assert folders <= copied, "a package is not copied into the image"
    assert {*project["project"]["license-files"], project["project"]["readme"]} <= copied
    for name, words in found:
        if name == "RUN":
            done = subprocess.run(["bash", "-n", "-c", shlex.join(words)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_the_workflow_of_a_results_repository_makes_the_site_and_deploys_it() -> None:
    from tests.documentation import parsed

    workflow = pytest.importorskip("yaml").safe_load((DEPLOY / "board.yml").read_text())
    started = workflow[True]  # YAML 1.1 reads the key "on" as true
    assert "results/**" in started["push"]["paths"]
    assert workflow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    [job] = workflow["jobs"].values()
    assert job["environment"]["name"] == "github-pages"
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
    assert used == [
        *("actions/checkout", "actions/setup-python", "actions/upload-pages-artifact", "actions/deploy-pages")
    ]
    install, make = (step["run"] for step in job["steps"] if "run" in step)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert shlex.split(install)[-1].removeprefix("retrieval-harness[").removesuffix("]") in extras
    given = parsed(make).params
    assert (given["results"], given["output"]) == (Path("results"), Path("public"))
    [upload] = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-pages-artifact")]
    assert upload["with"]["path"] == str(given["output"])
    [deploy] = [step for step in job["steps"] if step.get("uses", "").startswith("actions/deploy-pages")]
    assert job["environment"]["url"] == f"${{{{ steps.{deploy['id']}.outputs.page_url }}}}"


def test_the_cluster_file_is_one_that_ray_accepts() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the ray extra)")
    yaml = pytest.importorskip("yaml")
    from ray.autoscaler._private.util import prepare_config, validate_config

    stated = yaml.safe_load((DEPLOY / "ray.yaml").read_text())
    filled = prepare_config(stated)
    validate_config(filled)
    assert filled["max_workers"] == len(stated["provider"]["worker_ips"])
    assert [c for c in filled["head_start_ray_commands"] if "ray start --head --port=6379" in c]
    with pytest.raises(Exception, match="auht"):
        validate_config({**filled, "auht": {}})  # it does look


def test_the_commands_that_start_ray_have_only_options_that_ray_has() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the ray extra)")
    from ray.scripts.scripts import cli as ray_cli

    known = {option for parameter in ray_cli.commands["start"].params for option in parameter.opts}
    for file in ("ray.yaml", "benchmark.slurm"):
        text = (DEPLOY / file).read_text().replace("\\\n", " ")
        lines = [line.partition("ray start")[2] for line in text.splitlines() if "ray start" in line]
        given = {word.partition("=")[0] for line in lines for word in line.split() if word.startswith("--")}
        assert given
        assert given <= known
    context = click.Context(cli, obj=State())
    benchmark: Any = cli.get_command(context, "benchmark")
    ours = {option for parameter in benchmark.params for option in parameter.opts}
    assert {"--executor", "--address", "--workers", "--cpus-per-task"} <= ours


RAY = """
import socket, sys, time

if "--head" in sys.argv:
    [port] = [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--port=")]
    listening = socket.create_server(("127.0.0.1", port))
time.sleep(60)
"""
"""A stand-in: its head can be reached until it is killed."""
HARNESS = """
import json, os, pathlib, sys

pathlib.Path(os.environ["STUB_LOG"]).with_name("harness.json").write_text(json.dumps(sys.argv[1:]))
"""


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["stand-ins", "real"])
def test_the_slurm_script_brings_up_a_cluster_benchmarks_on_it_and_takes_it_down(
    real: bool, toy: Path, tmp_path: Path
) -> None:
    """sbatch, scontrol and srun are stand-ins, and so are Ray and the benchmark where they are not ``real``."""
    if real:
        pytest.importorskip("ray", reason="Ray is not installed (the ray extra)")
        pytest.importorskip("bm25s", reason="bm25 needs its extra")
    script = DEPLOY / "benchmark.slurm"
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    programs = tmp_path / "programs"
    programs.mkdir()
    modules = {"harness": "-m harness", "ray": "-m ray.scripts.scripts"}
    if not real:
        modules = {"harness": f"-c {shlex.quote(HARNESS)}", "ray": f"-c {shlex.quote(RAY)}"}
    commands = {name: f'\nexec {sys.executable} {module} "$@"\n' for name, module in modules.items()}
    for name, body in {**STUBS, **commands}.items():
        (programs / name).write_text("#!/usr/bin/env bash\n" + body.lstrip())
        (programs / name).chmod(0o755)
    environment = {**threads(1), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"STUB_LOG": str(tmp_path / "srun.log"), "RAY_PORT": (port := free_port()), "CORES_PER_WORKER": "1"}
    words = ["-m", "bm25", "-d", str(toy), "--results", str(tmp_path / "results"), "--json"]
    command = ["sbatch", "--nodes=3", str(script), *words]
    refused = subprocess.run(command, env=environment | {"HARNESS_HOME": ""}, capture_output=True, text=True)
    assert refused.returncode
    assert "a folder that every node sees" in refused.stderr
    environment |= {"HARNESS_HOME": str(tmp_path / "home")}
    job = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = job.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGTERM)
    assert job.returncode == 0, err
    if real:
        [cell] = json.loads(out)
        assert cell["measures"]["nDCG@10"] > 0.5
        log = (tmp_path / "home" / "logs" / "benchmark.jsonl").read_text().splitlines()
        assert sum(json.loads(line)["event"] == "worker ready" for line in log) >= 1
    else:
        cluster = ["--executor", "ray", "--address", f"127.0.0.1:{port}", "--workers", "3", "--cpus-per-task", "1"]
        assert json.loads((tmp_path / "harness.json").read_text()) == ["benchmark", *words, *cluster]
    started = (tmp_path / "srun.log").read_text().splitlines()
    assert sum("ray start --head" in line for line in started) == 1
    assert sum(f"ray start --address=127.0.0.1:{port}" in line for line in started) == 2
    left = subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"], capture_output=True)
    assert left.returncode, "the cluster outlived the job"
