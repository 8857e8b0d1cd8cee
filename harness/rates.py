"""How fast a cell's texts were encoded, and what share of the machine's matrix-product speed that was."""

from __future__ import annotations

from typing import Any

from harness.prepared import Prepared
from harness.spec import CountedModel
from harness.throughput import products


def rates(model: Prepared) -> list[dict[str, Any]]:
    """What a model and its members encoded since the last call, by model and role; empty where all was stored.

    ``share`` is that of the speed of one large matrix product in the same dtype, on the same device: the operations
    counted are those that the texts need, so padding, softmax and tokenising lower it.
    """
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
        if tally.flops and isinstance(model.dense, CountedModel):
            dtype, device = model.dense.products
            most, flops = products(dtype, device, model.home), tally.flops / tally.seconds
            rate |= {
                "flops": flops,
                "products": {"dtype": dtype, "device": device, "flops": most},
                "share": flops / most,
            }
        found.append(rate)
    model.tallies = {}
    return found


def sentence(rate: dict[str, Any]) -> str:
    """One of `rates` in words."""
    what = "documents" if rate["role"] == "document" else "queries"
    said = f"{rate['model']} encoded {rate['texts']:,} {what}, {rate['texts_per_second']:,.1f} a second"
    if "tokens_per_second" in rate:
        said += f", {rate['tokens_per_second']:,.0f} tokens a second"
    if "share" in rate:
        most = rate["products"]
        said += f"; {rate['share']:.0%} of the {most['flops'] / 1e9:,.0f} GFLOP/s of a {most['dtype']} matrix product"
    return said
