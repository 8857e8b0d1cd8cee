"""The page of the result schema, from its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def schema_page(file: Path) -> str:
    """Every field of ``result.json``: name, type and meaning, nested objects in sections of their own."""
    schema = json.loads(file.read_text(encoding="utf-8"))
    head = (
        "# Result schema\n\nThe fields of `results/MODEL/DATASET/result.json`. "
        f"[{file.name}](../{file.name}.md) is the same as JSON Schema, to validate results with.\n"
    )
    return "\n".join([head, *_sections("", schema)])


def _sections(path: str, schema: dict[str, Any]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    yield f"## {path}\n" if path else ""
    yield "| field | type | meaning |\n|---|---|---|"
    nested = []
    for name, field in schema.get("properties", {}).items():
        about = field.get("description", "").replace("|", "\\|")
        yield f"| `{name}` | {_type(field)}{', required' if name in required else ''} | {about} |"
        if "properties" in field:
            nested.append((f"{path}.{name}" if path else name, field))
    yield ""
    for below, field in nested:
        yield from _sections(below, field)


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    kind = field.get("type", "any")
    kinds = " or ".join(kind) if isinstance(kind, list) else kind
    for key, word in (("items", "of"), ("additionalProperties", "of")):
        if isinstance(inner := field.get(key), dict) and inner.get("type"):
            kinds += f" {word} {inner['type']}"
    return kinds
