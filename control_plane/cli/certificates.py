"""What a PEM file holds, for `meshctl cert inspect FILE`: certificates in words, other blocks by name only.

Reads with `cryptography`, imported when it is called. Private keys and join tokens are named, never shown.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from certs import bundle
from certs.leaf import why_not_a_leaf
from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.output import Json

if TYPE_CHECKING:
    from cryptography import x509

SHARED_BLOCKS = {"CERTIFICATE REQUEST": "a signing request"}


def read_pem(path: Path) -> tuple[list[Json], list[str]]:
    """The certificates in `path`, as rows, and a line for each block that is none.

    Raises:
        Complaint: Status 2 when it cannot be read; 1 when it holds no certificate or a damaged one.
    """
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise Complaint(f"cannot read {path}: {(exc.strerror or '').lower()}", status=USAGE) from exc
    try:
        blocks = bundle.blocks(raw)
    except bundle.PemError as exc:
        raise Complaint(f"{path}: {exc}") from exc
    rows: list[Json] = []
    others = []
    for number, block in enumerate(blocks, 1):
        if block.label == bundle.CERTIFICATE:
            rows.append(_row(block.content, f"{path}: block {number}"))
        else:
            others.append(f"block {number} is {SHARED_BLOCKS.get(block.label, f'a secret ({block.label}), not shown')}")
    if not rows:
        found = f" (it has: {', '.join(block.label for block in blocks)})" if blocks else ""
        raise Complaint(f"{path}: holds no certificate in PEM form{found}")
    return rows, others


def _row(der: bytes, where: str) -> Json:
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        spiffe_ids = _uris(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        is_ca = constraints.value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    except ValueError as exc:
        raise Complaint(f"{where}: cannot be read as a certificate ({exc})") from exc
    subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    kind = ("root" if subject == issuer else "issuer") if is_ca else "leaf"
    return {
        "kind": kind,
        "name": subject,
        "spiffe_id": ", ".join(spiffe_ids),
        "issuer": issuer,
        "serial": f"{certificate.serial_number:x}",
        "key": _key(certificate),
        "not_before_s": certificate.not_valid_before_utc.timestamp(),
        "not_after_s": certificate.not_valid_after_utc.timestamp(),
        "problem": (why_not_a_leaf(der) or "") if kind == "leaf" else "",
    }


def _uris(certificate: "x509.Certificate") -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.UniformResourceIdentifier)


def _key(certificate: "x509.Certificate") -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").strip("_")
