"""A small trust domain for tests, and every kind of certificate that a peer must not get away with.

`identity()` gives a good identity in about a millisecond, `bad_peer()` one of `BAD_PEERS`: an `Identity` whose chain
breaks one rule. Everything is made once per process and kept, so tests may ask as often as they like; whoever changes a
trust domain makes one of their own with `Pki(name)`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs import issue, names, signer
from sidecar.transport.identity import Identity

TRUST_DOMAIN = "mesh.local"
HOUR_S = 3600.0


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Unencrypted PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def csr_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signing request that names nothing."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class Pki:
    """A trust domain in memory: root, issuer, and identities under it."""

    def __init__(self, trust_domain: str = TRUST_DOMAIN, now_s: float | None = None) -> None:
        self.trust_domain = trust_domain
        self.now_s = time.time() if now_s is None else now_s
        self.root = signer.make_root(trust_domain, self.now_s)
        self.issuer = signer.make_issuer(self.root, trust_domain, self.now_s)

    @property
    def bundle_pem(self) -> bytes:
        """What peers trust."""
        return self.root.pem

    def identity(
        self, account: str = "orders", namespace: str = "shop", *, life_s: float = HOUR_S, bundle_pem: bytes = b""
    ) -> Identity:
        """A new good identity, made as the control plane makes it. `bundle_pem` replaces whom it trusts."""
        key = new_key()
        spiffe_id = names.svid_id(self.trust_domain, namespace, account)
        issued = issue.issue(self.issuer, csr_pem(key), spiffe_id, self.now_s, life_s)
        return self._identity(spiffe_id, issued.chain_pem, key, bundle_pem, issued.not_before_s, issued.not_after_s)

    def control_plane(self) -> Identity:
        """The control plane's identity."""
        return self.identity("control-plane", "mesh-system")

    def forged(self, leaf: "Leaf") -> Identity:
        """What `leaf` describes, signed by this issuer unless it says otherwise. May break any rule.

        Whatever the certificate says, its bearer takes itself for `orders`.
        """
        key = new_key()
        begins_s, ends_s = self.now_s + leaf.begins_in_s, self.now_s + leaf.ends_in_s
        chain_pem = leaf.sign(self, key, begins_s, ends_s)
        return self._identity(_GOOD_ID, chain_pem, key, b"", begins_s, ends_s)

    def _identity(
        self,
        spiffe_id: str,
        chain_pem: bytes,
        key: ec.EllipticCurvePrivateKey,
        bundle_pem: bytes,
        begins_s: float,
        ends_s: float,
    ) -> Identity:
        return Identity(spiffe_id, chain_pem, key_pem(key), bundle_pem or self.bundle_pem, ends_s, begins_s)


_GOOD_ID = "spiffe://mesh.local/ns/shop/sa/orders"
BOTH_SIDES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A certificate to forge. The defaults make a good one; each bad peer changes one of them."""

    uris: tuple[str, ...] = (_GOOD_ID,)
    dns: tuple[str, ...] = ()
    begins_in_s: float = -300.0
    ends_in_s: float = HOUR_S
    ca: bool = False
    basic_constraints: bool = True
    key_usage: bool = True
    digital_signature: bool = True
    cert_sign: bool = False
    crl_sign: bool = False
    purposes: tuple[x509.ObjectIdentifier, ...] = BOTH_SIDES
    common_name: str = ""
    san_critical: bool = True
    self_signed: bool = False
    chain: bool = True

    def sign(self, pki: Pki, key: ec.EllipticCurvePrivateKey, begins_s: float, ends_s: float) -> bytes:
        """The chain in PEM form."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)] if self.common_name else [])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self.self_signed else pki.issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(signer.at(begins_s))
            .not_valid_after(signer.at(ends_s))
        )
        for extension, critical in self._extensions(pki, key):
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(key if self.self_signed else pki.issuer.key, hashes.SHA256())
        leaf_pem = certificate.public_bytes(Encoding.PEM)
        return leaf_pem + pki.issuer.pem if self.chain and not self.self_signed else leaf_pem

    def _extensions(self, pki: Pki, key: ec.EllipticCurvePrivateKey) -> list[tuple[x509.ExtensionType, bool]]:
        by = key.public_key() if self.self_signed else pki.issuer.key.public_key()
        found: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(by), False),
        ]
        alternatives = [*map(x509.UniformResourceIdentifier, self.uris), *map(x509.DNSName, self.dns)]
        if alternatives:
            found.append((x509.SubjectAlternativeName(alternatives), self.san_critical))
        if self.basic_constraints:
            found.append((x509.BasicConstraints(ca=self.ca, path_length=None), True))
        if self.key_usage:
            found.append((self._usage(), True))
        if self.purposes:
            found.append((x509.ExtendedKeyUsage(self.purposes), False))
        return found

    def _usage(self) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=self.digital_signature,
            content_commitment=False,
            key_encipherment=not self.digital_signature,  # a KeyUsage without any bit is not a KeyUsage
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=self.cert_sign,
            crl_sign=self.crl_sign,
            encipher_only=False,
            decipher_only=False,
        )


@cache
def pki(trust_domain: str = TRUST_DOMAIN) -> Pki:
    """The trust domain of this test run."""
    return Pki(trust_domain)


@cache
def identity(account: str = "orders", namespace: str = "shop") -> Identity:
    """The good identity of an account in `pki()`."""
    return pki().identity(account, namespace)


@cache
def control_plane() -> Identity:
    """The control plane's identity in `pki()`."""
    return pki().control_plane()


def _of_a_stranger() -> Identity:
    """Good in itself, but of another trust domain with another root; trusts ours, so that only we can refuse."""
    return Pki("elsewhere.example").identity(bundle_pem=pki().bundle_pem)


def _of_a_namesake() -> Identity:
    """Another root that claims our trust domain's name."""
    return Pki(TRUST_DOMAIN).identity(bundle_pem=pki().bundle_pem)


def _forged(leaf: Leaf) -> Callable[[], Identity]:
    return lambda: pki().forged(leaf)


# Every kind of peer that must be refused, in both directions.
BAD_PEERS: dict[str, Callable[[], Identity]] = {
    "expired": _forged(Leaf(begins_in_s=-2 * HOUR_S, ends_in_s=-HOUR_S)),
    "not yet valid": _forged(Leaf(begins_in_s=HOUR_S, ends_in_s=2 * HOUR_S)),
    "unknown root": _of_a_stranger,
    "unknown root of our name": _of_a_namesake,
    "wrong trust domain": _forged(Leaf(uris=("spiffe://elsewhere.example/ns/shop/sa/orders",))),
    "self-signed": _forged(Leaf(self_signed=True)),
    "self-signed with a name": _forged(Leaf(self_signed=True, common_name="orders")),
    "issuer missing from the chain": _forged(Leaf(chain=False)),
    "CA as leaf": _forged(Leaf(ca=True, cert_sign=True, common_name="orders")),
    "CA without the right to sign": _forged(Leaf(ca=True, common_name="orders")),
    "keyCertSign": _forged(Leaf(cert_sign=True)),
    "cRLSign": _forged(Leaf(crl_sign=True, common_name="orders")),
    "no digitalSignature": _forged(Leaf(digital_signature=False)),
    "no KeyUsage": _forged(Leaf(key_usage=False)),
    "two URI names": _forged(Leaf(uris=(_GOOD_ID, "spiffe://mesh.local/ns/shop/sa/stock"))),
    "the same URI name twice": _forged(Leaf(uris=(_GOOD_ID, _GOOD_ID))),
    "no URI name": _forged(Leaf(uris=(), dns=("orders.shop.mesh",))),
    "no name at all": _forged(Leaf(uris=(), common_name=_GOOD_ID)),
    "not a SPIFFE ID": _forged(Leaf(uris=("https://mesh.local/ns/shop/sa/orders",))),
    "a SPIFFE ID without a path": _forged(Leaf(uris=("spiffe://mesh.local",))),
    "an upper-case trust domain": _forged(Leaf(uris=("spiffe://MESH.local/ns/shop/sa/orders",))),
    "a NUL in the name": _forged(Leaf(uris=(_GOOD_ID + "\0.elsewhere.example",))),
    "a line feed after the name": _forged(Leaf(uris=(_GOOD_ID + "\n",))),
    "for servers only": _forged(Leaf(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))),
    "for clients only": _forged(Leaf(purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,))),
    "for code signing": _forged(Leaf(purposes=(ExtendedKeyUsageOID.CODE_SIGNING,))),
    "empty subject, name not critical": _forged(Leaf(san_critical=False)),
}


@cache
def bad_peer(kind: str) -> Identity:
    """The identity of one of BAD_PEERS."""
    return BAD_PEERS[kind]()
