"""The three extensions that ssl does not show: read like cryptography reads them, and refused when in doubt."""

from contextlib import suppress

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from certs.bundle import blocks
from certs.leaf import DerError, extensions, why_not_a_leaf
from tests.support import pki

GOOD_DER = blocks(pki.identity().chain_pem)[0].content


def forged(leaf: pki.Leaf) -> bytes:
    return blocks(pki.pki().forged(leaf).chain_pem)[0].content


LEAVES = st.builds(
    pki.Leaf,
    ca=st.booleans(),
    basic_constraints=st.booleans(),
    key_usage=st.booleans(),
    digital_signature=st.booleans(),
    cert_sign=st.booleans(),
    crl_sign=st.booleans(),
    purposes=st.lists(
        st.sampled_from([*pki.BOTH_SIDES, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.3")]), unique=True, max_size=3
    ).map(tuple),
    common_name=st.sampled_from(["", "orders"]),
    dns=st.lists(st.just("a.example"), max_size=40).map(tuple),
)


@given(LEAVES)
def test_the_verdict_is_what_cryptography_would_say(leaf: pki.Leaf) -> None:
    der = forged(leaf)
    certificate = x509.load_der_x509_certificate(der)
    assert (why_not_a_leaf(der) is None) == may_be_a_leaf(certificate)
    assert set(map(dotted_name, extensions(der))) == {found.oid.dotted_string for found in certificate.extensions}


def dotted_name(oid: bytes) -> str:
    """An OID as text; enough for those here, whose parts fit in a byte each."""
    return ".".join(map(str, [*divmod(oid[0], 40), *oid[1:]]))


def may_be_a_leaf(certificate: x509.Certificate) -> bool:
    """X509-SVID 5.2 and appendix A, as told by an independent reader."""
    found = {type(extension.value): extension.value for extension in certificate.extensions}
    constraints = found.get(x509.BasicConstraints)
    usage = found.get(x509.KeyUsage)
    purposes = found.get(x509.ExtendedKeyUsage)
    return (
        not (isinstance(constraints, x509.BasicConstraints) and constraints.ca)
        and isinstance(usage, x509.KeyUsage)
        and usage.digital_signature
        and not (usage.key_cert_sign or usage.crl_sign)
        and (not isinstance(purposes, x509.ExtendedKeyUsage) or set(pki.BOTH_SIDES) <= set(purposes))
    )


@pytest.mark.parametrize(
    ("leaf", "says"),
    [
        (pki.Leaf(ca=True), "is the certificate of a CA"),
        (pki.Leaf(key_usage=False), "does not say what its key may be used for"),
        (pki.Leaf(cert_sign=True), "may sign certificates"),
        (pki.Leaf(crl_sign=True), "may sign certificates or revocations"),
        (pki.Leaf(digital_signature=False), "may not sign handshakes"),
        (pki.Leaf(purposes=pki.BOTH_SIDES[:1]), "not for both sides"),
    ],
)
def test_the_reason_is_named(leaf: pki.Leaf, says: str) -> None:
    assert says in str(why_not_a_leaf(forged(leaf)))


def test_a_missing_extended_key_usage_or_basic_constraints_is_allowed() -> None:
    assert why_not_a_leaf(forged(pki.Leaf(purposes=()))) is None
    assert why_not_a_leaf(forged(pki.Leaf(basic_constraints=False))) is None


def test_root_and_issuer_are_no_leaves() -> None:
    for pem in (pki.pki().root.pem, pki.pki().issuer.pem):
        assert why_not_a_leaf(blocks(pem)[0].content) == "is the certificate of a CA"


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x30\x80\x00\x00")
@example(b"\x30\x84\x00\x00\x00\x00")
@example(b"\x1f\x81\x01\x00")
@example(b"\x30")
def test_any_bytes_are_refused_without_an_exception(der: bytes) -> None:
    assert why_not_a_leaf(der) is not None


@given(st.integers(0, len(GOOD_DER) - 1))
def test_a_certificate_that_was_cut_off_is_refused(length: int) -> None:
    assert why_not_a_leaf(GOOD_DER[:length]) == "cannot be read (damaged DER)"


@given(st.integers(0, len(GOOD_DER) - 1), st.integers(1, 255))
def test_a_changed_byte_never_raises(position: int, change: int) -> None:
    damaged = bytearray(GOOD_DER)
    damaged[position] ^= change
    why_not_a_leaf(bytes(damaged))
    with suppress(DerError):
        assert all(extensions(bytes(damaged)))


def test_an_extension_that_comes_twice_is_refused() -> None:
    """Hand-made: no library signs such a certificate, and which of the two would count is anybody's guess."""
    usage = item(0x30, item(0x06, b"\x55\x1d\x0f") + item(0x04, item(0x03, b"\x07\x80")))
    once, twice = (wrapped(usage * times) for times in (1, 2))
    assert extensions(once) == {b"\x55\x1d\x0f": b"\x03\x02\x07\x80"}
    with pytest.raises(DerError):
        extensions(twice)


@pytest.mark.parametrize("usage", [b"", b"\x07", b"\x00"])
def test_a_key_usage_without_bits_is_refused(usage: bytes) -> None:
    extension = item(0x30, item(0x06, b"\x55\x1d\x0f") + item(0x04, item(0x03, usage)))
    assert why_not_a_leaf(wrapped(extension)) == "cannot be read (damaged DER)"


@pytest.mark.parametrize("parts", [[], [0x06], [0x04], [0x01, 0x06, 0x04], [0x06, 0x04, 0x04], [0x06, 0x01]])
def test_an_extension_of_another_shape_is_refused(parts: list[int]) -> None:
    extension = item(0x30, b"".join(item(tag, b"\x55") for tag in parts))
    assert why_not_a_leaf(wrapped(extension)) == "cannot be read (damaged DER)"


def item(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


def wrapped(found: bytes) -> bytes:
    """A certificate that is nothing but its extensions."""
    return item(0x30, item(0x30, item(0xA3, item(0x30, found))) + item(0x30, b"") + item(0x03, b""))
