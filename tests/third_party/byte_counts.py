"""A third party's dense baseline, whole: how often each byte occurs in a text."""

import numpy as np

from harness import ModelSpec, hookimpl


class ByteCounts:
    dim = 256

    def encode(self, texts, *, role):
        counts = [np.bincount(np.frombuffer(t.encode(), np.uint8), minlength=256) for t in texts]
        return np.asarray(counts, np.float32)


def load(options):
    return ByteCounts()


@hookimpl
def harness_models():
    yield ModelSpec(
        name="byte-counts", kind="dense", load=f"{__name__}:load", summary="counts of bytes", similarity="cosine"
    )
