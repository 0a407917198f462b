"""Mutual TLS with the standard library: contexts made from an identity, and who the peer is.

`listen` and `dial` wrap sockets with the contexts made here, and ask `verify_peer` or `peer_spiffe_id` after the
handshake, before a single application byte. OpenSSL judges chain, times, purpose and proof of the key, and sends its
alert; the SPIFFE rules are judged here, and the caller closes. A context costs a millisecond and is made once per
identity (`Contexts`); renewal swaps the `Contexts`, and connections that are up keep what they were made with.

Refuses: TLS below 1.3, resumption (it would carry an identity past its renewal), compression, and any name but the
SPIFFE ID. Keys reach OpenSSL through memory, never through a file, and never show in a repr.
"""

import ssl
import time
from collections.abc import Sequence
from typing import Literal

from certs import names
from certs.leaf import why_not_a_leaf
from certs.loopback import IdentityError, load_pair, trust
from sidecar.model.clusters import ServiceKey
from sidecar.transport.identity import Identity

ClientCert = Literal["required", "optional", "none"]
TlsEnd = ssl.SSLSocket | ssl.SSLObject

_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_MAX_CONTEXTS = 32  # one per list of protocols offered; a handful exist
_MAX_KNOWN_LEAVES = 1024  # 1 KB each; a leaf seen once costs 40 us to judge, then 1 us


class PeerRefused(Exception):  # noqa: N818 - a verdict about the peer, not a fault of ours; audit lines use the word
    """The peer is not who may speak here. `reason` is one of a few words, for metrics; str() is for the audit line."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class MeshSocket(ssl.SSLSocket):
    """A TLS socket that knows which name its peer asked for."""

    requested_name = ""


class MeshObject(ssl.SSLObject):
    """The same for TLS in memory."""

    requested_name = ""


class MeshContext(ssl.SSLContext):
    """A context that knows which trust domain its peers must be of; "" when that is not known yet (first contact)."""

    trust_domain = ""


def server_context(
    identity: Identity, *, alpn: Sequence[str], request_client_cert: ClientCert = "required"
) -> ssl.SSLContext:
    """The side that is dialled. Wrap with server_side=True; ask `requested_name` and the ALPN after the handshake.

    Args:
        alpn: Protocols spoken, preferred first. A peer that offers none of them gets none: check
            `selected_alpn_protocol()`.
        request_client_cert: `optional` lets a peer without a certificate in, never one with a bad one.

    Raises:
        IdentityError: The identity cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity.bundle_pem, alpn)
    context.trust_domain = identity.trust_domain
    context.verify_mode = _VERIFY[request_client_cert]
    context.num_tickets = 0  # nothing to resume, and 0.35 ms less work per handshake
    context.sni_callback = _remember_name
    load_pair(context, identity.chain_pem, identity.key_pem)
    return context


def client_context(identity: Identity | None, bundle_pem: bytes, alpn: Sequence[str]) -> ssl.SSLContext:
    """The side that dials. Without an identity it shows none (first contact with the control plane).

    Raises IdentityError when identity or bundle cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, bundle_pem, alpn)
    if identity is not None:
        context.trust_domain = identity.trust_domain
        load_pair(context, identity.chain_pem, identity.key_pem)
    return context


class Contexts:
    """The contexts of one identity, each made on first use. A renewed identity gets new Contexts."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._made: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}

    def server(self, alpn: tuple[str, ...], request_client_cert: ClientCert = "required") -> ssl.SSLContext:
        """See `server_context`."""
        made = self._made.get((request_client_cert, alpn))
        if made is None:
            made = server_context(self.identity, alpn=alpn, request_client_cert=request_client_cert)
            self._keep(request_client_cert, alpn, made)
        return made

    def client(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """See `client_context`."""
        made = self._made.get(("client", alpn))
        if made is None:
            made = client_context(self.identity, self.identity.bundle_pem, alpn)
            self._keep("client", alpn, made)
        return made

    def _keep(self, use: str, alpn: tuple[str, ...], context: ssl.SSLContext) -> None:
        if len(self._made) >= _MAX_CONTEXTS:
            self._made.clear()
        self._made[use, alpn] = context


def requested_name(end: TlsEnd) -> str:
    """The ServerName that the client asked for; "" when it sent none, or the context was not made here."""
    return end.requested_name if isinstance(end, MeshSocket | MeshObject) else ""


def server_name_parts(server_name: str) -> tuple[int, ServiceKey]:
    """Port and service of `PORT.SERVICE.NAMESPACE.mesh`. Raises PeerRefused for any other form.

    Whether that service is here and declares that port is for the caller to say.
    """
    match server_name.split("."):
        case [port, service, namespace, "mesh"] if service and namespace and _is_port(port):
            return int(port), ServiceKey(namespace, service)
    shown = server_name[:100]
    raise PeerRefused("server-name", f"the peer asked for {shown!r}; the form is PORT.SERVICE.NAMESPACE.mesh")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 5 and int(text) <= 65_535


def peer_spiffe_id(end: TlsEnd) -> str:
    """Who the peer proved to be. Call after the handshake; repeated calls are cheap.

    Raises PeerRefused: no certificate, expired since, or not an X.509-SVID of our trust domain.
    """
    context = end.context
    der = end.getpeercert(binary_form=True)
    if der is None or context.verify_mode == ssl.CERT_NONE:
        raise PeerRefused("no-certificate", "the peer showed no certificate")
    leaf = _known.get(der)
    if leaf is None:
        leaf = _judge(end, der)
        if len(_known) >= _MAX_KNOWN_LEAVES:
            _known.clear()
        _known[der] = leaf
    spiffe_id, trust_domain, not_after_s = leaf
    if isinstance(context, MeshContext) and context.trust_domain and trust_domain != context.trust_domain:
        raise PeerRefused("trust-domain", f"the peer is {spiffe_id}, which is not of {context.trust_domain}")
    if time.time() >= not_after_s:  # OpenSSL looked at the handshake; connections live on
        raise PeerRefused("expired", f"the certificate of {spiffe_id} has expired")
    return spiffe_id


def verify_peer(end: TlsEnd, allowed: frozenset[str]) -> str:
    """`peer_spiffe_id`, refused unless it is one of `allowed`."""
    spiffe_id = peer_spiffe_id(end)
    if spiffe_id not in allowed:
        expected = ", ".join(sorted(allowed)[:3]) or "nobody"
        raise PeerRefused("identity", f"the peer is {spiffe_id}; expected was {expected}")
    return spiffe_id


def verify_control_plane(end: TlsEnd) -> str:
    """`peer_spiffe_id`, refused unless it is the control plane of the trust domain (or of any, before we have one)."""
    spiffe_id = peer_spiffe_id(end)
    if names.parse(spiffe_id).path != names.CONTROL_PLANE_PATH:
        raise PeerRefused(
            "identity", f"the peer is {spiffe_id}, not a control plane; check the control plane's address"
        )
    return spiffe_id


# Facts of leaves that are right in themselves. Whom OpenSSL trusts is judged at every handshake, apart from this.
_known: dict[bytes, tuple[str, str, float]] = {}


def _judge(end: TlsEnd, der: bytes) -> tuple[str, str, float]:
    if reason := why_not_a_leaf(der):
        raise PeerRefused("not-a-workload", f"the peer's certificate {reason}")
    try:
        decoded = end.getpeercert()
        if not decoded:
            raise PeerRefused("no-certificate", "the peer showed no certificate that was verified")
        spiffe_id = names.workload_id(decoded.get("subjectAltName", ()))
        not_after_s = float(ssl.cert_time_to_seconds(str(decoded["notAfter"])))
    except names.SpiffeIdError as problem:
        raise PeerRefused("spiffe-id", f"the peer's certificate {problem}") from None
    except (ssl.SSLError, ValueError):  # ValueError: a name that is not UTF-8
        raise PeerRefused("unreadable", "the peer's certificate has a name that cannot be read") from None
    return str(spiffe_id), spiffe_id.trust_domain, not_after_s


def _context(side: "ssl._SSLMethod", bundle_pem: bytes, alpn: Sequence[str]) -> MeshContext:
    context = MeshContext(side)
    context.sslsocket_class = MeshSocket
    context.sslobject_class = MeshObject
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.check_hostname = False  # the ServerName names a port; who answers is judged by SPIFFE ID
    context.verify_mode = ssl.CERT_REQUIRED
    trust(context, bundle_pem)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _remember_name(end: TlsEnd, name: str | None, _context: ssl.SSLContext) -> None:
    if isinstance(end, MeshSocket | MeshObject):
        end.requested_name = name or ""


__all__ = [
    "Contexts",
    "Identity",
    "IdentityError",
    "PeerRefused",
    "client_context",
    "peer_spiffe_id",
    "requested_name",
    "server_context",
    "server_name_parts",
    "verify_control_plane",
    "verify_peer",
]
