"""The language of criteria."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_reports.claims.criteria import ComparisonCriterion, Coverage, SyntaxFault, parse_criterion


@pytest.mark.parametrize(
    ("text", "factors", "relation", "threshold", "measure", "place"),
    [
        ("isotropy - baseline on beir18 >= 1.0", {"isotropy": 1, "baseline": -1}, ">=", 1.0, None, "beir18"),
        ("isotropy - baseline >= 1.0 on beir18", {"isotropy": 1, "baseline": -1}, ">=", 1.0, None, "beir18"),
        ("isotropy > 48 on beir18", {"isotropy": 1}, ">", 48.0, None, "beir18"),
        ("a+1.5<=b", {"a+1.5": 1, "b": -1}, "<=", 0.0, None, None),
        ("a + 1.5 <= b", {"a": 1, "b": -1}, "<=", -1.5, None, None),
        ("- a + 2 < - 3 - b", {"a": -1, "b": 1}, "<", -5.0, None, None),
        ("geometry.documents.isotropy of a > b on x", {"a": 1, "b": -1}, ">", 0.0, "geometry.documents.isotropy", "x"),
        ("P(rel=2)@5 of e5-base-v2>=10", {"e5-base-v2": 1}, ">=", 10.0, "P(rel=2)@5", None),
        ("'rrf(a, b)' - 'of' > 0 on 'my set'", {"rrf(a, b)": 1, "of": -1}, ">", 0.0, None, "my set"),
        ("a + a >= 3", {"a": 2}, ">=", 3.0, None, None),
        ("bm25:k1=0.9|b > 1", {"bm25:k1=0.9|b": 1}, ">", 1.0, None, None),
    ],
)
def test_comparisons(text, factors, relation, threshold, measure, place) -> None:
    found = parse_criterion(text)
    assert isinstance(found, ComparisonCriterion)
    assert (dict(found.factors), found.relation, found.threshold) == (factors, relation, threshold)
    assert (found.measure and found.measure.text, found.place and found.place.text) == (measure, place)
    for name in (*found.models, *filter(None, (found.measure, found.place))):
        assert name.text in (text[name.at :][: len(name.text)], text[name.at + 1 :][: len(name.text)])


@pytest.mark.parametrize(
    ("text", "models", "count", "place"),
    [
        ("all 18 measured", [], "18", None),
        ("all measured on beir18", [], None, "beir18"),
        ("a, b,c measured on fiqa", ["a", "b", "c"], None, "fiqa"),
    ],
)
def test_coverages(text, models, count, place) -> None:
    found = parse_criterion(text)
    assert isinstance(found, Coverage)
    assert [name.text for name in found.models] == models
    assert (found.count and found.count.text, found.place and found.place.text) == (count, place)


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("", 0, "it ends"),
        ("a", 1, "it ends"),
        ("a >=", 4, "it ends"),
        ("a > 1 on", 8, "it ends"),
        ("a = 1", 2, "'='"),
        ("a > > 1", 4, "'>'"),
        ("a > 1 b", 6, "'b'"),
        ("1 > 2", 0, "numbers alone"),
        ("a on x > b on y", 11, "second"),
        ("a - a > 1", 4, "cancels out"),
        ("a > 'b", 4, "quote is not closed"),
        ('a > "b"', 4, "means nothing"),
        ("a, b > 1", 1, "','"),
        ("a b measured", 2, "'b'"),
        ("all 18 measured on", 18, "it ends"),
        ("of of a > 1", 0, "'of'"),
        ("all > 1", 0, "'all'"),
        ("a > " + "9" * 400, 4, "too large"),
        ("__import__('os').system('x') > 1", 11, "where"),
    ],
)
def test_faults_are_told_by_place(text: str, at: int, said: str) -> None:
    with pytest.raises(SyntaxFault, match=re.escape(said)) as fault:
        parse_criterion(text)
    assert fault.value.at == at


@given(st.text(alphabet="ab1.'\"<>=+-, of on all measured@()|\n\té", max_size=40))
def test_any_text_is_a_criterion_or_a_fault_inside_it(text: str) -> None:
    at = 0
    try:
        parse_criterion(text)
    except SyntaxFault as fault:
        at = fault.at
    assert 0 <= at <= len(text)
