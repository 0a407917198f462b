"""Read one's own identity by shaking hands with oneself, with nothing but the standard library.

The running sidecar has no X.509 library (20 MB), and `ssl` only tells what is in a certificate that a peer showed in a
handshake. So two TLS ends in memory, joined by MemoryBIO, do the very handshake that the mesh does, both with the
identity in question: 2 ms, once per identity. That a private key, its certificate, the chain and the roots fit together
is thereby *shown*, in OpenSSL's own judgement, and what it read from the certificate is what peers will read.

Times are left out of the judgement, and returned: an expired certificate can be named as such by the caller.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from certs import bundle, names
from certs.leaf import why_not_a_leaf

# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, part of its stable interface; the ssl module has no name for it.
_NO_CHECK_TIME = 0x200000
_MAX_TURNS = 10  # a TLS 1.3 handshake takes three flights


class IdentityError(ValueError):
    """A chain, key and bundle that do not make an identity; str() says what does not fit."""


class OwnLeaf(NamedTuple):
    """What the leaf of one's own chain says; times in Unix seconds."""

    spiffe_id: str
    not_before_s: float
    not_after_s: float


def read_own_leaf(chain_pem: bytes, key_pem: bytes, bundle_pem: bytes) -> OwnLeaf:
    """The SPIFFE ID and times of an identity that is right but for its times. Raises IdentityError."""
    client = _context(ssl.PROTOCOL_TLS_CLIENT, chain_pem, key_pem, bundle_pem)
    server = _context(ssl.PROTOCOL_TLS_SERVER, chain_pem, key_pem, bundle_pem)
    try:
        seen = shake_hands(client, server)[0]
        decoded, der = seen.getpeercert(), seen.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as problem:
        raise IdentityError(f"the certificate does not hold against the bundle: {problem.verify_message}") from None
    except (ssl.SSLError, ValueError) as problem:
        raise IdentityError(f"no TLS handshake is possible with it: {problem}") from None
    if not decoded or der is None:
        raise IdentityError("no certificate was shown in a handshake with it")
    if reason := why_not_a_leaf(der):
        raise IdentityError(f"the certificate {reason}; a workload's certificate is needed")
    try:
        spiffe_id = names.workload_id(decoded.get("subjectAltName", ()))
    except names.SpiffeIdError as problem:
        raise IdentityError(f"the certificate {problem}") from None
    return OwnLeaf(
        spiffe_id=str(spiffe_id),
        not_before_s=float(ssl.cert_time_to_seconds(str(decoded["notBefore"]))),
        not_after_s=float(ssl.cert_time_to_seconds(str(decoded["notAfter"]))),
    )


def load_pair(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    """Give `context` a certificate chain and its key without writing the key to disk. Raises IdentityError.

    The ssl module reads files only; these are files in memory that nobody else can open by a name (memfd_create), gone
    when this returns.
    """
    if b"ENCRYPTED" in key_pem:
        raise IdentityError("the key is encrypted, and nobody is there to ask for the password; store it unencrypted")
    try:
        with _in_memory(chain_pem) as chain, _in_memory(key_pem) as key:
            # The password is never needed; without it OpenSSL would ask on the terminal and wait.
            context.load_cert_chain(chain, key, password=b"")
    except ssl.SSLError as problem:
        if problem.reason == "KEY_VALUES_MISMATCH":
            raise IdentityError("the key does not belong to the certificate; both must come from one request") from None
        raise IdentityError(f"certificate or key cannot be used: {problem.reason or 'damaged PEM'}") from None


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Complete a handshake between two contexts in memory; (client's end, server's end). Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_MAX_TURNS):
        unfinished = [end for end in ends if not _step(end)]
        if not unfinished:
            return ends
    raise ssl.SSLError("the handshake does not come to an end")


def _step(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _context(side: "ssl._SSLMethod", chain_pem: bytes, key_pem: bytes, bundle_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    trust(context, bundle_pem)
    load_pair(context, chain_pem, key_pem)
    return context


def trust(context: ssl.SSLContext, bundle_pem: bytes) -> None:
    """Let `context` trust exactly the roots in `bundle_pem`, strictly. Raises IdentityError."""
    try:
        context.load_verify_locations(cadata=b"".join(bundle.split(bundle_pem)).decode("ascii"))
    except bundle.PemError as problem:
        raise IdentityError(f"the bundle of roots is damaged: {problem}") from None
    except (ssl.SSLError, ValueError):  # ValueError: empty
        raise IdentityError("the bundle holds no root certificate that can be read") from None
    # RFC 5280 to the letter: among other things, no leaf that may sign, and no name that a peer could overlook.
    context.verify_flags |= ssl.VERIFY_X509_STRICT


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
