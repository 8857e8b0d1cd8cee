"""Throughput of encoding, by model and role."""

from __future__ import annotations

from typing import Any

from harness.models.runner import Prepared


def rates(model: Prepared) -> list[dict[str, Any]]:
    """What a model and its members encoded since the last call, by model and role; empty where all was stored."""
    found = [rate for member in model.members for rate in rates(member)]
    for role, tally in model.tallies.items():
        if not tally.texts or not tally.seconds:
            continue
        rate = {
            "model": model.label,
            "role": role,
            "texts": tally.texts,
            "tokens": tally.tokens,
            "seconds": round(tally.seconds, 4),
            "texts_per_second": tally.texts / tally.seconds,
        }
        if tally.tokens:
            rate["tokens_per_second"] = tally.tokens / tally.seconds
        found.append(rate)
    model.tallies = {}
    return found


def rate_sentence(rate: dict[str, Any]) -> str:
    """One of `rates` as a sentence."""
    what = "documents" if rate["role"] == "document" else "queries"
    said = f"{rate['model']} encoded {rate['texts']:,} {what}, {rate['texts_per_second']:,.1f} a second"
    if "tokens_per_second" in rate:
        said += f", {rate['tokens_per_second']:,.0f} tokens a second"
    return said
