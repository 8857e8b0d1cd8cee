"""Files outside a model's folder that loading reads: they affect the vectors and belong in the key.

An adapter (peft) names its base model, and sentence_bert_config.json may name another folder for the tokenizer. Names
that are not local folders are refused, since the libraries would look them up on the hub, where content can change.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness import ModelError
from harness_plugins.model_folder.modules import Module, configurations

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
                raise ModelError(
                    f"{file} names {named!r} as {key}, which is not a folder on this machine (looked for "
                    f"{place.absolute()}), and nothing is fetched for it; {CURES[key]}."
                )
            if key == BASE and (place / "adapter_config.json").is_file():
                raise ModelError(f"{file} names {named!r} as {key}, which is an adapter itself; {CURES[key]}.")
            prefix = key if part == "." else f"{part}/{key}"
            found[prefix] = place
            if part != "." and (place / part).is_dir():  # which one is read depends on the library's release
                found[f"{prefix}/{part}"] = place / part
    return found


def _bases(place: Path) -> list[tuple[str, Path, str]]:
    contents = configurations(place, "adapter_config.json")
    return [(BASE, place / "adapter_config.json", str(content.get(BASE) or "")) for content in contents]


def _tokenizers(module: Module) -> list[tuple[str, Path, str]]:
    contents = configurations(module.place, "sentence_*_config.json")
    file = module.place / "sentence_bert_config.json"
    return [(TOKENIZER, file, str(content[TOKENIZER])) for content in contents if content.get(TOKENIZER)]
