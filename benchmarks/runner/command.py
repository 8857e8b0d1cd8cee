"""A competitor that is a command: every round is a process from its start to its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from benchmarks.runner.worker import die_with_parent


class Command:
    """Runs ``words`` (``{python}`` is this environment's interpreter), or ``warm`` in the warm-up round.

    Before every round the ``fresh`` files and folders are removed and the ``links`` (link -> target) created; with
    ``first`` the command also runs once while loading, to fill caches.
    """

    def __init__(
        self,
        words: list[str],
        variables: dict[str, str] | None = None,
        fresh: tuple[str, ...] = (),
        links: dict[str, str] | None = None,
        first: bool = False,
        warm: list[str] | None = None,
    ) -> None:
        self.words, self.lighter = words, warm or words
        self.variables, self.fresh, self.links = variables or {}, fresh, links or {}
        self.out, self.peak = "", 0
        if first:
            self.ready()
            self.work()

    def ready(self) -> None:
        """Prepare the files for a round."""
        for path in map(Path, self.fresh):
            if path.is_symlink() or path.is_file():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)
        for link, target in self.links.items():
            place = Path(link)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(target)

    def warm(self) -> None:
        """Run the warm-up command, if any."""
        self._run(self.lighter)

    def work(self) -> None:
        """Run the command; RuntimeError with the end of its output where it fails."""
        self._run(self.words)

    def _run(self, words: list[str]) -> None:
        words = [sys.executable if word == "{python}" else word for word in words]
        environment = {**os.environ, **self.variables}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(words, stdout=out, stderr=errors, env=environment, preexec_fn=die_with_parent)
            _, status, usage = os.wait4(process.pid, 0)  # of this process; getrusage: maximum over all children
            process.returncode, self.peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
            self.out, said = (_read(stream) for stream in (out, errors))
        if process.returncode:
            last = [line for line in said.splitlines() if line.strip()][-1:]
            raise RuntimeError(": ".join([f"status {process.returncode}", *last]))

    def answer(self) -> dict[str, Any]:
        """nDCG@10 from its JSON output, if any: the harness's list of cells, or an object on the last line."""
        try:
            found = json.loads(self.out)
        except ValueError:
            lines = self.out.strip().splitlines()
            found = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        if isinstance(found, list) and found:
            found = found[0].get("measures", {})
        return {"ndcg": found["nDCG@10"]} if isinstance(found, dict) and "nDCG@10" in found else {}


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")
