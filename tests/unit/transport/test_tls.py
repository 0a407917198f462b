"""What tls decides without a network: server names, one context per identity, and what a verdict says.

The verdicts on real peers are in tests/net/test_tls_peers.py.
"""

import ssl
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.loopback import shake_hands
from sidecar.model.clusters import ServiceKey
from sidecar.transport import tls
from tests.support import pki

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ALPN = ("http/1.1",)


@given(st.integers(1, 65_535), LABELS, LABELS)
def test_a_server_name_gives_port_and_service(port: int, service: str, namespace: str) -> None:
    parts = tls.server_name_parts(f"{port}.{service}.{namespace}.mesh")
    assert parts == (port, ServiceKey(namespace, service))


@given(st.text("08.ameshor-٣²", max_size=24) | st.text(max_size=24))
def test_any_server_name_is_read_back_unchanged_or_refused(name: str) -> None:
    try:
        port, service = tls.server_name_parts(name)
    except tls.PeerRefused as refused:
        reason = refused.reason
    else:
        reason = "" if f"{port}.{service.name}.{service.namespace}.mesh" == name else "read otherwise than written"
    assert reason in ("", "server-name")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "orders.shop.mesh",
        "8080.orders.shop",
        "8080.orders.shop.MESH",
        "8080.orders.shop.mesh.",
        "8080.orders.shop.svc.mesh",
        "8080..shop.mesh",
        "8080.orders..mesh",
        ".orders.shop.mesh",
        "0.orders.shop.mesh",
        "08080.orders.shop.mesh",
        "65536.orders.shop.mesh",
        "999999999999.orders.shop.mesh",
        "-1.orders.shop.mesh",
        "+1.orders.shop.mesh",
        "8_0.orders.shop.mesh",
        "²³.orders.shop.mesh",
        "٣.orders.shop.mesh",
        "x" * 5000,
    ],
)
def test_other_server_names_are_refused_in_a_bounded_sentence(name: str) -> None:
    with pytest.raises(tls.PeerRefused, match=r"the form is PORT\.SERVICE\.NAMESPACE\.mesh") as refused:
        tls.server_name_parts(name)
    assert refused.value.reason == "server-name"
    assert len(str(refused.value)) < 250


def test_a_context_is_made_once_per_identity_and_use() -> None:
    contexts = tls.Contexts(pki.identity())
    assert contexts.client(ALPN) is contexts.client(ALPN)
    assert contexts.server(ALPN) is contexts.server(ALPN)
    made = [contexts.client(ALPN), contexts.client(("h2",)), contexts.server(ALPN), contexts.server(ALPN, "optional")]
    assert len({id(context) for context in made}) == 4


def test_the_contexts_of_one_identity_are_bounded() -> None:
    contexts = tls.Contexts(pki.identity())
    for number in range(40):
        contexts.client((f"protocol-{number}",))
    assert len(contexts._made) <= 32


def test_known_leaves_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_MAX_KNOWN_LEAVES", 2)
    monkeypatch.setattr(tls, "_known", {})
    server = tls.Contexts(pki.identity("stock")).server(ALPN)
    for account in ("a", "b", "c"):
        _, seen = shake_hands(tls.Contexts(pki.identity(account)).client(ALPN), server)
        assert tls.peer_spiffe_id(seen) == f"spiffe://mesh.local/ns/shop/sa/{account}"
        assert len(tls._known) <= 2


def test_a_leaf_that_is_known_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = tls.Contexts(pki.identity("stock"))
    _, seen = shake_hands(contexts.client(ALPN), contexts.server(ALPN))
    first = tls.peer_spiffe_id(seen)

    def judged_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(tls, "_judge", judged_again)
    _, again = shake_hands(contexts.client(ALPN), contexts.server(ALPN))
    assert tls.peer_spiffe_id(again) == first


def test_a_known_leaf_is_still_refused_where_another_trust_domain_is_expected() -> None:
    """The cache holds what a leaf says, never whether it may come in."""
    home, abroad = pki.pki(), pki.pki("other.example")
    both = home.bundle_pem + abroad.bundle_pem
    caller = tls.Contexts(home.identity("stock", bundle_pem=both)).client(ALPN)
    servers = [tls.Contexts(domain.identity("orders", bundle_pem=both)).server(ALPN) for domain in (home, abroad)]
    for _ in range(2):
        at_home, away = (shake_hands(caller, server)[1] for server in servers)
        assert tls.peer_spiffe_id(at_home) == "spiffe://mesh.local/ns/shop/sa/stock"
        with pytest.raises(tls.PeerRefused, match=r"which is not of other\.example") as refused:
            tls.peer_spiffe_id(away)
        assert refused.value.reason == "trust-domain"


def test_a_server_name_that_is_not_ascii_fails_its_own_handshake_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ssl module decodes the name before it asks us, and tells `sys.unraisablehook` when that fails."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: told.append(problem.exc_value))
    contexts = tls.Contexts(pki.identity())
    client, server = contexts.client(ALPN), contexts.server(ALPN)
    to_server = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="8080.orders.shop.mesh").do_handshake()
    hello = to_server.read().replace(b"8080.orders", b"8080.\xff\xfe\xfd\xfc\xfb\xfa")
    damaged, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    damaged.write(hello)
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        server.wrap_bio(damaged, answer, server_side=True).do_handshake()
    assert [type(problem) for problem in told] == [UnicodeDecodeError]
    assert answer.read()[:1] == b"\x15"  # the peer is sent an alert
    assert tls.peer_spiffe_id(shake_hands(client, server)[1]) == pki.identity().spiffe_id


def test_names_work_on_tls_in_memory_as_on_sockets() -> None:
    contexts = tls.Contexts(pki.identity())
    client, server = shake_hands(contexts.client(ALPN), contexts.server(ALPN))
    assert isinstance(server, tls.MeshObject)
    assert (tls.requested_name(server), server.selected_alpn_protocol()) == ("", "http/1.1")
    assert tls.peer_spiffe_id(client) == pki.identity().spiffe_id
