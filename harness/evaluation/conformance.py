"""Conformance of a model plug-in: checked on synthetic texts; failures are reported as messages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.encode import encode_texts
from harness.embeddings.formats import FORMATS, Format
from harness.embeddings.pooling import pool_fault
from harness.embeddings.transform import fit
from harness.errors import described, trace
from harness.models.runner import Prepared
from harness.registry import option_values
from harness.registry.manager import parse_options
from harness.registry.model_ref import ModelRef
from harness.registry.protocols import Fusion, Reranker
from harness.search.rerank import score_fault
from harness.types import Document, EncoderModel, Hits, LexicalModel, PluginError, Query, Role, TokenModel, UserError

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
ALIKE = ("Red moons are old.", "New banks got wet.")
"""Two texts of other words, equal in number and length: a model that knows no words gives both one vector."""
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
    trace: str = ""
    """The traceback, where something was raised."""


def check(model: Prepared) -> Iterator[Outcome]:
    """Every check that fits the model's kind, each yielded as it ends; a check that raises has failed.

    A fusion's or reranker's members are checked first, each as if it had been named.
    """
    for member in model.members:
        yield from (Outcome(f"{member.label}: {outcome.name}", outcome.fault) for outcome in check(member))
    yield _guarded("options survive being written and read again", lambda: _options(model.ref))
    yield _guarded("the fingerprint is the same twice", lambda: _fingerprint(model.ref))
    loaded = _guarded("it loads", lambda: _loads(model))
    yield loaded
    if loaded.fault:
        return
    match model.ref.spec.kind:
        case kind if kind in FORMATS:
            yield from _check_encoder(model.encoder, FORMATS[kind])
        case "lexical":
            yield from _check_lexical(model)
        case "fusion":
            yield from _check_fusion(model.fusion, len(model.members))
        case "reranker":
            yield from _check_reranker(model.reranker)
        case "transform":
            yield _guarded("the map is finite and fits its member's vectors", lambda: _fits(model))
        case "pooling":
            yield _guarded("a text of any length keeps finite vectors, no more than before", lambda: _pools(model))


def _guarded(name: str, run: Callable[[], str]) -> Outcome:
    try:
        return Outcome(name, run())
    except (UserError, PluginError) as error:
        return Outcome(name, str(error), trace(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the plug-in boundary: what its code raises is the finding
        return Outcome(name, f"it raised {described(error)}", trace(error))


def _options(ref: ModelRef) -> str:
    for key in ref.spec.options:
        value = ref.options[key]
        if (
            value is not None
            and parse_options(ref.spec, {key: option_values.read_option_values(option_values.written(value), key)})[key]
            != value
        ):
            return f"option {key}={value!r} comes back as something else"
    return ""


def _fingerprint(ref: ModelRef) -> str:
    again = replace(ref)  # without what the other has cached
    return "" if again.key == ref.key else "fingerprint() differs between two calls; nothing could ever be reused"


def _loads(model: Prepared) -> str:
    kind = model.ref.spec.kind
    loaded = getattr(model, "encoder" if kind in FORMATS else kind)  # raises if it is of another kind
    size = "depth" if model.members else "dim"
    value = getattr(loaded, size, 1)
    if model.ref.has_vectors or kind in FORMATS:
        _ = model.similarity  # raises where it is unknown
    return "" if isinstance(value, int) and value > 0 else f"{size} is {value!r}; it must be a positive integer"


def _fits(model: Prepared) -> str:
    base, steps = model.chain
    fit(steps, np.zeros(base.dense.dim), np.eye(base.dense.dim))  # raises where it is not
    return ""


def _pools(model: Prepared) -> str:
    for tokens in (1, 2, 7, 300):
        vectors = np.random.default_rng(tokens).standard_normal((tokens, 16)).astype(np.float32)
        for given in (vectors, np.repeat(vectors[:1], tokens, axis=0), np.zeros_like(vectors)):
            made = model.pooling.pool(given.copy())
            if fault := pool_fault(made, given):
                return f"of {tokens} vectors: {fault}"
            if not np.array_equal(made, model.pooling.pool(given.copy())):
                return f"of {tokens} vectors: calling it twice changes the vectors"
    return ""


def _check_encoder(model: EncoderModel, form: Format) -> Iterator[Outcome]:
    roles: tuple[Role, ...] = ("query", "document")

    def encode(texts: Sequence[str], role: Role = "document") -> Any:
        return encode_texts(model, "it", texts, role, form=form)

    def plain(texts: Sequence[str]) -> Any:
        return form.joined([model.encode(list(texts), role="document")], range(len(texts)), model.dim)

    def fault(texts: Sequence[str]) -> str:
        return form.fault(encode(texts), len(texts), model.dim)

    def shape(role: Role) -> str:
        return form.fault(model.encode(list(TEXTS), role=role), len(TEXTS), model.dim)

    def same(one: Any, other: Any, tolerance: float, what: str) -> str:
        worst = float(form.changes(one, other).max())
        told = f"{what} changes a vector by {worst:.1e} of its length (at most {tolerance:g})"
        return "" if worst <= tolerance else told

    for role in roles:
        yield _guarded(f"{role}: float32, one finite row per text", lambda role=role: shape(role))  # type: ignore[misc]
    yield _guarded(
        "the same texts give the same vectors", lambda: same(encode(TEXTS), encode(TEXTS), 0.0, "calling it twice")
    )

    def order() -> str:
        count = len(TEXTS)
        turned = form.joined([plain(TEXTS[::-1])], range(count)[::-1], model.dim)
        return same(plain(TEXTS), turned, TOLERANCE, "reversing the texts")

    def single() -> str:
        alone = form.joined([encode([text]) for text in TEXTS], range(len(TEXTS)), model.dim)
        return same(encode(TEXTS), alone, TOLERANCE, "encoding one text at a time")

    def distinct() -> str:
        texts = (*ALIKE, *TEXTS)
        vectors = encode(texts)
        rows = [vectors[place : place + 1] for place in range(len(texts))]
        for (text, one), (twin, other) in combinations(zip(texts, rows, strict=True), 2):
            if form.changes(one, other)[0] <= 1e-5:
                return f"different texts give one vector: {text!r} and {twin!r}; does the model know their words?"
        return ""

    yield _guarded("batch order does not matter", order)
    yield _guarded("batch size does not matter", single)
    yield _guarded("different texts give different vectors", distinct)
    yield _guarded("an empty text gives a finite vector", lambda: fault(["", "a"]))
    yield _guarded("a very long text gives a finite vector", lambda: fault(["word " * 50_000]))
    yield _guarded("any Unicode gives finite vectors", lambda: fault(UNICODE))
    if isinstance(model, TokenModel):
        yield _guarded(
            "tokenize() and encode_tokens() together are encode()",
            lambda: same(
                model.encode(list(TEXTS), role="document"),
                model.encode_tokens(model.tokenize(TEXTS, role="document"), role="document"),
                TOLERANCE,
                "tokenising apart",
            ),
        )


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


def _check_fusion(model: Fusion, members: int) -> Iterator[Outcome]:
    def found(*rows: int) -> Hits:
        return Hits(np.array(rows, np.int64), np.arange(len(rows), 0, -1) / 2)

    alike, nothing = found(7, 3, 5, 11), found()
    apart = [found(7, *range(20 * member, 20 * member + 9)) for member in range(1, members + 1)]

    def first() -> str:
        rows, scores = model.fuse(apart)
        return "" if rows[np.argmax(scores)] == 7 else f"every member has row 7 first, it has {rows[np.argmax(scores)]}"

    def whole() -> str:
        for lists in ([alike] * members, apart, [alike] + [nothing] * (members - 1), [nothing] * members):
            rows, scores = model.fuse(lists)
            given = {row for hits in lists for row in hits.rows.tolist()}
            if len(set(rows.tolist())) < len(rows) or not given >= set(rows.tolist()):
                return f"rows repeat or come from no member: {rows[:10]}"
            if scores.shape != rows.shape or not np.isfinite(scores).all():
                return f"not every row has a finite score: {scores[:10]}"
        return ""

    def again() -> str:
        same = all(map(np.array_equal, model.fuse(apart), model.fuse(apart)))
        return "" if same else "calling it twice changes the hits"

    yield _guarded("what every member puts first comes first", first)
    yield _guarded("members that agree, differ or find nothing", whole)
    yield _guarded("the same lists give the same hits", again)


def _check_reranker(model: Reranker) -> Iterator[Outcome]:
    pairs = [(query, text) for query in TEXTS[:2] for text in TEXTS]

    def valid(pairs: list[tuple[str, str]]) -> str:
        return score_fault(model.score(pairs), len(pairs))

    def same(again: Callable[[], NDArray[np.float32]], tolerance: float, what: str) -> str:
        scores = model.score(pairs).scores
        worst = float(np.abs(scores - again()).max() / max(float(np.abs(scores).max()), 1e-12))
        fault = f"{what} changes a score by {worst:.1e} of the largest (at most {tolerance:g})"
        return "" if worst <= tolerance else fault

    shaped = _guarded("float32, one finite score per pair", lambda: valid(pairs))
    yield shaped
    if shaped.fault:
        return
    yield _guarded(
        "the same pairs give the same scores", lambda: same(lambda: model.score(pairs).scores, 0.0, "calling it twice")
    )
    yield _guarded(
        "batch order does not matter",
        lambda: same(lambda: model.score(pairs[::-1]).scores[::-1], TOLERANCE, "reversing the pairs"),
    )
    yield _guarded(
        "batch size does not matter",
        lambda: same(
            lambda: np.concatenate([model.score([p]).scores for p in pairs]), TOLERANCE, "scoring one pair at a time"
        ),
    )
    odd = [*UNICODE, "", "word " * 50_000]
    yield _guarded("empty, very long and Unicode documents", lambda: valid([(TEXTS[0], text) for text in odd]))
    yield _guarded("empty, very long and Unicode queries", lambda: valid([(text, TEXTS[0]) for text in odd]))


def _build(model: LexicalModel, documents: list[Document], folder: Path) -> str:
    model.build(iter(documents), folder)
    return "" if any(folder.iterdir()) else "build() wrote nothing into the folder it was given"


def _count(found: list[tuple[list[int], list[float]]], expected: int) -> str:
    return "" if len(found) == expected else f"search() gave {len(found)} answers for {expected} queries"
