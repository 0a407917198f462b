"""Real TLS sockets on loopback: every kind of bad peer is refused in both directions, good ones get through.

Each case says who refuses: OpenSSL (the bad side is sent an alert) or the SPIFFE rules (verify_peer, before a byte).
"""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from sidecar.transport import tls
from tests.support import pki

SERVER_NAME = "8080.orders.shop.mesh"
ALPN = ("http/1.1",)
WAIT_S = 5.0


@dataclass(frozen=True)
class Ends:
    """Both ends of a connection that stands."""

    client: ssl.SSLSocket
    server: ssl.SSLSocket


@pytest.fixture(scope="module")
def other_side() -> Iterator[ThreadPoolExecutor]:
    """A thread for the server's half of a blocking handshake."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of TCP sockets on loopback: client, server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), WAIT_S)
        server, _ = listener.accept()
    server.settimeout(WAIT_S)
    return client, server


@contextmanager
def connected(
    other_side: ThreadPoolExecutor, client: ssl.SSLContext, server: ssl.SSLContext, name: str | None = SERVER_NAME
) -> Iterator[Ends]:
    """A connection with the handshake done as far as the client sees it; the server's verdict may still come.

    In TLS 1.3 the client is through before the server has judged its certificate, so the server's outcome is raised
    here from its thread.
    """
    client_tcp, server_tcp = tcp_pair()
    with client_tcp, server_tcp:
        serving = other_side.submit(wrap, server, server_tcp, server_side=True)
        try:
            client_end = wrap(client, client_tcp, server_side=False, name=name)
        except ssl.SSLError:
            client_tcp.close()
            serving.exception(WAIT_S)
            raise
        with client_end, serving.result(WAIT_S) as server_end:
            yield Ends(client_end, server_end)


def wrap(context: ssl.SSLContext, tcp: socket.socket, *, server_side: bool, name: str | None = None) -> ssl.SSLSocket:
    return context.wrap_socket(tcp, server_side=server_side, server_hostname=name, suppress_ragged_eofs=False)


def server_of(identity: tls.Identity, request_client_cert: tls.ClientCert = "required") -> ssl.SSLContext:
    return tls.server_context(identity, alpn=ALPN, request_client_cert=request_client_cert)


def client_of(identity: tls.Identity) -> ssl.SSLContext:
    return tls.client_context(identity, identity.bundle_pem, ALPN)


def test_a_good_pair_knows_each_other_in_both_directions(other_side: ThreadPoolExecutor) -> None:
    frontend, orders = pki.identity("frontend"), pki.identity("orders")
    with connected(other_side, client_of(frontend), server_of(orders)) as ends:
        assert tls.peer_spiffe_id(ends.server) == "spiffe://mesh.local/ns/shop/sa/frontend"
        assert tls.verify_peer(ends.client, frozenset({orders.spiffe_id})) == orders.spiffe_id
        assert tls.requested_name(ends.server) == SERVER_NAME
        assert (ends.client.selected_alpn_protocol(), ends.server.selected_alpn_protocol()) == ("http/1.1", "http/1.1")
        assert ends.client.version() == "TLSv1.3"
        ends.client.sendall(b"ping")
        assert ends.server.recv(10) == b"ping"


ACCEPTED = "accepted"


def verdict(other_side: ThreadPoolExecutor, client: ssl.SSLContext, server: ssl.SSLContext, *, judge: str) -> str:
    """What the side named by `judge` says of the other: accepted, OpenSSL's words, or the reason of our own rules."""
    try:
        with connected(other_side, client, server) as ends:
            tls.peer_spiffe_id(ends.server if judge == "server" else ends.client)
            return ACCEPTED
    except tls.PeerRefused as refused:
        return refused.reason
    except ssl.SSLCertVerificationError as problem:
        return f"openssl: {problem.verify_message}"


# Kind of bad peer -> what the server says of it as a client, what the client says of it as a server.
NO_CHAIN = "openssl: unable to get local issuer certificate"
SELF_SIGNED = "openssl: self-signed certificate"
PURPOSE = "openssl: unsuitable certificate purpose"
VERDICTS = {
    "expired": ("openssl: certificate has expired",) * 2,
    "not yet valid": ("openssl: certificate is not yet valid",) * 2,
    "unknown root": (NO_CHAIN, NO_CHAIN),
    "unknown root of our name": (NO_CHAIN, NO_CHAIN),
    "wrong trust domain": ("trust-domain", "trust-domain"),
    "self-signed": (SELF_SIGNED, SELF_SIGNED),
    "self-signed with a name": (SELF_SIGNED, SELF_SIGNED),
    "issuer missing from the chain": (NO_CHAIN, NO_CHAIN),
    "CA as leaf": ("not-a-workload", "not-a-workload"),
    "CA without the right to sign": ("not-a-workload", "not-a-workload"),
    "keyCertSign": ("openssl: Key usage keyCertSign invalid for non-CA cert",) * 2,
    "cRLSign": ("not-a-workload", "not-a-workload"),
    "no digitalSignature": (PURPOSE, "not-a-workload"),
    "no KeyUsage": ("not-a-workload", "not-a-workload"),
    "two URI names": ("spiffe-id", "spiffe-id"),
    "the same URI name twice": ("spiffe-id", "spiffe-id"),
    "no URI name": ("spiffe-id", "spiffe-id"),
    "no name at all": ("spiffe-id", "spiffe-id"),
    "not a SPIFFE ID": ("spiffe-id", "spiffe-id"),
    "a SPIFFE ID without a path": ("spiffe-id", "spiffe-id"),
    "an upper-case trust domain": ("spiffe-id", "spiffe-id"),
    "a NUL in the name": ("spiffe-id", "spiffe-id"),
    "a line feed after the name": ("spiffe-id", "spiffe-id"),
    "for servers only": (PURPOSE, "not-a-workload"),
    "for clients only": ("not-a-workload", PURPOSE),
    "for code signing": (PURPOSE, PURPOSE),
    "empty subject, name not critical": ("openssl: Subject empty and Subject Alt Name extension not critical",) * 2,
}


def test_every_kind_of_bad_peer_has_a_verdict() -> None:
    assert set(VERDICTS) == set(pki.BAD_PEERS)


@pytest.mark.parametrize("kind", pki.BAD_PEERS)
def test_a_server_refuses_the_bad_client(kind: str, other_side: ThreadPoolExecutor) -> None:
    bad, good = client_of(pki.bad_peer(kind)), server_of(pki.identity("stock"))
    assert verdict(other_side, bad, good, judge="server") == VERDICTS[kind][0]


@pytest.mark.parametrize("kind", pki.BAD_PEERS)
def test_a_client_refuses_the_bad_server(kind: str, other_side: ThreadPoolExecutor) -> None:
    bad, good = server_of(pki.bad_peer(kind)), client_of(pki.identity("stock"))
    assert verdict(other_side, good, bad, judge="client") == VERDICTS[kind][1]


def test_a_good_leaf_forged_the_same_way_is_accepted(other_side: ThreadPoolExecutor) -> None:
    """The matrix above refuses for the one thing changed, not for how the certificates are made."""
    same = pki.pki().forged(pki.Leaf())
    assert verdict(other_side, client_of(same), server_of(same), judge="server") == ACCEPTED
    assert verdict(other_side, client_of(same), server_of(same), judge="client") == ACCEPTED


def test_the_refused_client_is_sent_an_alert_with_its_first_read(other_side: ThreadPoolExecutor) -> None:
    client_tcp, server_tcp = tcp_pair()
    with client_tcp, server_tcp:
        serving = other_side.submit(wrap, server_of(pki.identity()), server_tcp, server_side=True)
        with wrap(client_of(pki.bad_peer("expired")), client_tcp, server_side=False, name=SERVER_NAME) as client:
            assert isinstance(serving.exception(WAIT_S), ssl.SSLCertVerificationError)
            with pytest.raises(ssl.SSLError, match="SSLV3_ALERT_CERTIFICATE_EXPIRED"):
                client.recv(1)


def test_a_client_without_certificate_is_refused_where_one_is_required(other_side: ThreadPoolExecutor) -> None:
    client = tls.client_context(None, pki.pki().bundle_pem, ALPN)
    with (
        pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        connected(other_side, client, server_of(pki.identity())),
    ):
        pass


@pytest.mark.parametrize("request_client_cert", ["optional", "none"])
def test_a_client_without_certificate_is_let_in_as_nobody(
    request_client_cert: tls.ClientCert, other_side: ThreadPoolExecutor
) -> None:
    client = tls.client_context(None, pki.pki().bundle_pem, ALPN)
    with connected(other_side, client, server_of(pki.control_plane(), request_client_cert)) as ends:
        assert tls.verify_control_plane(ends.client) == "spiffe://mesh.local/ns/mesh-system/sa/control-plane"
        with pytest.raises(tls.PeerRefused, match="showed no certificate") as refused:
            tls.peer_spiffe_id(ends.server)
        assert refused.value.reason == "no-certificate"


def test_optional_still_refuses_a_bad_certificate_and_names_a_good_one(other_side: ThreadPoolExecutor) -> None:
    server = server_of(pki.control_plane(), "optional")
    assert verdict(other_side, client_of(pki.bad_peer("expired")), server, judge="server") == (
        "openssl: certificate has expired"
    )
    with connected(other_side, client_of(pki.identity("stock")), server) as ends:
        assert tls.peer_spiffe_id(ends.server) == "spiffe://mesh.local/ns/shop/sa/stock"


def test_a_certificate_that_nobody_checked_is_no_identity(other_side: ThreadPoolExecutor) -> None:
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    with (
        connected(other_side, careless, server_of(pki.identity(), "none")) as ends,
        pytest.raises(tls.PeerRefused, match="showed no certificate"),
    ):
        tls.peer_spiffe_id(ends.client)


def test_a_good_peer_that_was_not_meant_is_refused_by_name(other_side: ThreadPoolExecutor) -> None:
    stock, orders = pki.identity("stock"), pki.identity("orders")
    with connected(other_side, client_of(orders), server_of(stock)) as ends:
        for allowed, expected in ((frozenset({orders.spiffe_id}), orders.spiffe_id), (frozenset[str](), "nobody")):
            with pytest.raises(tls.PeerRefused) as refused:
                tls.verify_peer(ends.client, allowed)
            assert str(refused.value) == f"the peer is {stock.spiffe_id}; expected was {expected}"
            assert refused.value.reason == "identity"
        with pytest.raises(tls.PeerRefused, match="not a control plane"):
            tls.verify_control_plane(ends.client)


def test_a_peer_whose_certificate_ends_while_connected_is_refused_from_then_on(
    other_side: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontend = pki.identity("frontend")
    with connected(other_side, client_of(frontend), server_of(pki.identity())) as ends:
        assert tls.peer_spiffe_id(ends.server) == frontend.spiffe_id
        monkeypatch.setattr("sidecar.transport.tls.time.time", lambda: frontend.not_after_s)
        with pytest.raises(tls.PeerRefused, match="has expired"):
            tls.peer_spiffe_id(ends.server)


def test_tls_1_2_is_refused(other_side: ThreadPoolExecutor) -> None:
    old = client_of(pki.identity())
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"), connected(other_side, old, server_of(pki.identity())):
        pass


def test_no_session_can_be_resumed(other_side: ThreadPoolExecutor) -> None:
    client, server = client_of(pki.identity()), server_of(pki.identity())
    with connected(other_side, client, server) as ends:
        ends.server.sendall(b"x")
        assert ends.client.recv(1) == b"x"  # a ticket would have come before it
        session = ends.client.session
        assert session is None or not session.has_ticket
        assert ends.client.compression() is None


def test_protocols_without_overlap_choose_none(other_side: ThreadPoolExecutor) -> None:
    identity = pki.identity()
    client = tls.client_context(identity, identity.bundle_pem, ("h2",))
    with connected(other_side, client, server_of(identity)) as ends:
        assert ends.server.selected_alpn_protocol() is None


def test_without_a_server_name_the_requested_name_is_empty(other_side: ThreadPoolExecutor) -> None:
    identity = pki.identity()
    with connected(other_side, client_of(identity), server_of(identity), name=None) as ends:
        assert tls.requested_name(ends.server) == ""


def test_each_connection_of_one_context_keeps_its_own_name(other_side: ThreadPoolExecutor) -> None:
    identity = pki.identity()
    client, server = client_of(identity), server_of(identity)
    with (
        connected(other_side, client, server, "1.a.b.mesh") as first,
        connected(other_side, client, server, "2.c.d.mesh") as second,
    ):
        assert [tls.requested_name(ends.server) for ends in (first, second)] == ["1.a.b.mesh", "2.c.d.mesh"]


def test_rotation_swaps_contexts_and_keeps_old_connections_alive(other_side: ThreadPoolExecutor) -> None:
    """New leaf, new issuer, and a new root beside the old one: who is connected stays, who comes gets the new one."""
    domain, successor = pki.Pki(), pki.Pki()
    both = domain.bundle_pem + successor.bundle_pem
    old = tls.Contexts(domain.identity("orders", bundle_pem=both))
    caller = tls.Contexts(domain.identity("frontend", bundle_pem=both))
    with connected(other_side, caller.client(ALPN), old.server(ALPN)) as before:
        new = tls.Contexts(successor.identity("orders", bundle_pem=both))
        with connected(other_side, caller.client(ALPN), new.server(ALPN)) as after:
            assert tls.peer_spiffe_id(after.client) == tls.peer_spiffe_id(before.client)
            leaves = [ends.client.getpeercert(binary_form=True) for ends in (before, after)]
            assert leaves[0] != leaves[1]
            for ends in (before, after):
                ends.client.sendall(b"still here")
                assert ends.server.recv(20) == b"still here"


def test_who_does_not_know_the_new_root_yet_refuses_it(other_side: ThreadPoolExecutor) -> None:
    successor = pki.Pki().identity("orders", bundle_pem=pki.pki().bundle_pem)
    assert verdict(other_side, client_of(pki.identity()), server_of(successor), judge="client") == NO_CHAIN
