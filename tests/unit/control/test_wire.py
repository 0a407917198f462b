"""Frames: the same bytes give the same messages however they are cut; garbage is one clear refusal, never a crash."""

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.wire import MAX_DEPTH, MAX_FRAME_BYTES, FrameReader, WireError, encode, too_deep

TEXT = st.text(
    'aZ0 "\\\x00\u00e9\u2028\ud800', max_size=8
)  # a small alphabet: the whole of Unicode takes a second to load
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.dictionaries(TEXT, JSON_VALUES, max_size=4).map(lambda made: {**made, "type": "push"})


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(messages=st.lists(MESSAGES, max_size=3), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_the_same_bytes_give_the_same_messages_however_they_are_cut(
    messages: list[dict[str, Any]], cuts: list[int]
) -> None:
    data = b"".join(encode(message) for message in messages)
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    reader = FrameReader()
    got = [message for start, end in itertools.pairwise(edges) for message in reader.feed(data[start:end])]
    assert got == messages
    assert reader.at_rest


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for_and_a_refusal_stays(data: bytes) -> None:
    reader = FrameReader()
    try:
        messages = reader.feed(data)
    except WireError as refused:
        with pytest.raises(WireError, match=re.escape(str(refused))):
            reader.feed(b"")
    else:
        assert all(isinstance(message["type"], str) for message in messages)


@given(st.binary(max_size=60))
def test_a_framed_garbage_body_is_one_refusal(body: bytes) -> None:
    with pytest.raises(WireError):  # no 60 random bytes are an object with a type
        FrameReader().feed(framed(body))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "a frame is not JSON"),
        (b"{", "a frame is not JSON"),
        (b"\xff", "a frame is not UTF-8"),
        (b"[]", "a frame holds a list where an object is expected"),
        (b"7", "a frame holds a number where an object is expected"),
        (b"null", "a frame holds null where an object is expected"),
        (b"{}", "a message has no type (a text field `type` is expected)"),
        (b'{"type":""}', "a message has no type"),
        (b'{"type":7}', "a message has no type"),
        (b'{"type":"beat","x":NaN}', "NaN is not a JSON number"),
        (b'{"type":"beat","x":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"type":"beat","x":' + b"9" * 5_000 + b"}", "a frame is not JSON"),
        (b'{"type":"beat","x":' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 32"),
        (b'{"type":"beat","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 32"),
        (b'{"x":' * 100_000, "nested deeper than 32"),
    ],
)
def test_what_is_not_a_message_is_refused_with_its_reason(body: bytes, sentence: str) -> None:
    with pytest.raises(WireError) as refused:
        FrameReader().feed(framed(body))
    assert sentence in str(refused.value)


def test_a_frame_too_long_is_refused_by_its_length_alone() -> None:
    with pytest.raises(WireError, match=r"a frame of 4194305 bytes was announced \(at most 4194304\)"):
        FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_frame_of_the_greatest_length_passes() -> None:
    body = json.dumps({"type": "push", "x": ""}).encode()
    body = body[:-2] + b"a" * (MAX_FRAME_BYTES - len(body)) + body[-2:]
    assert len(FrameReader().feed(framed(body))) == 1


def test_encode_refuses_what_no_reader_would_take() -> None:
    with pytest.raises(WireError, match="a message to send has no type"):
        encode({})
    with pytest.raises(WireError, match="do not fit into a frame"):
        encode({"type": "push", "x": "a" * MAX_FRAME_BYTES})


def test_a_lone_surrogate_travels_as_an_escape() -> None:
    assert FrameReader().feed(encode({"type": "nack", "reason": "\ud800"})) == [{"type": "nack", "reason": "\ud800"}]


def test_depth_counts_lists_and_objects_alike() -> None:
    nested: Any = "x"
    for number in range(MAX_DEPTH):
        nested = [nested] if number % 2 else {"k": nested}
    assert not too_deep(nested)
    assert too_deep([nested])
