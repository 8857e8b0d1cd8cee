"""What the tests of executors share: models that raise or kill their worker, and a dataset for them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import write_dataset
from tests.evaluation.test_resume import content as everything
from tests.evaluation.test_resume import texts
from tests.forked import run

PLUGIN = '''
"""Counts letters, with faults on demand."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import scipy.sparse

from harness import ModelSpec, Option, UserError, hookimpl

DIED = Path(__file__).with_name("died")


class Letters:
    dim = 32

    def __init__(self, options):
        self.fault, self.pause = options["fault"], options["pause"]
        if self.fault == "cannot load":
            raise UserError("These letters cannot be loaded; write them again.")

    def encode(self, texts, *, role):
        time.sleep(self.pause)
        if self.fault == "tells":
            DIED.with_name(f"sees-{os.getpid()}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "nothing"))
        if any("mark" in text for text in texts):
            self.act()
        letters = [np.frombuffer(text.encode(), np.uint8) % self.dim for text in texts]
        return np.asarray([np.bincount(row, minlength=self.dim) for row in letters], np.float32)

    def act(self):
        if self.fault == "raises":
            raise ValueError("no marks, please")
        if self.fault == "exits":
            raise SystemExit(0)
        if self.fault == "interrupts":
            raise KeyboardInterrupt
        if self.fault == "kills" or self.fault == "kills once" and not DIED.exists():
            DIED.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Terms(Letters):
    """The same counts as sparse vectors."""

    def encode(self, texts, *, role):
        return scipy.sparse.csr_array(super().encode(texts, role=role))


class Tokens(Letters):
    """A vector for each word: its counts of letters."""

    def encode(self, texts, *, role):
        words = super().encode([word for text in texts for word in text.split()], role=role)
        ends = np.cumsum([len(text.split()) for text in texts])
        return np.split(words, ends[:-1])


@hookimpl
def harness_models():
    options = {"fault": Option("", "what it does at the word mark"), "pause": Option(0.01, "seconds a batch")}
    yield ModelSpec("letters", "dense", f"{__name__}:Letters", "counts of letters", options=options)
    yield ModelSpec("terms", "sparse", f"{__name__}:Terms", "counts of letters, sparse", options=options)
    yield ModelSpec("tokens", "multivector", f"{__name__}:Tokens", "counts of letters by word", options=options)
'''


@dataclass
class Place:
    """A folder with the plug-in and a dataset of six shards, one of which holds the word ``mark``."""

    folder: Path
    plugin: Path
    dataset: Path

    def words(self, *models: str, results: str = "results") -> list[str]:
        """The command line of a benchmark."""
        named = [word for model in models for word in ("-m", model)]
        plugin, out = str(self.plugin), str(self.folder / results)
        return ["benchmark", "--plugin", plugin, *named, "-d", str(self.dataset), "--results", out, "--json"]

    @property
    def died(self) -> Path:
        """There once a worker has died; a model that kills once is harmless while it is."""
        return self.plugin.with_name("died")

    def devices(self) -> list[str]:
        """What the processes of ``fault=tells`` had for CUDA_VISIBLE_DEVICES, each once; forgotten then."""
        told = list(self.plugin.parent.glob("sees-*"))
        seen = sorted(file.read_text() for file in told)
        for file in told:
            file.unlink()
        return seen

    def await_shards(self, home: Path, count: int) -> None:
        """Returns when so many are stored."""
        end = time.monotonic() + 60
        while time.monotonic() < end and len(list((home / "vectors").glob("*/document/[0-9a-f]*.json"))) < count:
            time.sleep(0.02)


def make_place(folder: Path) -> Place:
    plugin = folder / "letters.py"
    plugin.write_text(PLUGIN)
    documents = {f"d{number}": text for number, text in enumerate(texts(1, 100))}
    documents["d40"] += " mark"
    queries = {f"q{number}": documents[f"d{number}"][:63] for number in range(8)}
    judged = [(query, f"d{query[1:]}", 1) for query in queries]
    return Place(folder, plugin, write_dataset(folder / "large", documents, queries, judged))


def content(root: Path) -> dict[str, bytes]:
    """What a benchmark leaves behind, its log apart."""
    return {name: data for name, data in everything(root).items() if "logs" not in Path(name).parts}


def left_by_one_process(place: Place, root: Path, *models: str) -> dict[str, bytes]:
    """What a benchmark in one process leaves behind: results, shards, lists, indexes."""
    words = place.words(*models)
    words[words.index("--results") + 1] = str(root / "results")
    done = run(words, {**threads(1), "HARNESS_HOME": str(root / "home")})
    assert done.returncode == 0, done.stderr
    return content(root)


def threads(count: int) -> dict[str, str]:
    """An environment whose numeric libraries use so many."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(count))}
