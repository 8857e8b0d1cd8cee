"""Files outside a model's folder that loading reads: they affect the vectors and belong in the key.

An adapter (peft) names its base model, and sentence_bert_config.json may name another folder for the tokenizer. The
base may be a model of the hub with a copy on this machine. Other names that are not local folders are refused, since
the libraries would look them up on the hub, where content can change.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import ModelError
from harness.download.hub_models import find_base
from harness.download.local_weights import locate
from harness.storage.safe_load import read_json
from harness.system.paths import home_folder
from harness_plugins.model_folder.modules import Module, configurations
from harness_plugins.model_folder.pinned import MINILM, MPNET

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
BASE, TOKENIZER = "base_model_name_or_path", "tokenizer_name_or_path"
CURES = {
    BASE: "write the absolute path of its folder there, or merge the adapter into it (merge_and_unload) and save that",
    TOKENIZER: "save the model again, which puts its tokenizer beside it, or write an absolute path there",
}


def outside(modules: Iterable[Module], folder: Path) -> dict[str, Path]:
    """Key that names a folder (such as ``base_model_name_or_path``) -> the folder outside the model's own.

    Raises:
        ModelError: One of them is not a folder on this machine, or is an adapter itself.
    """
    found: dict[str, Path] = {}
    for module in modules:
        part = module.place.relative_to(folder).as_posix()
        for key, file, named in (*_bases(module.place), *_tokenizers(module)):
            place = Path(named)
            if not named or not place.is_dir():
                place = _local_copy(file, key, named)
            if key == BASE and (place / "adapter_config.json").is_file():
                raise ModelError(f"{file} names {named!r} as {key}, which is an adapter itself; {CURES[key]}.")
            prefix = key if part == "." else f"{part}/{key}"
            found[prefix] = place
            if part != "." and (place / part).is_dir():  # which one is read depends on the library's release
                found[f"{prefix}/{part}"] = place / part
    return found


def _local_copy(file: Path, key: str, named: str) -> Path:
    """The local copy of a base that has a hub name. ModelError if it is not on this machine."""
    hint = CURES[key]
    if key == BASE and HUB_NAME.fullmatch(named):
        pinned = next((weights for weights in (MPNET, MINILM) if named == weights.hub.partition("@")[0]), None)
        if found := (locate(pinned, home_folder()) if pinned else None) or find_base(named, home_folder()):
            return found
        hint = f"type: hf download {named} (or {hint})"
    raise ModelError(
        f"{file} names {named!r} as {key}, which is not a folder on this machine (looked for "
        f"{Path(named).absolute()}), and nothing is fetched for it; {hint}."
    )


@contextmanager
def with_local_bases(folder: Path) -> Iterator[Path]:
    """The folder or, if an adapter in it names its base as the hub does, links to its files and the base's local path.

    The libraries would otherwise look the name up by themselves.
    """
    bases = [each for file in folder.rglob("adapter_config.json") for each in _bases(file.parent)]
    renamed = {file: _local_copy(file, key, named) for key, file, named in bases if not Path(named).is_dir()}
    if not renamed:
        yield folder
        return
    with TemporaryDirectory() as temporary:
        links = Path(shutil.copytree(folder.absolute(), Path(temporary, folder.name), copy_function=os.symlink))
        for file, base in renamed.items():
            link = links / file.relative_to(folder)
            link.unlink()
            link.write_text(json.dumps({**read_json(file), BASE: str(base)}))
        yield links


def _bases(place: Path) -> list[tuple[str, Path, str]]:
    contents = configurations(place, "adapter_config.json")
    return [(BASE, place / "adapter_config.json", str(content.get(BASE) or "")) for content in contents]


def _tokenizers(module: Module) -> list[tuple[str, Path, str]]:
    contents = configurations(module.place, "sentence_*_config.json")
    file = module.place / "sentence_bert_config.json"
    return [(TOKENIZER, file, str(content[TOKENIZER])) for content in contents if content.get(TOKENIZER)]
