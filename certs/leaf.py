"""May this certificate stand for a workload? The rules of X509-SVID 5.2 that OpenSSL does not check.

`ssl` verifies signatures, times and one direction of use, and `getpeercert()` gives the names, but nothing in the
standard library says whether a peer's certificate is a CA's or what its key may be used for. `why_not_a_leaf` reads
just those three extensions from the DER bytes; the SPIFFE ID is *not* read here, but by OpenSSL.

So a fault in this file can only refuse a good certificate, or fall back to what OpenSSL alone would accept; it cannot
make one peer look like another. Whatever it does not expect, it refuses.
"""

from collections.abc import Iterator

_BASIC_CONSTRAINTS = b"\x55\x1d\x13"  # 2.5.29.19
_KEY_USAGE = b"\x55\x1d\x0f"  # 2.5.29.15
_EXTENDED_KEY_USAGE = b"\x55\x1d\x25"  # 2.5.29.37
_SERVER_AUTH = b"\x2b\x06\x01\x05\x05\x07\x03\x01"  # 1.3.6.1.5.5.7.3.1
_CLIENT_AUTH = b"\x2b\x06\x01\x05\x05\x07\x03\x02"  # 1.3.6.1.5.5.7.3.2

_BOOLEAN, _BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE, _EXTENSIONS = 0x01, 0x03, 0x04, 0x06, 0x30, 0xA3

_EXTENSION_SHAPES = ([_OID, _OCTET_STRING], [_OID, _BOOLEAN, _OCTET_STRING])  # `critical` is left out when false

# Bits of the first byte of KeyUsage, RFC 5280 4.2.1.3.
_DIGITAL_SIGNATURE, _KEY_CERT_SIGN, _CRL_SIGN = 0x80, 0x04, 0x02


class DerError(ValueError):
    """Bytes that are not the DER that was expected."""


def why_not_a_leaf(der: bytes) -> str | None:
    """Why the certificate may not stand for a workload, as the rest of a sentence; None if it may. Never raises."""
    try:
        found = extensions(der)
        if (constraints := found.get(_BASIC_CONSTRAINTS)) is not None and _is_ca(constraints):
            return "is the certificate of a CA"
        if (usage := found.get(_KEY_USAGE)) is None:
            return "does not say what its key may be used for (no KeyUsage)"
        if problem := _usage_problem(_bits(usage)):
            return problem
        if (extended := found.get(_EXTENDED_KEY_USAGE)) is not None:
            purposes = {content for tag, content in _items(_inside(extended, _SEQUENCE)) if tag == _OID}
            if not {_SERVER_AUTH, _CLIENT_AUTH} <= purposes:
                return "is not for both sides of a connection (ExtendedKeyUsage)"
    except DerError:
        return "cannot be read (damaged DER)"
    return None


def extensions(der: bytes) -> dict[bytes, bytes]:
    """The extensions of a certificate: the bytes of each OID -> the DER of its value. Raises DerError."""
    certificate = list(_items(_inside(der, _SEQUENCE)))
    if len(certificate) != 3 or certificate[0][0] != _SEQUENCE:
        raise DerError
    found: dict[bytes, bytes] = {}
    for field, content in _items(certificate[0][1]):
        if field != _EXTENSIONS:
            continue
        for kind, extension in _items(_inside(content, _SEQUENCE)):
            parts = list(_items(extension))
            if kind != _SEQUENCE or [tag for tag, _ in parts] not in _EXTENSION_SHAPES:
                raise DerError
            oid, value = parts[0][1], parts[-1][1]
            if oid in found:
                raise DerError  # RFC 5280 4.2: never twice; which one would count?
            found[oid] = value
    return found


def _is_ca(constraints: bytes) -> bool:
    # cA is DEFAULT FALSE: DER leaves a false one out, some encoders write it.
    return any(tag == _BOOLEAN and content != b"\x00" for tag, content in _items(_inside(constraints, _SEQUENCE)))


def _bits(usage: bytes) -> int:
    bits = _inside(usage, _BIT_STRING)
    if len(bits) < 2:  # the count of unused bits, then at least one byte
        raise DerError
    return bits[1]


def _usage_problem(bits: int) -> str | None:
    if bits & (_KEY_CERT_SIGN | _CRL_SIGN):
        return "has a key that may sign certificates or revocations (KeyUsage)"
    if not bits & _DIGITAL_SIGNATURE:
        return "has a key that may not sign handshakes (KeyUsage)"
    return None


def _inside(der: bytes, tag: int) -> bytes:
    """What the one item in `der` holds, which must have `tag`."""
    items = list(_items(der))
    if len(items) != 1 or items[0][0] != tag:
        raise DerError
    return items[0][1]


def _items(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The items of DER one after the other, as (tag, content)."""
    position = 0
    while position < len(der):
        if position + 2 > len(der) or der[position] & 0x1F == 0x1F:  # tags of several bytes: not in certificates
            raise DerError
        tag, length = der[position], der[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 3 or position + size > len(der):  # up to 16 MB, beyond what TLS carries
                raise DerError
            length = int.from_bytes(der[position : position + size], "big")
            position += size
        if position + length > len(der):
            raise DerError
        yield tag, der[position : position + length]
        position += length
