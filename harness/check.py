"""Conformance of a model plug-in: what every model must do, tried on texts made for the purpose, told in words."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.encode import encode_texts, wrong
from harness.prepared import Prepared
from harness.registry import ModelRef, parse_options
from harness.spec import DenseModel, Document, LexicalModel, PluginError, Query, Role, TokenModel, UserError

TEXTS = (
    "The heart pumps blood through the body.",
    "Rust is a systems programming language.",
    "Photosynthesis turns light into sugar.",
    "A bond pays interest to its holder until it matures.",
    "short",
    "Penguins live in the southern hemisphere and cannot fly, but they swim very well.",
    "The court ruled that the contract was void.",
    "Sauerkraut is cabbage, salted and fermented.",
)
UNICODE = (
    "Straße, naïve café",
    "東京は日本の首都です",
    "اللغة العربية",
    "🙂🚀 emoji",
    "e\u0301 combining",
    "tab\tand\nnewline",
    "\u200b",
)
TOLERANCE = 2e-2
"""Largest relative difference of a vector when its neighbours in the batch change. Models in bfloat16 keep to it
(all-MiniLM-L6-v2 differs by 0.006); a model that reads its neighbours does not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check: passed when ``fault`` is empty."""

    name: str
    fault: str = ""


def check(model: Prepared) -> Iterator[Outcome]:
    """Every check that fits the model's kind, each yielded as it ends; a check that raises has failed."""
    yield _guarded("options survive being written and read again", lambda: _options(model.ref))
    yield _guarded("the fingerprint is the same twice", lambda: _fingerprint(model.ref))
    loaded = _guarded("it loads", lambda: _loads(model))
    yield loaded
    if loaded.fault:
        return
    if model.ref.spec.kind == "lexical":
        yield from _check_lexical(model)
    else:
        yield from _check_dense(model.dense)


def _guarded(name: str, run: Callable[[], str]) -> Outcome:
    try:
        return Outcome(name, run())
    except (UserError, PluginError) as error:
        return Outcome(name, str(error))
    except Exception as error:  # the plug-in boundary: what its code raises is the finding
        return Outcome(name, f"it raised {type(error).__name__}: {error}")


def _options(ref: ModelRef) -> str:
    for key, option in ref.spec.options.items():
        value = ref.options[key]
        if value is not None and parse_options(ref.spec, {key: str(value)})[key] != value:
            return f"option {key}={value!r} comes back as something else"
        if option.choices and option.default not in option.choices:
            return f"the default of option {key} ({option.default!r}) is not among its choices"
    return ""


def _fingerprint(ref: ModelRef) -> str:
    again = ModelRef(ref.spec, ref.options, ref.passed, ref.plugin, ref.members)
    return "" if again.key == ref.key else "fingerprint() differs between two calls; nothing could ever be reused"


def _loads(model: Prepared) -> str:
    loaded = model.lexical if model.ref.spec.kind == "lexical" else model.dense
    dim = getattr(loaded, "dim", 1)
    if model.ref.spec.kind == "dense":
        _ = model.similarity  # raises where it is unknown
    return "" if isinstance(dim, int) and dim > 0 else f"dim is {dim!r}; it must be a positive integer"


def _check_dense(model: DenseModel) -> Iterator[Outcome]:
    roles: tuple[Role, ...] = ("query", "document")

    def encode(texts: tuple[str, ...] | list[str], role: Role = "document") -> NDArray[np.float32]:
        return encode_texts(model, "it", texts, role)

    def shape(role: Role) -> str:
        given = model.encode(list(TEXTS), role=role)
        return wrong(given, len(TEXTS), model.dim)

    for role in roles:
        yield _guarded(f"{role}: float32, one finite row per text", lambda role=role: shape(role))  # type: ignore[misc]
    yield _guarded(
        "the same texts give the same vectors", lambda: _same(encode(TEXTS), encode(TEXTS), 0.0, "calling it twice")
    )

    def order() -> str:
        turned = model.encode(list(reversed(TEXTS)), role="document")[::-1]
        return _same(model.encode(list(TEXTS), role="document"), turned, TOLERANCE, "reversing the texts")

    def single() -> str:
        alone = np.concatenate([encode([text]) for text in TEXTS])
        return _same(encode(TEXTS), alone, TOLERANCE, "encoding one text at a time")

    def distinct() -> str:
        vectors = encode(TEXTS)
        return "different texts give one vector" if len(np.unique(vectors, axis=0)) == 1 else ""

    yield _guarded("batch order does not matter", order)
    yield _guarded("batch size does not matter", single)
    yield _guarded("different texts give different vectors", distinct)
    yield _guarded("an empty text gives a finite vector", lambda: wrong(encode(["", "a"]), 2, model.dim))
    yield _guarded("a very long text gives a finite vector", lambda: wrong(encode(["word " * 50_000]), 1, model.dim))
    yield _guarded("any Unicode gives finite vectors", lambda: wrong(encode(UNICODE), len(UNICODE), model.dim))
    if isinstance(model, TokenModel):
        yield _guarded(
            "tokenize() and encode_tokens() together are encode()",
            lambda: _same(
                model.encode(list(TEXTS), role="document"),
                model.encode_tokens(model.tokenize(TEXTS, role="document"), role="document"),
                TOLERANCE,
                "tokenising apart",
            ),
        )


def _same(one: NDArray[np.float32], other: NDArray[np.float32], tolerance: float, what: str) -> str:
    scale = np.maximum(np.linalg.norm(one, axis=1), 1e-12)
    worst = float((np.linalg.norm(one - other, axis=1) / scale).max())
    return "" if worst <= tolerance else f"{what} changes a vector by {worst:.1e} of its length (at most {tolerance:g})"


def _check_lexical(prepared: Prepared) -> Iterator[Outcome]:
    texts = (*TEXTS, *UNICODE, "", "word " * 50_000, TEXTS[0])
    documents = [Document(str(i), "", text) for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as name:
        made, folder = Path(name) / "made", Path(name) / "index"
        made.mkdir()
        built = _guarded(
            "it indexes empty, very long and Unicode documents", lambda: _build(prepared.lexical, documents, made)
        )
        yield built
        if built.fault:
            return
        made.rename(folder)  # as the harness does when the index is whole
        model: LexicalModel = prepared.ref.load()  # another process will search in it

        def find(texts: tuple[str, ...], k: int) -> list[tuple[list[int], list[float]]]:
            queries = [Query(str(i), text) for i, text in enumerate(texts)]
            return [(h.rows.tolist(), h.scores.tolist()) for h in model.search(folder, queries, k)]

        def finds() -> str:
            found = zip(TEXTS, find(TEXTS, 1), strict=True)
            missed = [text for text, (rows, _) in found if text not in [texts[row] for row in rows]]
            return f"searching a document's own text does not find it first: {missed[0]!r}" if missed else ""

        def ties() -> str:
            rows = find(TEXTS[:1], 1)[0][0]
            twins = [row for row, text in enumerate(texts) if text == TEXTS[0]]
            return (
                "" if set(twins) <= set(rows) else f"of the equal documents {twins} it gives {rows} when asked for one"
            )

        def whole() -> str:
            for rows, scores in find(TEXTS, 10 * len(texts)):
                if len(set(rows)) < len(rows) or any(not 0 <= row < len(texts) for row in rows):
                    return f"rows repeat or lie outside the corpus: {rows[:10]}"
                if len(scores) != len(rows) or not np.isfinite(scores).all():
                    return f"not every row has a finite score: {scores[:10]}"
            return ""

        yield _guarded("a document's own text finds it", finds)
        yield _guarded("documents that tie with the last one are all given", ties)
        yield _guarded("k larger than the corpus", whole)
        yield _guarded(
            "an empty, an unknown and a Unicode query",
            lambda: _count(find(("", "zzzzqqq", *UNICODE), 5), 2 + len(UNICODE)),
        )
        yield _guarded(
            "the same query gives the same hits",
            lambda: "" if find(TEXTS, 5) == find(TEXTS, 5) else "two searches differ",
        )


def _build(model: LexicalModel, documents: list[Document], folder: Path) -> str:
    model.build(iter(documents), folder)
    return "" if any(folder.iterdir()) else "build() wrote nothing into the folder it was given"


def _count(found: list[tuple[list[int], list[float]]], expected: int) -> str:
    return "" if len(found) == expected else f"search() gave {len(found)} answers for {expected} queries"
