"""Typed messages: what one side writes the other reads; a wrong field is named; what is newer is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control import messages as m
from sidecar.control.push import Item, Push, PushJoiner, split_push
from sidecar.control.wire import MAX_PUSH_BYTES, FrameReader, WireError, encode

NODE = m.Node(
    service="orders", namespace="shop", version="v1", id="orders-1", account="orders", labels={"team": "core"}
)
WORKLOAD = m.WorkloadInfo(inbound=15006, ports=(m.PortInfo(port=8080, protocol="http"),), ready=True)
COUNTER = m.Counter(
    reporter="source", service="orders.shop", backend="orders-v1.shop:8080", code="200", flags="-", requests=3,
    latency_ms_sum=4.5, latency_ms_buckets=(0, 1, 3),
)  # fmt: skip

EVERY_MESSAGE: list[m.Message] = [
    m.Join(token="id.secret", csr="PEM"),
    m.Hello(node=NODE, version="0.1.0", instance="0" * 16, have={"Service/shop/orders": 7}, wants=("stock.shop",)),
    m.Hello(node=NODE, version="0.1.0", instance="0" * 16, workload=WORKLOAD),
    m.Renew(csr="PEM"),
    m.Want(names=("stock.shop", "a.b")),
    m.Unwant(names=("stock.shop",)),
    m.Ack(version=7),
    m.Nack(version=7, name="HTTPRoute/shop/orders", reason="no"),
    m.Beat(ready=False),
    m.Report(instance="0" * 16, counters=(COUNTER,), ejected=("shop/orders/8080/orders-2",), config_version=7,
             config_age_s=1.5, spiffe_id="spiffe://mesh.local/ns/shop/sa/orders", not_after_s=1.8e9),
    m.Bye(),
    Push(version=7, set=(Item(name="Service/shop/orders", version=7, document="{}"),), unset=("a",), more=True),
    m.Cert(chain="PEM", bundle="PEM", not_after_s=1.8e9),
    m.Bundle(bundle="PEM"),
    m.Rotate(spread_s=3.0),
    m.Drain(),
    m.Error(message="no", hint="ask", final=True),
]  # fmt: skip


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_what_one_side_writes_the_other_reads(message: m.Message) -> None:
    [received] = FrameReader().feed(encode(m.to_wire(message)))
    assert m.parse(received) == message


def test_unknown_types_and_fields_are_ignored() -> None:
    assert m.parse({"type": "song", "x": 1}) is None
    assert m.parse({"type": "ack", "version": 3, "colour": "red"}) == m.Ack(version=3)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"type": "ack"}, "ack: version: missing"),
        ({"type": "ack", "version": "3"}, "ack: version: expected a whole number, got text"),
        ({"type": "ack", "version": True}, "ack: version: expected a whole number, got true or false"),
        ({"type": "ack", "version": -1}, "ack: version: expected a whole number from 0 to 9223372036854775807"),
        ({"type": "push", "version": 1, "set": {}}, "push: set: expected a list, got an object"),
        ({"type": "push", "version": 1, "set": [1]}, "push: set[0]: expected an object, got a number"),
        ({"type": "push", "version": 1, "set": [{"version": 1}]}, "push: set[0].name: missing"),
        ({"type": "push", "version": 1, "more": 1}, "push: more: expected true or false, got a number"),
        ({"type": "hello"}, "hello: node: missing"),
        ({"type": "hello", "node": {"service": "a b"}}, "hello: node.service: expected a name"),
        ({"type": "want", "names": ["orders"]}, "want: names[0]: expected a service as NAME.NAMESPACE"),
        ({"type": "want", "names": ["a.b"] * 5_000}, "want: names: 5000 entries (at most 4096)"),
        ({"type": "join", "token": "x" * 5_000, "csr": ""}, "join: token: 5000 characters (at most 4096)"),
        ({"type": "join", "token": "\ud800", "csr": ""}, "join: token: not valid Unicode text"),
        ({"type": "rotate", "spread_s": -1}, "rotate: spread_s: expected a number from 0 to 1e15"),
        ({"type": "rotate", "spread_s": "soon"}, "rotate: spread_s: expected a number, got text"),
        ({"type": "error", "message": None}, "error: message: expected text, got null"),
        ({"type": "report", "instance": "i", "config": 1}, "report: config: expected an object, got a number"),
        ({"type": "report", "instance": "i", "cert": {"not_after_s": []}}, "report: cert.not_after_s: expected a n"),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_form_is_named(message: dict[str, object], sentence: str) -> None:
    with pytest.raises(WireError) as refused:
        m.parse(message)
    assert str(refused.value).startswith(sentence)


TEXT = st.text(
    'aZ0-./ "\\\x00\u00e9\u2028\ud800', max_size=30
)  # a small alphabet: the whole of Unicode takes a second to load
JSON_VALUES: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just([]) | st.just([{}])
)
KINDS = st.sampled_from(sorted({str(m.to_wire(message)["type"]) for message in EVERY_MESSAGE}))
FIELDS = st.sampled_from(sorted({name for message in EVERY_MESSAGE for name in m.to_wire(message)} - {"type"}))


@given(kind=KINDS, fields=st.dictionaries(FIELDS, JSON_VALUES, max_size=6))
def test_any_object_parses_or_is_a_wire_error(kind: str, fields: dict[str, object]) -> None:
    try:
        made: object = m.parse({**fields, "type": kind})
    except WireError as refused:
        made = str(refused)
    assert isinstance(made, m.Message) or str(made).startswith(f"{kind}: ")


ITEMS = st.lists(st.builds(Item, name=TEXT, version=st.integers(0, 9), document=TEXT.map(lambda text: text * 10)))


@given(items=ITEMS, unset=st.lists(TEXT, max_size=5))
def test_a_split_push_fits_and_joins_to_the_same(items: list[Item], unset: list[str]) -> None:
    limit = 4_000  # one item of 300 characters, each escaped as 12 at most, fits
    parts = split_push(3, items, unset, limit=limit)
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(encode(m.to_wire(part))) - 4 <= limit for part in parts)
    joiner = PushJoiner()
    joined = [joiner.add(part) for part in parts]
    assert joined[:-1] == [None] * (len(parts) - 1)
    assert joined[-1] == Push(version=3, set=tuple(items), unset=tuple(unset))


def test_a_resource_that_fits_no_frame_is_named() -> None:
    with pytest.raises(WireError, match=r"push: Service/shop/big takes \d+ bytes and does not fit"):
        split_push(1, [Item(name="Service/shop/big", version=1, document="x" * 1_000)], limit=500)


def test_parts_of_two_versions_do_not_mix() -> None:
    joiner = PushJoiner()
    joiner.add(Push(version=1, more=True))
    with pytest.raises(WireError, match="push: a part of version 2 among parts of version 1"):
        joiner.add(Push(version=2))


def test_the_sum_of_all_parts_is_bounded() -> None:
    joiner = PushJoiner()
    part = Push(version=1, set=(Item(name="a", version=1, document="x" * (MAX_PUSH_BYTES // 4)),), more=True)
    for _ in range(3):
        joiner.add(part)
    with pytest.raises(WireError, match="exceeds 67108864 bytes in all its parts"):
        joiner.add(part)
