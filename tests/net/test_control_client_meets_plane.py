"""The sidecar's own control client against the real control plane: the two ends of port 15012 meet."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from time import time
from typing import Any

import pytest
import trio

from control_plane.answers import SidecarRow
from control_plane.facade import ControlPlane, run
from control_plane.settings import Intervals, ServeConfig
from sidecar.config.resources import parse_wire
from sidecar.control.client import ControlClient
from sidecar.control.push import Push
from sidecar.control.state import Applied
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import ControlPlaneConfig, HostPort, NodeInfo
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Resource, Snapshot
from sidecar.transport.identity import Identity

PATIENCE_S = 10.0
ORDERS = ServiceKey("shop", "orders")
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules: [{backendRefs: [{name: orders, port: 8080, weight: %d}]}]
"""


class App:
    """What a sidecar's app does with a control client, without a proxy; refuses names in `refuse`."""

    def __init__(self, *, registers: bool) -> None:
        self.applied = Applied(snapshot=Snapshot())
        self.pushes: list[Push] = []
        self.refuse: set[str] = set()
        self.identity: Identity | None = None
        self.renewed = trio.Event()
        self.is_ready = True
        self.wants: Callable[[], frozenset[ServiceKey]] = frozenset
        self._registers = registers
        self._moved = trio.Event()

    def apply(self, push: Push) -> Applied:
        self.pushes.append(push)
        self.applied = self.applied.after(push, self._parse, self.wants())
        self._moved.set()
        self._moved = trio.Event()
        return self.applied

    def _parse(self, name: str, version: int, document: str) -> Resource:
        if name in self.refuse:
            raise ConfigError(["spec: not to the taste of this test"])
        return parse_wire(name, version, document)

    def identity_changed(self, identity: Identity) -> None:
        if self.identity is not None:
            self.renewed.set()
        self.identity = identity

    def report(self) -> dict[str, Any]:
        return {"counters": [], "ejected": [], "config": {"version": 0, "age_s": 0.0}, "cert": {}}

    def ready(self) -> bool:
        return self.is_ready

    def workload(self) -> dict[str, Any] | None:
        ports = [{"port": 8080, "protocol": "http"}]
        return {"address": "", "inbound": 15006, "ports": ports, "ready": self.is_ready} if self._registers else None

    def drain(self) -> None:
        pass

    async def until(self, holds: Callable[[Snapshot], bool]) -> None:
        """Wait until the configuration is so."""
        with trio.fail_after(PATIENCE_S):
            while not holds(self.applied.snapshot):
                await self._moved.wait()


Served = Callable[[str], AbstractAsyncContextManager[ControlPlane]]


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Serves the same data on a given address, again and again."""

    @asynccontextmanager
    async def serve(stream: str) -> AsyncIterator[ControlPlane]:
        config = ServeConfig(
            data=tmp_path / "data", stream=stream, intervals=Intervals(debounce_s=0.01), say=lambda _: None
        )
        async with trio.open_nursery() as nursery:
            plane: ControlPlane = await nursery.start(run, config)
            yield plane
            nursery.cancel_scope.cancel()

    return serve


async def joined(plane: ControlPlane, folder: Path, service: str, app: App) -> ControlClient:
    """A control client beside `service`, with a join file of its own; not yet running."""
    made = await plane.create_token(service=service, namespace="shop")
    join_file = folder / f"{service}.join.pem"
    join_file.touch(mode=0o600)
    join_file.write_text(made.join_file)
    host, _, port = plane.stream_address.rpartition(":")
    config = ControlPlaneConfig(
        address=HostPort(host, int(port)), join_file=join_file, cache=folder / f"{service}.cache", report_interval_s=0.2
    )
    node = NodeInfo(service=service, namespace="shop", id=f"{service}-1", account=service)
    client = ControlClient(config, node, app, rng=Random(1), now_unix=time)
    app.wants = client.wants
    return client


@asynccontextmanager
async def sidecar(plane: ControlPlane, folder: Path, service: str, app: App) -> AsyncIterator[ControlClient]:
    """A running control client; says bye at the end."""
    client = await joined(plane, folder, service, app)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        yield client
        nursery.cancel_scope.cancel()


async def until(plane: ControlPlane, node: str, holds: Callable[[SidecarRow | None], bool]) -> None:
    """Wait until the node's status is so."""
    with trio.fail_after(PATIENCE_S):
        while not holds(next((row for row in (await plane.status()).sidecars if row.node == node), None)):
            await plane._hub.moved()


def in_sync(row: SidecarRow | None) -> bool:
    return row is not None and row.in_sync


async def test_a_service_is_registered_found_and_gone_again(served: Served, tmp_path: Path) -> None:
    caller = App(registers=False)
    async with served("127.0.0.1:0") as plane, sidecar(plane, tmp_path, "frontend", caller) as client:
        assert await client.wait_known(ORDERS, PATIENCE_S) is Known.ABSENT
        app = App(registers=True)
        async with sidecar(plane, tmp_path, "orders", app) as orders:
            await caller.until(lambda snapshot: snapshot.knows(ORDERS) is Known.FOUND)
            found = caller.applied.snapshot.endpoints(ORDERS)
            assert found is not None
            assert [(each.id, each.ready) for each in found.endpoints] == [("orders-1", True)]
            app.is_ready = False
            orders.ready_changed()
            await caller.until(lambda now: not any(e.ready for e in (now.endpoints(ORDERS) or found).endpoints))
        await caller.until(lambda now: (now.endpoints(ORDERS) or found).endpoints == ())  # said bye
        await until(plane, "shop/orders-1", lambda row: row is None)


async def test_a_control_plane_that_comes_back_sends_nothing_twice(served: Served, tmp_path: Path) -> None:
    app = App(registers=True)
    async with trio.open_nursery() as nursery:
        async with served("127.0.0.1:0") as first:
            client = await joined(first, tmp_path, "orders", app)
            await nursery.start(client.run)
            assert await client.wait_known(ORDERS, PATIENCE_S) is Known.FOUND
            await first.apply(ROUTE % 1)
            await app.until(lambda now: "HTTPRoute/shop/orders" in now.resources)
            await until(first, "shop/orders-1", in_sync)
        pushes = len(app.pushes)
        async with served(first.stream_address) as second:
            await until(second, "shop/orders-1", in_sync)
            assert len(app.pushes) == pushes
            await second.apply(ROUTE % 2)
            await app.until(lambda now: '"weight":2' in now.resources["HTTPRoute/shop/orders"].document)
            assert [item.name for item in app.pushes[-1].set] == ["HTTPRoute/shop/orders"]
            nursery.cancel_scope.cancel()


async def test_a_refused_route_leaves_the_rest_in_force(served: Served, tmp_path: Path) -> None:
    app = App(registers=True)
    async with served("127.0.0.1:0") as plane, sidecar(plane, tmp_path, "orders", app) as client:
        assert await client.wait_known(ORDERS, PATIENCE_S) is Known.FOUND
        app.refuse.add("HTTPRoute/shop/orders")
        applied = await plane.apply(ROUTE % 1)
        waited = await plane.wait_revision(applied.revision, PATIENCE_S)
        assert [(each.node, each.reason) for each in waited.rejected] == [
            ("shop/orders-1", "spec: not to the taste of this test")
        ]
        app.refuse.clear()
        applied = await plane.apply(ROUTE % 2)
        waited = await plane.wait_revision(applied.revision, PATIENCE_S)
        assert (waited.acked, waited.rejected) == (("shop/orders-1",), ())


async def test_rotation_renews_the_certificate(served: Served, tmp_path: Path) -> None:
    app = App(registers=True)
    async with served("127.0.0.1:0") as plane, sidecar(plane, tmp_path, "orders", app):
        await until(plane, "shop/orders-1", in_sync)
        first = app.identity
        assert first is not None
        await plane.rotate(0.0)
        with trio.fail_after(PATIENCE_S):
            await app.renewed.wait()
        assert app.identity is not None
        assert app.identity is not first
        assert app.identity.spiffe_id == first.spiffe_id
