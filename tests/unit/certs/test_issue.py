"""Signing requests: only a proven public key goes in, exactly one name comes out."""

import functools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from certs import issue, names
from certs.bundle import blocks, encode, split
from certs.signer import DAY_S, make_issuer
from tests.support import pki

NOW_S = 1_800_000_000.0
ORDERS = "spiffe://mesh.local/ns/shop/sa/orders"
ISSUER = make_issuer(pki.Pki(now_s=NOW_S).root, "mesh.local", NOW_S)

AnyKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@functools.cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def csr_of(key: AnyKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    by = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, by).public_bytes(Encoding.PEM)


def leaf_of(issued: issue.Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(split(issued.chain_pem)[0])


def test_an_svid_has_one_name_and_the_rights_of_a_workload() -> None:
    key = pki.new_key()
    issued = issue.issue(ISSUER, pki.csr_pem(key), ORDERS, NOW_S)
    leaf = leaf_of(issued)
    found = {type(extension.value): extension for extension in leaf.extensions}
    names_of = found[x509.SubjectAlternativeName]
    assert names_of.critical
    assert names_of.value == x509.SubjectAlternativeName([x509.UniformResourceIdentifier(ORDERS)])
    assert found[x509.BasicConstraints].value == x509.BasicConstraints(ca=False, path_length=None)
    usage = found[x509.KeyUsage]
    assert usage.critical
    assert isinstance(usage.value, x509.KeyUsage)
    assert (usage.value.digital_signature, usage.value.key_cert_sign, usage.value.crl_sign) == (True, False, False)
    assert found[x509.ExtendedKeyUsage].value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    assert leaf.subject == x509.Name([])
    assert leaf.public_key() == key.public_key()
    assert split(issued.chain_pem)[1] == ISSUER.pem
    leaf.verify_directly_issued_by(ISSUER.certificate)


def test_times_are_a_day_with_five_minutes_before() -> None:
    issued = issue.issue(ISSUER, pki.csr_pem(pki.new_key()), ORDERS, NOW_S + 0.7)
    assert (issued.not_before_s, issued.not_after_s) == (NOW_S - 300, NOW_S + DAY_S)
    leaf = leaf_of(issued)
    assert leaf.not_valid_before_utc.timestamp() == issued.not_before_s
    assert leaf.not_valid_after_utc.timestamp() == issued.not_after_s


def test_serial_numbers_are_drawn_anew() -> None:
    csr = pki.csr_pem(pki.new_key())
    issued = [issue.issue(ISSUER, csr, ORDERS, NOW_S) for _ in range(20)]
    assert len({one.serial for one in issued}) == 20
    assert all(one.serial == leaf_of(one).serial_number and one.serial.bit_length() > 64 for one in issued)


def test_a_leaf_never_outlives_its_issuer() -> None:
    late_s = ISSUER.not_after_s - 3600
    assert issue.issue(ISSUER, pki.csr_pem(pki.new_key()), ORDERS, late_s).not_after_s == ISSUER.not_after_s
    with pytest.raises(issue.IssuerExpiredError, match="renew it first"):
        issue.issue(ISSUER, pki.csr_pem(pki.new_key()), ORDERS, ISSUER.not_after_s - 59)


def test_what_the_request_asks_for_beside_its_key_is_ignored() -> None:
    key = pki.new_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://mesh.local/x")]), True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    asked, modest = (leaf_of(issue.issue(ISSUER, csr, ORDERS, NOW_S)) for csr in (greedy, pki.csr_pem(key)))
    assert list(asked.extensions) == list(modest.extensions)
    assert asked.subject == modest.subject


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa_key(2048)], ids=["P-384", "RSA-2048"])
def test_other_strong_keys_are_signed(key: AnyKey) -> None:
    assert leaf_of(issue.issue(ISSUER, csr_of(key), ORDERS, NOW_S)).public_key() == key.public_key()


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (rsa_key(1024), "RSA with 1024 bits; use EC P-256"),
        (ec.generate_private_key(ec.SECP521R1()), "EC secp521r1; use EC P-256"),
        (ec.generate_private_key(ec.SECP256K1()), "EC secp256k1; use EC P-256"),
        (ed25519.Ed25519PrivateKey.generate(), "of a kind that is not signed here; use EC P-256"),
    ],
    ids=["RSA-1024", "P-521", "secp256k1", "Ed25519"],
)
def test_weak_and_foreign_keys_are_refused(key: AnyKey, says: str) -> None:
    with pytest.raises(issue.BadRequestError, match=says):
        issue.issue(ISSUER, csr_of(key), ORDERS, NOW_S)


def test_a_key_that_the_asker_does_not_hold_is_refused() -> None:
    """The public key of somebody else in a request signed by one's own."""
    victim, thief = (x509.load_pem_x509_csr(pki.csr_pem(pki.new_key())) for _ in range(2))
    der = thief.public_bytes(Encoding.DER).replace(point(thief), point(victim))
    with pytest.raises(issue.BadRequestError, match="not signed by the key that it names"):
        issue.issue(ISSUER, encode("CERTIFICATE REQUEST", der), ORDERS, NOW_S)


def point(csr: x509.CertificateSigningRequest) -> bytes:
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("csr", "says"),
    [
        (b"", "not a PKCS #10 request in PEM form"),
        (b"hello", "not a PKCS #10 request in PEM form"),
        (pki.identity().chain_pem, "not a PKCS #10 request in PEM form"),
        (encode("CERTIFICATE REQUEST", b"\x30\x03\x02\x01\x00"), "not a PKCS #10 request in PEM form"),
        (pki.csr_pem(pki.new_key()) + b"\n" * 16_384, "at most 16384 are read"),
    ],
)
def test_what_is_no_request_is_refused(csr: bytes, says: str) -> None:
    with pytest.raises(issue.BadRequestError, match=says):
        issue.issue(ISSUER, csr, ORDERS, NOW_S)


GOOD_CSR = csr_of(ec.derive_private_key(7, ec.SECP256R1()))
GOOD_DER = blocks(GOOD_CSR)[0].content


@given(st.integers(0, len(GOOD_CSR) - 1), st.integers(1, 255))
def test_text_changed_on_the_way_is_refused_or_still_the_same_request(position: int, change: int) -> None:
    assert_harmless(changed(GOOD_CSR, position, change))


@given(st.integers(0, len(GOOD_DER) - 1), st.integers(1, 255))
def test_a_changed_byte_of_a_request_is_noticed(position: int, change: int) -> None:
    assert_harmless(encode("CERTIFICATE REQUEST", changed(GOOD_DER, position, change)))


def changed(content: bytes, position: int, change: int) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= change
    return bytes(damaged)


def assert_harmless(csr: bytes) -> None:
    try:
        key = issue.public_key_of(csr)
    except issue.BadRequestError:
        return
    assert key == x509.load_pem_x509_csr(GOOD_CSR).public_key()


@pytest.mark.parametrize("spiffe_id", ["spiffe://mesh.local", "https://mesh.local/a", "spiffe://mesh.local/"])
def test_only_a_workload_gets_a_certificate(spiffe_id: str) -> None:
    with pytest.raises(names.SpiffeIdError):
        issue.issue(ISSUER, pki.csr_pem(pki.new_key()), spiffe_id, NOW_S)
