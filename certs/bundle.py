"""PEM text: bundles of roots, chains, and what the key-making child writes.

Works on bytes and base64 alone (RFC 7468), so that the running sidecar can read bundles and join files without an X.509
library. What a certificate *says* is OpenSSL's business (loopback.py, leaf.py); here two certificates are the same
when their bytes are.
"""

import binascii
from typing import NamedTuple

MAX_PEM_BYTES = 1_048_576  # a public web bundle of 140 roots has 200 KB
MAX_CERTIFICATES = 200

CERTIFICATE = "CERTIFICATE"

# How to start the child that makes a key: these arguments after `sys.executable`. -P keeps the current folder, which
# might hold another `certs`, out of the search path.
KEY_REQUEST_ARGUMENTS = ("-P", "-m", "certs.request")


class PemError(ValueError):
    """Text that is not the PEM that was asked for; str() says what is wrong with it."""


class Block(NamedTuple):
    """One PEM block: the label of its BEGIN line, and what the base64 lines hold."""

    label: str
    content: bytes


class KeyRequest(NamedTuple):
    """What the child writes: a private key and the signing request made with it, each as PEM."""

    key_pem: bytes
    csr_pem: bytes

    def __repr__(self) -> str:
        return "KeyRequest(key_pem=<hidden>)"


def blocks(pem: bytes) -> list[Block]:
    """Every block in `pem`, in order; text between blocks is a comment. Raises PemError for damaged blocks."""
    if len(pem) > MAX_PEM_BYTES:
        raise PemError(f"{len(pem)} bytes of PEM; at most {MAX_PEM_BYTES} are read")
    found: list[Block] = []
    label: bytes | None = None
    body: list[bytes] = []
    for line in map(bytes.strip, pem.splitlines()):
        if line.startswith(b"-----BEGIN ") and line.endswith(b"-----"):
            if label is not None:
                raise PemError(f"a block begins inside the block {_shown(label)}, which has no END line")
            label, body = line[11:-5], []
        elif line.startswith(b"-----END ") and line.endswith(b"-----"):
            if label != line[9:-5]:
                raise PemError(f"an END line of {_shown(line[9:-5])} where {_shown(label or b'nothing')} was begun")
            found.append(Block(_shown(label), _decoded(label, body)))
            label = None
        elif label is not None:
            body.append(line)
    if label is not None:
        raise PemError(f"the block {_shown(label)} has no END line; the text seems cut off")
    return found


def encode(label: str, content: bytes) -> bytes:
    """One PEM block, 64 characters a line."""
    text = binascii.b2a_base64(content, newline=False)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def split(pem: bytes) -> list[bytes]:
    """The certificates in `pem`, each as PEM of its own; other blocks are left out. Raises PemError."""
    certificates = [block.content for block in blocks(pem) if block.label == CERTIFICATE]
    if len(certificates) > MAX_CERTIFICATES:
        raise PemError(f"{len(certificates)} certificates; at most {MAX_CERTIFICATES} are read")
    return [encode(CERTIFICATE, content) for content in certificates]


def count(pem: bytes) -> int:
    """How many certificates `pem` holds. Raises PemError."""
    return len(split(pem))


def merged(*pems: bytes) -> bytes:
    """All certificates of `pems`, each once, in the order they first come. Raises PemError."""
    return b"".join(dict.fromkeys(certificate for pem in pems for certificate in split(pem)))


def key_request(output: bytes) -> KeyRequest:
    """Read what the child wrote to its pipe. Raises PemError, never quoting any of it."""
    match blocks(output):
        case [Block("PRIVATE KEY", key), Block("CERTIFICATE REQUEST", csr)]:
            return KeyRequest(encode("PRIVATE KEY", key), encode("CERTIFICATE REQUEST", csr))
    raise PemError("the child that makes keys wrote something else than one private key and one signing request")


def _decoded(label: bytes, body: list[bytes]) -> bytes:
    try:
        content = binascii.a2b_base64(b"".join(body), strict_mode=True)
    except binascii.Error:
        # Never the content: it may be a key.
        raise PemError(f"the block {_shown(label)} holds something that is not base64") from None
    if not content:
        raise PemError(f"the block {_shown(label)} is empty")
    return content


def _shown(label: bytes) -> str:
    return label[:40].decode("ascii", "replace")
