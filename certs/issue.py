"""From a certificate signing request to an X.509-SVID.

The control plane calls `issue` after it has decided *who* asks (join token or running certificate). Of the request only
the public key is used, after its signature showed that the asker holds the private one: names and extensions that it
asks for are ignored, so that nobody can ask for more than what the caller of `issue` grants.

The subject is left empty and the URI name is critical (RFC 5280 4.2.1.6): there is exactly one name in the certificate,
and a peer that cannot read it must refuse, where a common name would invite somebody to compare that instead.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs import names
from certs.signer import BACKDATE_S, DAY_S, Signer, at, authority_of

LEAF_LIFE_S = DAY_S
MAX_CSR_BYTES = 16_384  # an RSA-4096 request is 1.7 KB; beyond this somebody sends something else
MIN_ISSUER_LEFT_S = 60.0
RSA_BITS = range(2048, 4097)  # below: breakable; above: each handshake would cost the peers milliseconds

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_OF_A_LEAF = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class BadRequestError(ValueError):
    """A signing request that is refused; str() says why and what is allowed, in words for whoever sent it."""


class IssuerExpiredError(Exception):
    """The issuer has too little life left to sign for; renew it first."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An X.509-SVID. `chain_pem` is leaf and issuer; the times are Unix seconds as written in the leaf."""

    spiffe_id: str
    chain_pem: bytes
    not_before_s: float
    not_after_s: float
    serial: int


def issue(issuer: Signer, csr_pem: bytes, spiffe_id: str, now_s: float, life_s: float = LEAF_LIFE_S) -> Issued:
    """Sign the key of `csr_pem` for `spiffe_id`.

    Args:
        issuer: Who signs; the leaf never outlives it.
        csr_pem: PKCS #10 in PEM form, as it came from the peer.
        spiffe_id: With a path; the caller has decided that the asker may have it.
        now_s: Unix seconds.
        life_s: Seconds, > 0; the leaf begins five minutes in the past besides, for clocks that are behind.

    Raises:
        BadRequestError: the request is at fault.
        names.SpiffeIdError: `spiffe_id` is not one, or names no workload.
        IssuerExpiredError: the issuer ends within a minute.
    """
    key = public_key_of(csr_pem)
    if not names.parse(spiffe_id).path:
        raise names.SpiffeIdError(f"{spiffe_id} names a trust domain; only a workload, with a path, gets a certificate")
    if issuer.not_after_s - now_s < MIN_ISSUER_LEFT_S:
        raise IssuerExpiredError(f"the issuer ends at {at(issuer.not_after_s):%Y-%m-%dT%H:%M:%SZ}; renew it first")
    certificate = _leaf(issuer, key, spiffe_id, now_s, min(now_s + life_s, issuer.not_after_s))
    return Issued(
        spiffe_id=spiffe_id,
        chain_pem=certificate.public_bytes(Encoding.PEM) + issuer.pem,
        not_before_s=certificate.not_valid_before_utc.timestamp(),
        not_after_s=certificate.not_valid_after_utc.timestamp(),
        serial=certificate.serial_number,
    )


def _leaf(issuer: Signer, key: PublicKey, spiffe_id: str, now_s: float, ends_s: float) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at(now_s - BACKDATE_S))
        .not_valid_after(at(ends_s))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_OF_A_LEAF, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority_of(issuer), critical=False)
    )
    return builder.sign(issuer.key, hashes.SHA256())


def public_key_of(csr_pem: bytes) -> PublicKey:
    """The public key that a request proves to hold. Raises BadRequestError for anything that is not right with it."""
    if len(csr_pem) > MAX_CSR_BYTES:
        raise BadRequestError(f"the signing request has {len(csr_pem)} bytes; at most {MAX_CSR_BYTES} are read")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
    except (ValueError, x509.InvalidVersion):
        raise BadRequestError("the signing request is not a PKCS #10 request in PEM form") from None
    try:
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise BadRequestError(f"the signing request's key cannot be read; {_ALLOWED}") from None
    checked = _checked(key)
    try:
        signed = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        signed = False
    if not signed:
        raise BadRequestError("the signing request is not signed by the key that it names; make a new one")
    return checked


_ALLOWED = "use EC P-256 (preferred), EC P-384, or RSA with 2048 to 4096 bits"


def _checked(key: object) -> PublicKey:
    # The size comes before the signature check: verifying with a giant key is work that a stranger could order.
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return key
        case rsa.RSAPublicKey() if key.key_size in RSA_BITS:
            return key
        case ec.EllipticCurvePublicKey():
            raise BadRequestError(f"the signing request's key is EC {key.curve.name}; {_ALLOWED}")
        case rsa.RSAPublicKey():
            raise BadRequestError(f"the signing request's key is RSA with {key.key_size} bits; {_ALLOWED}")
    raise BadRequestError(f"the signing request's key is of a kind that is not signed here; {_ALLOWED}")
