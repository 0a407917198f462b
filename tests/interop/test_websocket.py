"""WebSocket through us is WebSocket: every size and kind of message, pings, fragments and ends, as without us."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest

from tests.interop.upstreams.farm import H1, H2
from tests.interop.websocket import client_aiohttp, client_websockets, node_ws, over_http2, script
from tests.interop.websocket.script import Script
from tests.interop.world import World

HOPS = ("direct", "plain", "meshed", "auto")
CODES = ("1000", "1001", "4000")
PROGRAMS = ("websockets", "aiohttp", "node")
TIMEOUT_S = 30.0  # of a whole script; it takes some tenths of a second
_NODE = pytest.mark.needs("node", "npm")
Client = Callable[[int, Script, float], list[str]]


@pytest.fixture
def clients(world: World, request: pytest.FixtureRequest) -> dict[str, Client]:
    """All clients by name; Node's only where a test uses Node."""
    made: dict[str, Client] = {"websockets": client_websockets.run, "aiohttp": client_aiohttp.run}
    if any("npm" in marker.args for marker in request.node.iter_markers("needs")):
        folder = world.farm.node_ws = node_ws.install(request.config)
        made["node"] = partial(node_ws.run, folder)
    return made


def _cases(*axes: tuple[str, ...]) -> list[object]:
    """All combinations; those with Node need it."""
    return [pytest.param(*case, marks=[_NODE] if "node" in case else [], id="-".join(case)) for case in product(*axes)]


def _port(world: World, server: str, hop: str) -> int:
    upstream = f"ws-{server}"
    world.farm.need(upstream)
    port = world.farm.ports[upstream, H1]
    return port if hop == "direct" else world.sidecars.port(port, hop)


@pytest.mark.parametrize(("client", "server", "hop"), _cases(PROGRAMS, PROGRAMS, HOPS))
def test_every_message_comes_back_as_it_went(
    world: World, clients: dict[str, Client], client: str, server: str, hop: str
) -> None:
    steps = script.conversation(client)
    assert clients[client](_port(world, server, hop), steps, TIMEOUT_S) == script.expected(steps)


@pytest.mark.parametrize(("client", "server"), _cases(PROGRAMS, PROGRAMS))
def test_how_the_client_ends_is_what_the_server_sees(
    world: World, clients: dict[str, Client], client: str, server: str
) -> None:
    port, run = _port(world, server, "meshed"), clients[client]
    for code in CODES:
        token = f"{client}-{code}"
        run(port, (("say", f"!name {token}"), ("close", code)), TIMEOUT_S)
        assert run(port, script.ended(token), TIMEOUT_S)[0] == f"said !{code} so long"


@pytest.mark.parametrize(("client", "server"), _cases(PROGRAMS, PROGRAMS))
def test_how_the_server_ends_is_what_the_client_sees(
    world: World, clients: dict[str, Client], client: str, server: str
) -> None:
    for code in CODES:
        steps = (("text", "125"), ("order", f"!close {code} enough of it"), ("closed", ""))
        transcript = clients[client](_port(world, server, "meshed"), steps, TIMEOUT_S)
        assert transcript[-1] == f"closed {code} enough of it"


OVER_HTTP2 = (*((kind, str(size)) for size in script.SIZES for kind in ("text", "binary")), ("ping", "are you there"))


_HAPROXY = pytest.mark.needs("haproxy", "node")
SERVERS = (("ws-websockets", H1), ("ws-aiohttp", H1), ("hypercorn", H1), ("hypercorn", H2), ("haproxy", H2))


@pytest.mark.parametrize("hop", ["plain", "meshed"])
@pytest.mark.parametrize(
    ("upstream", "version"),
    [pytest.param(*pair, id="-".join(pair), marks=[_HAPROXY] if "haproxy" in pair else []) for pair in SERVERS],
)
def test_a_client_of_http2_reaches_servers_of_both(world: World, upstream: str, version: str, hop: str) -> None:
    world.farm.need("ws-websockets")  # stands behind HAProxy
    world.farm.need(upstream)
    port = world.sidecars.port(world.farm.ports[upstream, version], hop)
    steps = (*OVER_HTTP2, ("close", "1000"))
    assert over_http2.run(port, steps, TIMEOUT_S) == script.expected(steps)


@_HAPROXY
@pytest.mark.parametrize("hop", ["plain", "meshed"])
@pytest.mark.parametrize("client", ["websockets", "aiohttp", pytest.param("node", marks=_NODE)])
def test_a_client_of_http1_reaches_a_server_of_http2(
    world: World, clients: dict[str, Client], client: str, hop: str
) -> None:
    # HAProxy, because hypercorn 0.18 never ends the stream of a WebSocket that its client closed.
    world.farm.need("ws-websockets")
    world.farm.need("haproxy")
    port = world.sidecars.port(world.farm.ports["haproxy", H2], hop)
    steps = script.conversation(client)
    assert clients[client](port, steps, TIMEOUT_S) == script.expected(steps)
