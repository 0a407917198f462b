"""Keys and what answers them."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.websocket import accept_value, is_key, new_key


def test_the_example_of_rfc_6455() -> None:
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.binary(min_size=16, max_size=16))
def test_a_new_key_is_a_key_and_has_an_answer(nonce: bytes) -> None:
    key = new_key(nonce)

    assert is_key(key)
    assert base64.b64decode(key) == nonce
    joined = key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    assert accept_value(key) == base64.b64encode(hashlib.sha1(joined, usedforsecurity=False).digest())


@pytest.mark.parametrize(
    "value",
    [b"", b"YQ==", b"x" * 24, b"dGhlIHNhbXBsZSBub25jZQ", b"dGhlIHNhbXBsZSBub25jZQ==x", b"dGhlIHNhbXBsZSBub25j====",
     b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j-_==", b" dGhlIHNhbXBsZSBub25jZQ=="],
)  # fmt: skip
def test_what_does_not_stand_for_16_bytes_is_no_key(value: bytes) -> None:
    assert not is_key(value)
