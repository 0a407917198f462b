"""The cache's text: what went in comes out; what was damaged anywhere is refused whole."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.resources import parse_wire
from sidecar.control.cache_file import CacheContent, CacheDamagedError, decode, encode
from sidecar.control.push import Push
from sidecar.control.state import apply_push
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from tests.support.pki import identity
from tests.unit.control.test_state import endpoints, route, service

ORDERS, GHOST = ServiceKey("shop", "orders"), ServiceKey("shop", "ghost")


def content() -> CacheContent:
    push = Push(version=7, set=(service(), endpoints(), route("orders")), unset=("Service/shop/ghost",))
    snapshot = apply_push(Snapshot(), push, parse_wire, wants=frozenset({ORDERS, GHOST})).snapshot
    return CacheContent(
        snapshot=snapshot,
        saved_at_s=1.5e9,
        wants=frozenset({ORDERS, GHOST}),
        identity=identity(),
        joined_with="ab" * 32,
    )


def signed(*lines: object, header: str = "sidecar-mesh-cache 1") -> bytes:
    """A file whose checksum is right, whatever it holds."""
    body = "\n".join([*(json.dumps(line) for line in lines), ""]).encode()
    return f"{header} sha256={hashlib.sha256(body).hexdigest()}\n".encode() + body


FACTS = {"saved_at_s": 1.0, "version": 1, "absent": [], "wants": [], "joined_with": ""}


def test_what_went_in_comes_out() -> None:
    before = content()
    after, problems = decode(encode(before), parse_wire)
    assert problems == []
    assert after == before
    assert after.snapshot.knows(GHOST) is Known.ABSENT


def test_an_empty_cache_is_one_too() -> None:
    assert decode(encode(CacheContent()), parse_wire) == (CacheContent(), [])


def test_any_flipped_bit_is_noticed() -> None:
    data = bytearray(encode(content()))
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(CacheDamagedError):
            decode(bytes(data), parse_wire)
        data[at] ^= 1 << at % 8


def test_any_cut_is_noticed() -> None:
    data = encode(content())
    for length in range(len(data)):
        with pytest.raises(CacheDamagedError):
            decode(data[:length], parse_wire)


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(CacheDamagedError):
        decode(data, parse_wire)


@given(st.lists(st.none() | st.integers() | st.dictionaries(st.sampled_from(sorted(FACTS)), st.just([7])), max_size=4))
def test_a_right_checksum_over_wrong_content_is_refused(lines: list[object]) -> None:
    with pytest.raises(CacheDamagedError, match="it holds what this version does not read"):
        decode(signed(*lines), parse_wire)


def test_another_format_is_named_as_that() -> None:
    with pytest.raises(CacheDamagedError, match="its format is another version's"):
        decode(signed(FACTS, None, header="sidecar-mesh-cache 2"), parse_wire)


def test_a_resource_that_this_version_cannot_use_is_left_out_alone() -> None:
    lines = [json.loads(line) for line in encode(content()).splitlines()[1:]]
    lines.append({"name": "Service/shop/new", "version": 3, "document": '{"kind": "Servant"}'})
    after, [problem] = decode(signed(*lines), parse_wire)
    assert problem.startswith("cached Service/shop/new is left out: ")
    assert len(after.snapshot.resources) == 3


def test_an_identity_that_cannot_be_used_is_left_out_alone() -> None:
    after, [problem] = decode(signed(FACTS, {"chain": "x", "key": "y", "bundle": "z"}), parse_wire)
    assert problem.startswith("the cached identity is left out: ")
    assert after.identity is None
    assert after.saved_at_s == 1.0
