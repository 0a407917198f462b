"""A route change moves new WebSockets to another service, and does not cut those that are open."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.interop.children import Child, start
from tests.interop.upstreams.farm import H1
from tests.interop.websocket.script import SUBPROTOCOL
from tests.interop.world import World
from tests.support.processes import BIN

BEFORE, AFTER = "ws-websockets", "ws-aiohttp"


def write(folder: Path, name: str, document: object) -> None:
    """A resource, there at once and whole."""
    new = folder / f"{name}.new"
    new.write_text(json.dumps(document))
    new.rename(folder / f"{name}.yaml")


def workload(service: str, port: int, address: str = "127.0.0.1") -> object:
    return {
        "apiVersion": "sidecar-mesh.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": f"{service}-at-{address}", "namespace": "shop"},
        "spec": {"service": service, "address": address, "ports": [{"port": port, "protocol": "http"}]},
    }


def route(port: int, backend_port: int) -> object:
    backend = {"name": "after", "port": backend_port}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "before", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "before", "port": port}],
            "rules": [{"backendRefs": [backend]}],
        },
    }


@pytest.fixture
def resources(tmp_path: Path, world: World) -> Path:
    """The folder of resources: two services, no route."""
    folder = tmp_path / "mesh.d"
    folder.mkdir()
    for service, upstream in (("before", BEFORE), ("after", AFTER)):
        world.farm.need(upstream)
        write(folder, service, workload(service, world.farm.ports[upstream, H1]))
    return folder


@pytest.fixture
def sidecar(tmp_path: Path, world: World, resources: Path) -> Iterator[Child]:
    """A sidecar with one listener, for the service `before`."""
    upstream = {"service": "before.shop", "port": world.farm.ports[BEFORE, H1], "listen": "127.0.0.1:0"}
    bootstrap = {
        "node": {"service": "frontend", "namespace": "shop"},
        "static": "./mesh.d",
        "outbound": {"listen": [], "upstreams": [upstream]},
        "admin": {"listen": "127.0.0.1:0"},
        "metrics": {"listen": "127.0.0.1:0"},
    }
    path = tmp_path / "sidecar.yaml"
    path.write_text(json.dumps(bootstrap))
    child = start("sidecar", (BIN / "sidecar", "run", "-c", path), tmp_path)
    try:
        child.until_said("^listening outbound before")
        yield child
    finally:
        child.stop()


def open_one(sidecar: Child) -> ClientConnection:
    [port] = [port for name, port in sidecar.listening().items() if name.startswith("outbound before")]
    return connect(f"ws://127.0.0.1:{port}/echo", subprotocols=[SUBPROTOCOL], proxy=None)  # type: ignore[list-item]


def server_of(connection: ClientConnection) -> str:
    assert connection.response is not None
    return connection.response.headers["Server"]


def say(connection: ClientConnection, text: str) -> str | bytes:
    connection.send(text)
    return connection.recv(timeout=10)


def test_an_open_websocket_stays_and_a_new_one_goes_the_new_way(sidecar: Child, resources: Path, world: World) -> None:
    with open_one(sidecar) as old:
        assert "websockets" in server_of(old)
        assert say(old, "before the change") == "before the change"

        write(resources, "route", route(world.farm.ports[BEFORE, H1], world.farm.ports[AFTER, H1]))
        sidecar.until_said("^configuration reloaded")

        with open_one(sidecar) as new:
            assert "aiohttp" in server_of(new)
            assert say(new, "the new way") == "the new way"
        assert say(old, "after the change") == "after the change"

        # Even when its endpoint is gone: another takes its place.
        write(resources, "before", workload("before", world.farm.ports[BEFORE, H1], "127.0.0.2"))
        sidecar.until_said(r"configuration reloaded: .*\n(.*\n)*configuration reloaded: ")
        assert say(old, "x" * 100_000) == "x" * 100_000
