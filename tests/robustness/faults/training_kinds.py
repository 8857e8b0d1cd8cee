"""A training run that was killed, and of which the disk then damages a file: resumed to the same weights, or refused.

Unlike the other kinds it needs torch, and every command is a process that imports it: some seconds a case.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.robustness.faults import damage
from tests.robustness.faults.suite import Ended, Skipped, Suite, Verdict, one_sentence

WRITE_BASE = """
import string, sys, torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

torch.manual_seed(0)
marks = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
words = Tokenizer(models.WordPiece({w: i for i, w in enumerate([*marks.values(), *letters])}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
words.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
)
named = {f"{name}_token": mark for name, mark in marks.items()}
fast = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **named)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
config = BertConfig(vocab_size=len(fast), max_position_embeddings=80, pad_token_id=1, **sizes)
BertModel(config).eval().save_pretrained(sys.argv[1] + "/transformer")
fast.save_pretrained(sys.argv[1] + "/transformer")
modules = [Transformer(sys.argv[1] + "/transformer", max_seq_length=48), Pooling(16, "mean")]
SentenceTransformer(modules=modules).save_pretrained(sys.argv[1] + "/base", create_model_card=False)
"""
SETTINGS = {
    **{"dim": 8, "epochs": 3, "learning_rate": 1e-3, "head_learning_rate": 5e-3, "batch_size": 16},
    **{"dev_queries": 10, "eval_steps": 4, "save_steps": 2, "slices": 16},
}
PATIENCE = 300.0


class _Prepared(NamedTuple):
    words: list[str]
    killed: Path
    """Runs and home of a run that was killed."""
    weights: dict[str, str]
    """What an undisturbed run leaves."""


_MADE: dict[Path, _Prepared] = {}


def damaged_training(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """One file that the run reads when it resumes: a bit flipped, or torn."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "accelerate", "datasets")):
        raise Skipped("training needs the train extra")
    made = _MADE.get(suite.root) or _MADE.setdefault(suite.root, _prepare(suite.root / "training"))
    shutil.copytree(made.killed, place)
    steps = [path for path in place.glob("runs/*/*/steps/checkpoint-*/**/*") if path.is_file()]
    records = [*place.glob("runs/*/*/run.json"), *place.glob("home/triplets/*/*")]
    path = chance.choice([*steps, *steps, *records])
    stamp, whole = path.stat(), path.read_bytes()
    path.write_bytes(chance.choice([damage.flip, damage.flip, damage.tear])(whole, chance))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    ended = _ended(_start(made.words, place))
    name = path.relative_to(place)
    if ended.status == 2 and path in records:
        wrong = one_sentence(ended)
    elif ended.status:
        wrong = f"it ended with {ended.status}: {ended.err[-400:]}"
    else:
        wrong = "" if _weights(place) == made.weights else "it ends with other weights"
    return Verdict(wrong and f"{name}: {wrong}")


def _prepare(folder: Path) -> _Prepared:
    folder.mkdir()
    subprocess.run([sys.executable, "-c", WRITE_BASE, str(folder)], check=True, capture_output=True)
    chance = random.Random(0)
    rows = [["".join(chance.choices("abcdefgh", k=5)) for _ in range(3)] for _ in range(120)]
    lines = [{"query": f"{q} x", "positive": f"{q} y", "negative": n} for q, _, n in rows]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["train", "isotropy", "--data", str(folder / "pairs.jsonl"), "--base", str(folder / "base")]
    words += [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    words += ["--report-to", "none", "--runs"]
    undisturbed = _ended(_start(words, folder / "whole"))
    assert undisturbed.status == 0, undisturbed.err
    process = _start(words, folder / "killed")
    while process.poll() is None and len([*(folder / "killed").glob("runs/*/*/steps/*/whole.json")]) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    _ended(process)
    assert [*(folder / "killed").glob("runs/*/*/steps/*/whole.json")], "the run was not killed in time"
    return _Prepared(words, folder / "killed", _weights(folder / "whole"))


def _start(words: list[str], place: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "HARNESS_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness", *words, str(place / "runs")]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def _ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err)


def _weights(place: Path) -> dict[str, str]:
    files = sorted(place.glob("runs/*/*/checkpoint/**/*.safetensors"))
    return {f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


WORK = {"training damaged": (damaged_training, 10)}
"""Kind -> its work, and cases for every 1,000 kills."""
