"""A budget is never exceeded, whatever is reserved and settled in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.system.budget import Budget

REQUESTS = st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1), st.sampled_from([0.0, 0.1, 20.0])), max_size=40)


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.integers(0, 2000), st.floats(0, 0.02), st.randoms())
def test_it_is_never_exceeded(requests, tokens: int, cost: float, order) -> None:
    budget, under_way, sent, spent = Budget(tokens, cost), [], 0, 0.0
    for most, share, price in requests:
        if budget.reserve(most, price):
            under_way.append((most, int(most * share), price))
        while under_way and order.random() < 0.5:
            most, real, price = under_way.pop(order.randrange(len(under_way)))
            budget.settle(most, real, price)
            sent, spent = sent + real, spent + real * price / 1e6
            assert budget.tokens == sent <= tokens
            assert budget.cost == pytest.approx(spent, abs=1e-12)
            assert budget.cost <= cost + 1e-12
    for most, real, price in under_way:
        budget.settle(most, real, price)
    assert budget.tokens <= tokens
    assert budget.cost <= cost + 1e-12


def test_what_is_left_is_free_again_when_a_request_took_less() -> None:
    budget = Budget(max_tokens=100)
    assert budget.reserve(80, 0.0)
    assert not budget.reserve(30, 0.0)
    budget.settle(80, 10, 0.0)
    assert budget.reserve(90, 0.0)
    assert not budget.reserve(1, 0.0)


def test_without_limits_everything_is_allowed_and_counted() -> None:
    budget = Budget()
    assert budget.reserve(10**12, 1e6)
    budget.settle(10**12, 1234, 10.0)
    assert budget.summary() == "1,234 tokens in 1 request, 0.0123 USD"
    sentence = str(Budget(5, 0.5).used_up("m"))
    assert "m: the budget of --max-tokens 5 and --max-cost 0.5 is used up after 0 tokens in 0 requests" in sentence
