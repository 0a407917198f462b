"""PEM text: blocks are found or the damage is named, and no content shows in a message."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import bundle
from tests.support import pki

LABELS = st.sampled_from(["CERTIFICATE", "PRIVATE KEY", "MESH JOIN TOKEN", "X509 CRL"])
BLOCKS = st.lists(st.tuples(LABELS, st.binary(min_size=1, max_size=300)), max_size=6)
COMMENTS = st.text("abc #=\t-", max_size=30).map(str.encode)


@given(BLOCKS, COMMENTS, st.sampled_from([b"\n", b"\r\n"]))
def test_what_is_encoded_is_found_again_between_comments(
    made: list[tuple[str, bytes]], comment: bytes, line_end: bytes
) -> None:
    pem = comment + b"\n" + b"".join(bundle.encode(*block) + comment + b"\n" for block in made)
    assert bundle.blocks(pem.replace(b"\n", line_end)) == made


@given(BLOCKS)
def test_merging_twice_changes_nothing(made: list[tuple[str, bytes]]) -> None:
    pem = b"".join(bundle.encode(*block) for block in made)
    merged = bundle.merged(pem, pem)
    assert merged == bundle.merged(merged)
    assert bundle.count(merged) == len({content for label, content in made if label == "CERTIFICATE"})


@given(st.binary(max_size=200) | st.text("-BEGIN ENDCRTFA\n=/x", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(pem: bytes) -> None:
    with suppress(bundle.PemError):
        assert all(label == label.strip() and content for label, content in bundle.blocks(pem))


@given(st.integers(0, 10_000))
def test_a_chain_that_was_cut_off_is_never_taken_for_whole(length: int) -> None:
    whole = pki.identity().chain_pem
    cut = whole[: length % len(whole)]
    try:
        found = bundle.split(cut)
    except bundle.PemError:
        return
    assert len(found) < 2 or b"".join(found).rstrip() == cut.rstrip()


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "no END line"),
        (b"-----BEGIN A-----\nAAAA\n-----BEGIN B-----\nAAAA\n-----END B-----\n", "begins inside the block A"),
        (b"-----BEGIN A-----\nAAAA\n-----END B-----\n", "END line of B where A was begun"),
        (b"-----END A-----\n", "END line of A where nothing was begun"),
        (b"-----BEGIN A-----\n-----END A-----\n", "the block A is empty"),
        (b"-----BEGIN A-----\nsecret!\n-----END A-----\n", "the block A holds something that is not base64"),
        (b"x" * (bundle.MAX_PEM_BYTES + 1), "at most 1048576 are read"),
    ],
)
def test_damage_is_named_and_content_is_not(pem: bytes, says: str) -> None:
    with pytest.raises(bundle.PemError, match=says) as refused:
        bundle.blocks(pem)
    assert "secret" not in str(refused.value)


def test_splitting_takes_certificates_only_in_order() -> None:
    identity = pki.identity()
    leaf, issuer = bundle.split(identity.key_pem + identity.chain_pem)
    assert leaf + issuer == identity.chain_pem
    assert bundle.count(identity.key_pem) == 0


def test_a_bundle_without_end_is_refused() -> None:
    many = b"".join(bundle.encode("CERTIFICATE", bytes([n])) for n in range(bundle.MAX_CERTIFICATES + 1))
    with pytest.raises(bundle.PemError, match="201 certificates; at most 200"):
        bundle.split(many)


def test_a_key_request_is_read_and_hides_its_key() -> None:
    key = pki.new_key()
    csr = pki.csr_pem(key)
    request = bundle.key_request(pki.key_pem(key) + csr)
    assert request == (pki.key_pem(key), csr)
    assert repr(request) == str(request) == "KeyRequest(key_pem=<hidden>)"


@pytest.mark.parametrize("order", ["", "k", "c", "ck", "kkc", "kcc"])
def test_anything_but_one_key_and_one_request_is_refused(order: str) -> None:
    key = pki.new_key()
    parts = {"k": pki.key_pem(key), "c": pki.csr_pem(key)}
    with pytest.raises(bundle.PemError, match="something else"):
        bundle.key_request(b"".join(parts[letter] for letter in order))
