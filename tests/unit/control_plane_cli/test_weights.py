"""Weights as users type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.weights import LARGEST, parse_weights, shares


def test_weights_keep_their_order_and_take_percent_signs() -> None:
    got = parse_weights(["v2=10", "v1=90%", "orders-v3=0"])
    assert list(got.items()) == [("v2", 10), ("v1", 90), ("orders-v3", 0)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["v1"], "'v1' is not a weight"),
        (["=5"], "'=5' is not a weight"),
        (["v1="], "'v1=': a weight is a whole number from 0 to 1000000"),
        (["v1=-1"], "'v1=-1': a weight is a whole number from 0 to 1000000"),
        (["v1=1.5"], "'v1=1.5': a weight is a whole number from 0 to 1000000"),
        (["v1=1000001"], "'v1=1000001': a weight is a whole number from 0 to 1000000"),
        (["v1=" + "9" * 5000], "a weight is a whole number"),
        (["v1=²"], "'v1=²': a weight is a whole number from 0 to 1000000"),
        (["v1=%"], "'v1=%': a weight is a whole number from 0 to 1000000"),
        (["v1=1", "v1=2"], "'v1' has two weights"),
        ([], "no weights given"),
    ],
)
def test_wrong_weights_are_named(arguments: list[str], says: str) -> None:
    with pytest.raises(Complaint) as refused:
        parse_weights(arguments)
    assert says in refused.value.message
    assert refused.value.status == USAGE
    assert refused.value.hint == "for example: meshctl traffic set orders v1=90 v2=10"


weights = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), st.integers(0, LARGEST), min_size=1, max_size=5
)


@given(weights.filter(lambda given_weights: sum(given_weights.values()) > 0))
def test_what_is_written_is_what_is_read(wanted: dict[str, int]) -> None:
    got = parse_weights([f"{name}={weight}" for name, weight in wanted.items()])
    assert got == wanted
    assert sum(shares(got).values()) == pytest.approx(100.0)


def test_a_canary_can_be_turned_off() -> None:
    assert parse_weights(["v2=0"]) == {"v2": 0}


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_arguments_are_weights_or_a_complaint(arguments: list[str]) -> None:
    try:
        got = parse_weights(arguments)
    except Complaint:
        return
    assert all(0 <= weight <= LARGEST for weight in got.values())


def test_shares_of_nothing_are_nothing() -> None:
    assert shares({}) == {}
    assert shares({"a": 0, "b": 0}) == {"a": 0.0, "b": 0.0}
