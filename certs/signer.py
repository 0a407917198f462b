"""Certificates that sign others: a trust domain's root, and the issuer under it.

Pure but for the randomness of keys and serial numbers; ca.py keeps what is made here on disk, and issue.py signs leaves
with an issuer. EC P-256 throughout: the smallest handshakes that every TLS library speaks.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from certs import names

DAY_S = 86_400.0
ROOT_LIFE_S = 3650 * DAY_S
ISSUER_LIFE_S = 90 * DAY_S
ISSUER_DUE_S = ISSUER_LIFE_S / 3  # renewed when this much is left: a month of failing renewals before anything breaks
BACKDATE_S = 300.0  # peers' clocks may be this much behind ours

_OF_A_SIGNER = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate that signs others, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key, not encrypted (PKCS #8): for files of mode 0600 only."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def not_after_s(self) -> float:
        """When it ends, in Unix seconds."""
        return self.certificate.not_valid_after_utc.timestamp()


def at(unix_s: float) -> datetime:
    """The moment as certificates write it: UTC, whole seconds."""
    return datetime.fromtimestamp(int(unix_s), UTC)


def make_root(trust_domain: str, now_s: float) -> Signer:
    """A new self-signed root for ten years. Raises names.SpiffeIdError for a bad name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"{trust_domain} root")
    builder = _signer(trust_domain, subject, subject, key, now_s, now_s + ROOT_LIFE_S, path_length=1)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return Signer(builder.sign(key, hashes.SHA256()), key)


def make_issuer(root: Signer, trust_domain: str, now_s: float) -> Signer:
    """A new issuer for 90 days, signed by `root`, never outliving it. It can sign leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    ends_s = min(now_s + ISSUER_LIFE_S, root.not_after_s)
    subject = _subject(f"{trust_domain} issuer {at(now_s):%Y-%m-%d}")
    builder = _signer(trust_domain, subject, root.certificate.subject, key, now_s, ends_s, path_length=0)
    builder = builder.add_extension(authority_of(root), critical=False)
    return Signer(builder.sign(root.key, hashes.SHA256()), key)


def authority_of(signer: Signer) -> x509.AuthorityKeyIdentifier:
    """What a certificate signed by `signer` says about whose key that was."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())


def _subject(common_name: str) -> x509.Name:
    # 64 characters are X.520's limit for a common name; a trust domain may have 255. The URI SAN is what counts.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[-64:])])


def _signer(
    trust_domain: str,
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now_s: float,
    ends_s: float,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    public_key = key.public_key()
    uri = x509.UniformResourceIdentifier(names.signer_id(trust_domain))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at(now_s - BACKDATE_S))
        .not_valid_after(at(ends_s))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_OF_A_SIGNER, critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
