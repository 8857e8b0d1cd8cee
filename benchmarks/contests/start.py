"""Start-up time, and a benchmark whose results are all stored; full processes."""

from __future__ import annotations

import shutil

from benchmarks.runner.contest import Competitor, Contest, Plan
from benchmarks.runner.texts import weights

TARGET = "benchmarks.runner.command:Command"
HARNESS = ["{python}", "-m", "harness"]


def contests(plan: Plan) -> list[Contest]:
    """A help text; a suite reused."""
    model, home = "minilm", plan.work / "start-home"
    shutil.rmtree(home, ignore_errors=True)
    models = ["-m", "bm25"] if plan.size == "small" else ["-m", "bm25", "-m", model]
    suite = [*HARNESS, "benchmark", *models, "--suite", "demo", "--results", f"{home}/results"]
    reused = {
        "words": suite,
        "variables": {"HARNESS_HOME": str(home)},
        "links": {str(home / "models"): str(weights(model).parent)},
        "first": True,
    }
    return [
        Contest(
            title="The help text",
            competitors=[
                Competitor("harness --help", TARGET, {"words": [*HARNESS, "--help"]}),
                Competitor("harness models", TARGET, {"words": [*HARNESS, "models"]}),
                Competitor("mteb --help", TARGET, {"words": ["{python}", "-m", "mteb", "--help"]}, "mteb", ("mteb",)),
                Competitor("python, nothing imported", TARGET, {"words": ["{python}", "-c", "pass"]}),
                Competitor("python, numpy imported", TARGET, {"words": ["{python}", "-c", "import numpy"]}),
            ],
        ),
        Contest(
            title="A suite fully reused",
            competitors=[Competitor(f"harness benchmark {' '.join(models)} --suite demo", TARGET, reused)],
            notes=["the first run, which makes everything, is what loading takes"],
        ),
    ]
