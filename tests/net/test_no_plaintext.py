"""In strict mode not one byte of a request leaves in plain text, whatever is wrong with the other side.

Between two sidecars stands a relay that keeps every byte of both directions, as a tap on the wire would.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from sidecar.model.bootstrap import HostPort, MtlsMode
from sidecar.model.snapshot import Snapshot
from sidecar.transport.identity import Identity
from tests.net.test_mesh_hop import NAME, ORDERS, ORDERS_ID, to_orders
from tests.support import pki
from tests.support.http2 import PREFACE
from tests.support.planes import ask, inbound_bootstrap, outbound_bootstrap, raw_app, running

SECRET = b"a-word-that-nobody-else-says"
REQUEST = b"POST /%b HTTP/1.1\r\nHost: orders\r\nX-Secret: %b\r\nContent-Length: %d\r\n\r\n%b" % (
    SECRET, SECRET, len(SECRET), SECRET)  # fmt: skip
NO_RULES = Snapshot(complete=True)
PLAIN_SIGNS = (SECRET, b"HTTP/1.", PREFACE[:14], b"X-Secret", b"orders\r\n")


@dataclass
class Tap:
    """What went over the wire, both directions and all connections."""

    address: HostPort = field(default=HostPort("", 0))
    seen: bytearray = field(default_factory=bytearray)
    connections: int = 0


@asynccontextmanager
async def tapped(to: tuple[str, int]) -> AsyncIterator[Tap]:
    """Relay connections to an address, and keep all that passes."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tap = Tap(HostPort(*listener.socket.getsockname()[:2]))

    async def serve(near: trio.SocketStream) -> None:
        tap.connections += 1
        try:
            far = await trio.open_tcp_stream(*to)
            async with far, trio.open_nursery() as nursery:
                nursery.start_soon(carry, near, far)
                nursery.start_soon(carry, far, near)
        except OSError:
            await trio.aclose_forcefully(near)

    async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while piece := await source.receive_some():
                tap.seen += piece
                await sink.send_all(piece)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(source)
            await trio.aclose_forcefully(sink)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield tap
        nursery.cancel_scope.cancel()


async def asked(tap: Tap, caller: Identity | None, name: str = NAME, expected: str = ORDERS_ID) -> int:
    """Send the secret through a caller's sidecar that dials the tap; the status."""
    snapshot = to_orders((tap.address.host, tap.address.port), name=name, expected=expected)
    async with running(outbound_bootstrap("frontend", {ORDERS: 8080}), snapshot, caller) as calling:
        answer, _ = await ask(calling.addresses[0], REQUEST)
    return int(answer.split(b" ", 2)[1])


def nothing_plain(tap: Tap) -> bool:
    return not any(sign in tap.seen for sign in PLAIN_SIGNS)


async def test_a_good_pair_speaks_and_the_wire_shows_nothing() -> None:
    async with raw_app() as app:
        inbound = inbound_bootstrap("orders", app.address)
        called_as = pki.identity("orders")
        async with running(inbound, NO_RULES, called_as) as called, tapped(called.addresses[0]) as tap:
            assert await asked(tap, pki.identity("frontend")) == 200
            assert SECRET in app.received
            assert len(tap.seen) > 1000
            assert nothing_plain(tap)


CASES = {
    "the called side has no identity": (None, "frontend", NAME, ORDERS_ID),
    "the caller has no identity": ("orders", None, NAME, ORDERS_ID),
    "the called side is somebody else": ("billing", "frontend", NAME, ORDERS_ID),
    "another identity is expected": ("orders", "frontend", NAME, "spiffe://mesh.local/ns/shop/sa/billing"),
    "the name is not served": ("orders", "frontend", "8080.billing.shop.mesh", ORDERS_ID),
    "an identity of another domain": ("orders", "stranger", NAME, ORDERS_ID),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_goes_wrong_is_an_error_and_never_plain_text(case: str) -> None:
    called_as, caller_as, name, expected = CASES[case]
    caller = None if caller_as is None else pki.identity(caller_as)
    if caller_as == "stranger":
        caller = pki.Pki("elsewhere.local").identity("frontend")
    async with raw_app() as app:
        inbound = inbound_bootstrap("orders", app.address)
        identity = pki.identity(called_as) if called_as is not None else None
        async with running(inbound, NO_RULES, identity) as called, tapped(called.addresses[0]) as tap:
            assert await asked(tap, caller, name, expected) in (502, 503, 504)
            assert app.received == b""
            assert nothing_plain(tap)


async def test_a_server_that_speaks_plain_text_gets_none() -> None:
    async with raw_app() as app, tapped(app.address) as tap:
        assert await asked(tap, pki.identity("frontend")) in (502, 503, 504)
        assert tap.connections
        assert SECRET not in app.received
        assert nothing_plain(tap)


async def test_plain_text_to_a_strict_side_reaches_no_app() -> None:
    async with raw_app() as app:
        inbound = inbound_bootstrap("orders", app.address, mtls=MtlsMode.STRICT)
        async with running(inbound, NO_RULES, pki.identity("orders")) as called:
            answer, closed = await ask(called.addresses[0], REQUEST)
            assert closed
            assert not answer.startswith(b"HTTP/")
            assert app.received == b""
