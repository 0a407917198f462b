"""A sidecar process and a control plane that a test commands: NACK, cold start, corrupt cache, the wrong root."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from sidecar.config.resources import to_document
from sidecar.control import messages as m
from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import Endpoint, EndpointSet, Service, ServiceKey, ServicePort
from tests.support.fake_control_plane import TOKEN, FakeControlPlane
from tests.support.pki import Pki
from tests.support.planes import ask, raw_app
from tests.support.processes import Running, running

STOCK = ServiceKey("shop", "stock")
GET = b"GET /x HTTP/1.1\r\nHost: stock:80\r\n\r\n"
POLICY: dict[str, dict[str, object] | str] = {
    "apiVersion": "sidecar-mesh.dev/v1alpha1",
    "kind": "TrafficPolicy",
    "metadata": {"name": "stock", "namespace": "shop"},
    "spec": {"targetRefs": [{"kind": "Service", "name": "stock"}], "timeouts": {"request": "7s"}},
}


def put_stock(control: FakeControlPlane, *apps: HostPort) -> None:
    endpoints = tuple(
        Endpoint(id=f"stock-{number}", service_port=80, host=app.host, port=app.port)
        for number, app in enumerate(apps, 1)
    )
    control.put("Service/shop/stock", json.dumps(to_document(Service(STOCK, (ServicePort(80),)))))
    control.put("Endpoints/shop/stock", json.dumps(to_document(EndpointSet(STOCK, endpoints))))


def write_bootstrap(folder: Path, control: FakeControlPlane) -> Path:
    control.tokens[TOKEN] = ("shop", "frontend")
    control.write_join_file(folder / "join.pem")
    path = folder / "frontend.yaml"
    path.write_text(
        "node: {service: frontend, namespace: shop}\n"
        f"control_plane: {{address: '{control.address}', join_file: ./join.pem, cache: ./cache}}\n"
        "outbound: {listen: ['127.0.0.1:0']}\n"
        "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
    )
    return path


async def admin(made: Running, path: str) -> Any:
    request = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
    answer, _ = await ask(made.listening["admin"], request)
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@asynccontextmanager
async def control_plane() -> AsyncIterator[tuple[FakeControlPlane, trio.CancelScope]]:
    control = FakeControlPlane()
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await control.listen(task_status)

        await nursery.start(listen)
        yield control, scope
        nursery.cancel_scope.cancel()


async def test_an_unknown_value_is_nacked_and_blocks_nothing_else(tmp_path: Path) -> None:
    async with raw_app() as first, raw_app() as second, control_plane() as (control, _):
        put_stock(control, first.address)
        control.put("TrafficPolicy/shop/stock", json.dumps(POLICY))
        await control.push()
        file = write_bootstrap(tmp_path, control)
        async with running("sidecar", "run", "-c", str(file), until="listening outbound") as sidecar:
            address = sidecar.listening["outbound"]
            assert (await ask(address, GET))[0].startswith(b"HTTP/1.1 200 ")
            assert first.received

            targets = [{"kind": "Service", "name": "stock"}]
            wrong = {**POLICY, "spec": {"targetRefs": targets, "balancing": {"algorithm": "quantum"}}}
            control.put("TrafficPolicy/shop/stock", json.dumps(wrong))
            put_stock(control, second.address)
            version = await control.push()
            await control.until(lambda: any(ack.version == version for ack in control.heard(m.Ack)))

            [nack] = control.heard(m.Nack)
            assert (nack.version, nack.name) == (version, "TrafficPolicy/shop/stock")
            assert "quantum" in nack.reason
            assert "least-request" in nack.reason
            assert (await ask(address, GET))[0].startswith(b"HTTP/1.1 200 ")
            assert second.received
            config = await admin(sidecar, "/config")
            [rejected] = config["rejected"]
            assert rejected["name"] == "TrafficPolicy/shop/stock"
            kept = {each["name"]: each["version"] for each in config["resources"]}
            assert kept["TrafficPolicy/shop/stock"] < kept["Endpoints/shop/stock"]

            control.put("TrafficPolicy/shop/stock", json.dumps(POLICY))
            version = await control.push()
            await control.until(lambda: any(ack.version == version for ack in control.heard(m.Ack)))
            assert (await admin(sidecar, "/config"))["rejected"] == []


async def test_a_restart_without_control_plane_serves_from_the_cache_within_two_seconds(tmp_path: Path) -> None:
    async with raw_app() as app, control_plane() as (control, scope):
        put_stock(control, app.address)
        file = write_bootstrap(tmp_path, control)
        async with running("sidecar", "run", "-c", str(file), until="listening outbound") as sidecar:
            assert (await ask(sidecar.listening["outbound"], GET))[0].startswith(b"HTTP/1.1 200 ")
            await trio.sleep(1.2)  # the cache is written at most once a second
            await sidecar.end()
        scope.cancel()
        started = time.monotonic()
        async with running("sidecar", "run", "-c", str(file), until="listening outbound") as sidecar:
            answer, _ = await ask(sidecar.listening["outbound"], GET)
            took_s = time.monotonic() - started
            assert answer.startswith(b"HTTP/1.1 200 ")
            [line] = [line for line in sidecar.said if line.startswith("serving ")]
            assert line.startswith("serving 2 resources from the cache, ")
            assert line.endswith(" s old")
            config = await admin(sidecar, "/config")
            assert isinstance(config["age_s"], float)
            assert config["age_s"] > 0
            assert config["source"]["connected"] is False
        assert took_s < 2.0, f"{took_s:.1f}s"


async def test_a_corrupt_cache_is_put_aside_with_one_line(tmp_path: Path) -> None:
    async with raw_app() as app, control_plane() as (control, _):
        put_stock(control, app.address)
        file = write_bootstrap(tmp_path, control)
        cache = tmp_path / "cache" / "shop.frontend.cache"
        cache.parent.mkdir(mode=0o700)
        cache.write_bytes(b"sidecar-mesh cache\ngarbage\n")
        async with running("sidecar", "run", "-c", str(file), until="listening outbound") as sidecar:
            assert (await ask(sidecar.listening["outbound"], GET))[0].startswith(b"HTTP/1.1 200 ")
            [line] = [line for line in sidecar.said if "cache" in line]
            assert line == (
                f"{cache}: the configuration cache is not used: it does not begin as a cache file does, so it is "
                f"damaged or cut off; kept as {cache.name}.corrupt for a look; starting without it"
            )
            assert sidecar.out == b""


async def test_a_join_file_with_the_wrong_root_says_so_and_sends_no_token(tmp_path: Path) -> None:
    async with control_plane() as (control, _):
        file = write_bootstrap(tmp_path, control)
        stranger = FakeControlPlane(Pki("elsewhere.example"))
        stranger.write_join_file(tmp_path / "join.pem")
        async with running("sidecar", "run", "-c", str(file), until="trust root") as sidecar:
            assert await sidecar.until("trust root") == (
                f"the control plane at {control.address} is not of the trust root in {tmp_path / 'join.pem'} "
                "(unable to get local issuer certificate); put a new join file of that control plane in its place: "
                "meshctl token create"
            )
            assert control.heard(m.Join) == []
            assert not any("Traceback" in said for said in sidecar.said)
