"""Where a request and a try end, and what the next hop is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.policies import Timeouts
from sidecar.policy.deadline import DEADLINE_HEADER, MAX_HEADER_MS, ends_at, remaining_header, try_limit_s

NOW_S = 1000.0


@pytest.mark.parametrize(
    ("policy_s", "header", "end_s"),
    [
        (15.0, None, 1015.0),
        (15.0, b"2000", 1002.0),
        (15.0, b"20000", 1015.0),
        (None, b"2000", 1002.0),
        (0.0, b"2000", 1002.0),
        (None, None, None),
        (0.0, None, None),
    ],
)
def test_the_outbound_side_takes_the_shorter_of_policy_and_caller(
    policy_s: float | None, header: bytes | None, end_s: float | None
) -> None:
    assert ends_at(policy_s, header, NOW_S) == end_s


@pytest.mark.parametrize(
    ("policy_s", "header", "verified", "end_s"),
    [
        (15.0, b"2000", True, 1002.0),
        (15.0, b"100000", True, 1100.0),  # the caller owns the deadline, be it longer than ours
        (None, b"2000", True, 1002.0),
        (15.0, b"2000", False, 1030.0),
        (15.0, None, True, 1030.0),
        (15.0, b"soon", True, 1030.0),
        (None, None, True, None),
        (None, b"2000", False, None),
        (0.0, None, False, None),
    ],
)
def test_the_inbound_side_believes_a_verified_peer_and_else_allows_twice_the_policy(
    policy_s: float | None, header: bytes | None, verified: bool, end_s: float | None
) -> None:
    assert ends_at(policy_s, header, NOW_S, inbound=True, verified=verified) == end_s


def test_a_peer_is_not_verified_unless_somebody_says_so() -> None:
    assert ends_at(15.0, b"2000", NOW_S, inbound=True) == 1030.0


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"0",
        b"000",
        b"-5",
        b"+5",
        b"1.5",
        b"5s",
        b" 5",
        b"5, 6",
        b"1e3",
        b"0x10",
        b"1_000",
        "٥".encode(),
        b"9" * 13,
    ],
)
def test_a_malformed_header_is_ignored(header: bytes) -> None:
    assert ends_at(15.0, header, NOW_S) == 1015.0


def test_a_day_and_more_is_no_limit_and_not_the_same_as_silence() -> None:
    assert ends_at(None, b"999999999999", NOW_S) is None
    assert ends_at(15.0, b"%d" % MAX_HEADER_MS, NOW_S) == 1015.0
    assert ends_at(15.0, b"%d" % MAX_HEADER_MS, NOW_S, inbound=True, verified=True) is None
    assert ends_at(15.0, b"%d" % (MAX_HEADER_MS - 1), NOW_S, inbound=True, verified=True) == NOW_S + 86_399.999


@pytest.mark.parametrize(
    ("left_s", "value"),
    [
        (2.0, b"2000"),
        (0.0011, b"2"),  # rounded up: the next hop must not give up first
        (0.0001, b"1"),
        (0.0, b"1"),
        (-3.0, b"1"),
        (1e9, b"%d" % MAX_HEADER_MS),
    ],
)
def test_what_is_left_is_told_in_whole_milliseconds(left_s: float, value: bytes) -> None:
    assert remaining_header(left_s, 0.0) == value


@given(left_s=st.floats(0.001, 86_399.0), now_s=st.floats(0.0, 1e6))
def test_the_next_hop_reads_what_was_told_and_never_ends_first(left_s: float, now_s: float) -> None:
    end_s = now_s + left_s
    read = ends_at(None, remaining_header(end_s, now_s), now_s, inbound=True, verified=True)
    assert read is not None
    assert end_s - 1e-6 <= read <= end_s + 0.001 + 1e-6


@given(header=st.binary(max_size=20), policy_s=st.floats(0.001, 1e6), verified=st.booleans(), inbound=st.booleans())
def test_no_header_breaks_it_or_lengthens_what_our_caller_gets(
    header: bytes, policy_s: float, verified: bool, inbound: bool
) -> None:
    end_s = ends_at(policy_s, header, NOW_S, inbound=inbound, verified=verified)
    if end_s is None:
        assert inbound
        assert verified
        assert int(header) >= MAX_HEADER_MS
        return
    assert end_s > NOW_S
    if not inbound:
        assert end_s <= NOW_S + policy_s


def test_the_header_has_a_stable_name() -> None:
    assert DEADLINE_HEADER == b"x-mesh-timeout-ms"


@pytest.mark.parametrize(
    ("per_try_s", "backend_s", "end_s", "limit_s"),
    [
        (None, None, None, None),
        (None, None, 1015.0, 1015.0),
        (3.0, None, 1015.0, 1003.0),
        (3.0, None, 1002.0, 1002.0),
        (3.0, None, None, 1003.0),
        (3.0, 5.0, 1015.0, 1005.0),  # the route's replaces the policy's
        (None, 5.0, 1002.0, 1002.0),
        (3.0, 0.0, 1015.0, 1015.0),  # Gateway API: 0 switches the limit off
        (0.0, None, None, None),
    ],
)
def test_a_try_ends_with_its_own_limit_or_with_the_request(
    per_try_s: float | None, backend_s: float | None, end_s: float | None, limit_s: float | None
) -> None:
    assert try_limit_s(Timeouts(per_try_s=per_try_s), backend_s, NOW_S, end_s) == limit_s
