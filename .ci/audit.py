"""What is installed, examined without a network: ``python .ci/audit.py [--advisories]``; exit code 1 for a finding.

Every package that the project's extras reach is pinned in constraints.txt at the version that is installed, states its
licence, and fits the others (pip check). ``--advisories`` asks pip-audit about the pinned versions as well, which takes
a network and a minute; without it, or where the service does not answer, one line says that nobody was asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PINS = Path(__file__).parents[1] / "constraints.txt"
PROJECT = "retrieval-harness"
BUILDERS = {"pip", "setuptools", "wheel"}
"""Whatever made the environment brought these."""


def plain(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """Name -> version of every line ``name==version``."""
    return {plain(found[1]): found[2] for found in re.finditer(r"^([\w.-]+)==([^\s;#]+)", text, re.M)}


def reached() -> Iterator[Distribution]:
    """Every installed distribution that the project's requirements lead to, each once."""
    project = distribution(PROJECT)
    todo = [(PROJECT, extra) for extra in ("", *project.metadata.get_all("Provides-Extra", []))]
    seen: set[tuple[str, str]] = set()
    names: set[str] = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        if name not in names and name != PROJECT:
            names.add(name)
            yield found
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(plain(needed.name), each) for each in ("", *needed.extras)]


def findings(pins: dict[str, str]) -> Iterator[str]:
    """What is wrong, a sentence each."""
    for found in sorted(reached(), key=lambda each: plain(each.metadata["Name"])):
        name, version = plain(found.metadata["Name"]), found.version.partition("+")[0]
        if name not in pins and name not in BUILDERS:
            yield f"{name} {version} is installed, but constraints.txt does not pin it"
        elif pins.get(name, version) != version:
            yield f"{name} {version} is installed, but constraints.txt pins {pins[name]}"
        classified = [line for line in found.metadata.get_all("Classifier", []) if line.startswith("License")]
        if not (found.metadata.get("License-Expression") or found.metadata.get("License") or classified):
            yield f"{name} {version} states no licence"
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if done.returncode:
        yield from (f"pip check: {line}" for line in done.stdout.splitlines())


def advisories() -> tuple[list[str], str]:
    """What pip-audit finds against the pinned versions, and why it was not asked (of all); either may be empty."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip"]
    command += ["--timeout", "5", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        told = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return [], "pip-audit's service did not answer in time"
    except (ValueError, KeyError, TypeError):
        return [], f"pip-audit failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:160]}"
    skipped = sum("skip_reason" in each for each in told)
    found = [
        f"{each['name']} {each['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version'}"
        for each in told
        for fault in each.get("vulns", ())
    ]
    return found, f"its service knows nothing of {skipped} of {len(told)} packages" if skipped else ""


def main(words: list[str]) -> None:
    """Prints what was found and what was not asked."""
    found = list(findings(pinned(PINS.read_text(encoding="utf-8"))))
    unasked = "make audit asks"
    if "--advisories" in words:
        told, unasked = advisories()
        found += told
    for sentence in found:
        print(f"audit: {sentence}", file=sys.stderr)
    if unasked:
        print(f"audit: advisories were not consulted ({unasked})", file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main(sys.argv[1:])
