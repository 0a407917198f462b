"""The key of a request, and the number that it becomes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.balance.hashing import cookie, hash64, key_of
from sidecar.model.balancing import HashKey, HashOf
from sidecar.model.messages import RequestHead


def request(target: bytes = b"/", *fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", target, b"orders.shop", list(fields))


def test_the_number_is_the_same_in_every_process() -> None:
    assert hash64(b"alice") == 0x4DEAEC0CCE54DA89


@given(data=st.binary(max_size=40))
def test_the_number_has_64_bits(data: bytes) -> None:
    assert 0 <= hash64(data) < 2**64


def test_keys_that_are_alike_spread_evenly() -> None:
    counts = Counter(hash64(b"user-%d" % number) * 10 >> 64 for number in range(10_000))
    assert len(counts) == 10
    assert all(abs(count - 1000) < 150 for count in counts.values())


@pytest.mark.parametrize(
    ("where", "key"),
    [
        (HashKey(HashOf.HEADER, "x-user"), b"alice"),
        (HashKey(HashOf.HEADER, "x-nobody"), None),
        (HashKey(HashOf.HEADER, "x-empty"), None),
        (HashKey(HashOf.COOKIE, "session"), b"42"),
        (HashKey(HashOf.COOKIE, "SESSION"), None),  # names of cookies have a case
        (HashKey(HashOf.SOURCE), b"10.0.0.7"),
        (HashKey(HashOf.PATH), b"/orders/7"),
    ],
)
def test_where_a_key_is(where: HashKey, key: bytes | None) -> None:
    head = request(b"/orders/7?page=2", (b"X-User", b"alice"), (b"X-Empty", b""), (b"Cookie", b"lang=de; session=42"))
    assert key_of(where, head, "10.0.0.7") == key


def test_who_asks_may_be_unknown() -> None:
    assert key_of(HashKey(HashOf.SOURCE), request(), "") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (None, None),
        (b"", None),
        (b"a=1", b"1"),
        (b"ba=2; a=1", b"1"),
        (b"b=2, a=1", b"1"),  # crumbs of HTTP/2, joined
        (b"a=x=y", b"x=y"),
        (b"a=1; a=2", b"1"),
        (b"a=", None),
        (b"a", None),
    ],
)
def test_the_value_of_a_cookie(field: bytes | None, value: bytes | None) -> None:
    assert cookie(field, b"a") == value
