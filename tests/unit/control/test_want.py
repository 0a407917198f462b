"""Which services are subscribed to: bounded, declared ones for good, made-up names first to go."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.want import IDLE_S, NEGATIVE_S, WantTable
from sidecar.model.clusters import ServiceKey

A, B, C, D = (ServiceKey("shop", name) for name in "abcd")


def test_declared_services_are_wanted_from_the_start_and_never_expire() -> None:
    table = WantTable([A])
    assert A in table
    assert table.expire(10 * IDLE_S) == ()
    assert table.names() == {A}


def test_the_first_use_is_news_and_later_uses_are_not() -> None:
    table = WantTable()
    assert table.want(A, 0.0)
    assert not table.want(A, 1.0)


def test_an_unused_service_goes_after_ten_minutes_unless_requests_went_there() -> None:
    table = WantTable()
    table.want(A, 0.0)
    table.want(B, 1.0)
    assert table.expire(IDLE_S - 0.1) == ()
    assert table.expire(IDLE_S) == (A,)
    assert table.expire(IDLE_S + 2.0, in_use=lambda key: key == B) == ()
    assert table.expire(2 * IDLE_S + 3.0) == (B,)


def test_a_use_starts_the_ten_minutes_again() -> None:
    table = WantTable()
    table.want(A, 0.0)
    table.want(A, 500.0)
    assert table.expire(IDLE_S + 1.0) == ()


def test_a_full_table_lets_the_longest_unused_go_made_up_names_first() -> None:
    table = WantTable(most=3)
    for now_s, key in enumerate((A, B, C)):
        table.want(key, float(now_s))
    table.want(A, 3.0)
    table.want(D, 4.0, exists=lambda key: key != C)
    assert table.names() == {A, B, D}
    table.want(C, 5.0)
    assert table.names() == {A, C, D}


def test_declared_services_stay_in_a_full_table() -> None:
    table = WantTable([A], most=1)
    table.want(B, 0.0)
    table.want(C, 1.0)
    assert table.names() == {A, C}


def test_remembered_names_are_taken_as_far_as_there_is_room() -> None:
    table = WantTable([A], most=2)
    table.remember([A, B, C, D], 5.0)
    assert table.names() == {A, B, C}
    assert table.expire(5.0 + IDLE_S) == (B, C)


def test_after_a_wait_in_vain_nobody_waits_for_five_seconds() -> None:
    table = WantTable()
    assert not table.may_wait(A, 0.0)  # not wanted: nobody asked, so nobody will answer
    table.want(A, 0.0)
    assert table.may_wait(A, 0.0)
    table.gave_up(A, 1.0)
    assert not table.may_wait(A, 1.0 + NEGATIVE_S - 0.1)
    assert table.may_wait(A, 1.0 + NEGATIVE_S)
    table.gave_up(B, 1.0)  # not wanted (any more): nothing to note
    assert B not in table


KEYS = st.integers(0, 9).map(lambda number: ServiceKey("shop", f"s{number}"))


@given(st.lists(st.tuples(KEYS, st.floats(0.0, 300.0), st.booleans())))
def test_the_table_is_bounded_and_holds_what_was_used_last(steps: list[tuple[ServiceKey, float, bool]]) -> None:
    declared = ServiceKey("shop", "s0")
    table = WantTable([declared], most=3)
    now_s = 0.0
    for key, gap_s, expire in steps:
        now_s += gap_s
        table.want(key, now_s)
        if expire:
            table.expire(now_s)
        assert key in table
        assert declared in table
        assert len(table.names()) <= 4
