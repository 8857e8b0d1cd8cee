"""What is typed after -m: taken apart, put together again, refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.registry.manager import ModelRef, Registry, load_registry
from harness.registry.parser import parse, typed
from harness.types import UserError

REGISTRY = load_registry()


@pytest.fixture
def registry() -> Registry:
    return REGISTRY


@pytest.mark.parametrize(
    ("text", "name", "members", "options"),
    [
        ("bm25", "bm25", None, {}),
        ("bm25:k1=0.9,b=0.4", "bm25", None, {"k1": "0.9", "b": "0.4"}),
        ("rrf(bm25,minilm)", "rrf", ["bm25", "minilm"], {}),
        (" rrf ( bm25 , minilm ):k=20", "rrf", ["bm25", "minilm"], {"k": "20"}),
        ("rrf(bm25:k1=0.9,b=0.4,x):k=20,depth=5", "rrf", ["bm25:k1=0.9,b=0.4", "x"], {"k": "20", "depth": "5"}),
        ("rrf(minilm,bm25:k1=0.9, b=0.4)", "rrf", ["minilm", "bm25:k1=0.9,b=0.4"], {}),
        ("rrf(rrf(a,b):k=1,depth=2,c)", "rrf", ["rrf(a,b):k=1,depth=2", "c"], {}),
        ("rrf(a:prompt=(q) ,dtype=float32,b:prompt=q )", "rrf", ["a:prompt=(q) ,dtype=float32", "b:prompt=q "], {}),
        ("rrf(./models(old)/x,/data/a:b/run:dtype=f32)", "rrf", ["./models(old)/x", "/data/a:b/run:dtype=f32"], {}),
        ("rerank(rrf(a,b)):model=path/to/folder", "rerank", ["rrf(a,b)"], {"model": "path/to/folder"}),
    ],
)  # fmt: skip
def test_a_text_is_taken_apart(text: str, name: str, members: list[str] | None, options: dict[str, str]) -> None:
    found = parse(text)
    assert found == (name, members, options)


def test_a_folder_with_parentheses_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model(1)").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse("model(1):dtype=float32") == ("model(1)", None, {"dtype": "float32"})
    assert parse("rrf(model(1),bm25)").members == ["model(1)", "bm25"]


def test_a_name_longer_than_any_folder_is_taken_apart() -> None:
    members = [f"model{number}" for number in range(100)]
    assert parse(f"rrf({','.join(members)})").members == members


def test_a_composite_has_its_members_in_label_and_key(registry: Registry) -> None:
    ref = registry.model("rrf(bm25:k1=1.2, bm25:b=0.75,k1=2):k=20")
    assert ref.label == "rrf(bm25:k1=1.2,bm25:b=0.75,k1=2.0):k=20.0"
    assert ref.options == {"k": 20, "depth": 1000}
    assert [member.options["k1"] for member in ref.members] == [1.2, 2]
    others = [
        "rrf(bm25,bm25:b=0.75,k1=2):k=20",
        "rrf(bm25:k1=1.2,bm25:b=0.75,k1=2)",
        "rrf(bm25:b=0.75,k1=2,bm25:k1=1.2):k=20",
    ]
    assert len({ref.key, *(registry.model(other).key for other in others)}) == 4
    assert registry.model("rrf(bm25,bm25:b=0.75)").key == registry.model("rrf(bm25:k1=0.9,bm25:b=0.75):k=60").key


def test_passed_options_reach_the_members_that_have_them(registry: Registry) -> None:
    ref = registry.model("rrf(bm25,rrf(minilm,mpnet:dtype=bfloat16))").passing(dtype="float32")
    assert ref.label == "rrf(bm25,rrf(minilm:dtype=float32,mpnet:dtype=bfloat16))"
    assert {"msmarco", "quora"} <= set(ref.trained_on)


PLAIN = st.builds(
    lambda k1, b: "bm25" + (f":k1={k1},b={b}" if b else f":k1={k1}" if k1 else ""),
    st.floats(0, 5).map(lambda x: round(x, 3)),
    st.floats(0, 1).map(lambda x: round(x, 3)),
)


def fused(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    options = st.sampled_from(["", ":k=20", ":depth=7,k=1.5"])
    members = st.lists(inner, min_size=2, max_size=3, unique_by=lambda text: REGISTRY.model(text).label)
    return st.builds(lambda m, o: f"rrf({','.join(m)}){o}", members, options)


@given(st.recursive(PLAIN, fused, max_leaves=6))
def test_a_label_is_read_as_the_model_it_was_made_from(text: str) -> None:
    ref = REGISTRY.model(text)
    again = REGISTRY.model(ref.label)
    assert (again.label, again.key) == (ref.label, ref.key)
    assert leaves(again) == leaves(ref)


def leaves(ref: ModelRef) -> list[object]:
    return [leaf for member in ref.members for leaf in leaves(member)] or [dict(ref.options)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rrf", ["'rrf' fuses no models", "rrf(bm25,minilm)"]),
        ("rrf(bm25)", ["fuses 1 model;"]),
        ("rrf(bm25,)", ["member is missing"]),
        ("rrf()", ["member is missing"]),
        ("rrf(bm25,bm52)", ["no model 'bm52'", "did you mean bm25"]),
        ("rff(bm25,minilm)", ["no model 'rff'", "did you mean rrf"]),
        ("rrf(bm25,minilm", ["not closed"]),
        ("rrf(bm25,minilm))", ["')' follows the members"]),
        ("rrf(bm25,minilm)k=2", ["'k=2' follows the members", "key=value"]),
        ("rrf(bm25,minilm):", ["':' follows the members"]),
        ("rrf(bm25,k1=2)", ["'k1=2'", "belongs to no member", "rrf(bm25:k1=0.9,minilm)"]),
        ("rrf(bm25,minilm):k1=2", ["no option of rrf 'k1'"]),
        ("rrf(bm25,minilm):depth=0", ["depth", "below 1"]),
        ("rrf(bm25,bm25)", ["names a model twice"]),
        ("bm25:k1=rrf(bm25,minilm)", ["'minilm)'", "not an option", "before the colon"]),
        ("bm25(minilm)", ["bm25 is a lexical model", "not made of others"]),
        ("minilm()", ["member is missing"]),
        ("rerank:model=x", ["reranks one model", "rerank(bm25)"]),
        ("rerank(bm25,minilm):model=x", ["one model, not 2", "rerank(rrf(bm25,minilm))"]),
        ("rerank(bm25)", ["needs a folder", "rerank(bm25):model=path/to/folder"]),
        ("rrf(bm25,./no/such/folder)", ["no folder ./no/such/folder"]),
    ],
)  # fmt: skip
def test_what_cannot_be_combined_is_one_clear_sentence(registry: Registry, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        registry.model(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["bm25", "bm25:k1=1.2,fields=multifield", "rrf(bm25:b=0.1,minilm:dtype=float32):k=20.0", "rrf(bm25,minilm)"]
)
def test_what_was_typed_is_had_again_from_a_record(text: str, registry: Registry) -> None:
    def record(ref: ModelRef) -> dict:
        return {"name": ref.spec.name, "passed": dict(ref.passed), "members": [record(each) for each in ref.members]}

    assert typed(record(registry.model(text))) == text
    assert typed({}) == ""
