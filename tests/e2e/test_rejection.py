"""A resource that a sidecar cannot use, from `meshctl apply` to `meshctl status`: real processes on both sides."""

import json
from functools import partial
from pathlib import Path

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.support import newer_plane, plane
from tests.support.plane import Done, Plane
from tests.support.planes import ask, raw_app
from tests.support.processes import Running, running

pytestmark = pytest.mark.slow  # every command is a process

OK = b"HTTP/1.1 200 "


def stock(number: int, app: HostPort) -> str:
    """A workload of `stock`: an app without a sidecar, on the port that it listens on."""
    return f"""\
kind: Workload
metadata: {{name: stock-{number}, namespace: shop}}
spec: {{service: stock, address: {app.host}, ports: [{{port: {app.port}, protocol: http}}]}}
---
"""


def get(app: HostPort) -> bytes:
    return f"GET /x HTTP/1.1\r\nHost: stock:{app.port}\r\n\r\n".encode()


def policy(algorithm: str, request: str) -> str:
    return f"""\
apiVersion: sidecar-mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: stock, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: stock}}]
  timeouts: {{request: {request}}}
  balancing: {{algorithm: {algorithm}}}
"""


async def meshctl(control: Plane, *arguments: str, stdin: str = "", status: int = 0) -> Done:
    return await trio.to_thread.run_sync(partial(control.meshctl, *arguments, stdin=stdin, status=status))


async def in_force(sidecar: Running) -> dict[str, int]:
    """The version of each resource that the sidecar serves from."""
    request = b"GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer, _ = await ask(sidecar.listening["admin"], request)
    return {each["name"]: each["version"] for each in json.loads(answer.partition(b"\r\n\r\n")[2])["resources"]}


def bootstrap(folder: Path, control: Plane) -> Path:
    path = folder / "frontend.yaml"
    path.write_text(
        "node: {service: frontend, namespace: shop, id: frontend-1}\n"
        f"control_plane: {{address: '{control.listening['streams']}', join_file: ./join.pem, cache: ./cache}}\n"
        "outbound: {listen: ['127.0.0.1:0']}\n"
        "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
    )
    return path


async def test_status_says_who_rejected_what_and_why_and_everything_else_applies(tmp_path: Path) -> None:
    program = (str(Path(newer_plane.__file__)),)
    async with raw_app() as first, raw_app() as second:
        with plane.running(tmp_path, program=program) as control:
            await meshctl(control, "apply", "-f", "-", stdin=stock(1, first.address) + policy("random", "7s"))
            await meshctl(control, "token", "create", "-s", "frontend", "-n", "shop", "-o", str(tmp_path / "join.pem"))
            file = bootstrap(tmp_path, control)
            async with running("sidecar", "run", "-c", str(file), until="connected to the control plane") as sidecar:
                outbound = sidecar.listening["outbound"]
                assert (await ask(outbound, get(first.address)))[0].startswith(OK)
                before = await in_force(sidecar)

                changed = stock(2, second.address) + policy(newer_plane.NEW, "8s")
                refused = await meshctl(control, "apply", "-f", "-", "--wait", stdin=changed, status=1)
                assert "was rejected by 1 sidecar" in refused.err
                assert "  shop/frontend-1: TrafficPolicy/shop/stock: " in refused.err
                assert "'quantum' is not known" in refused.err
                after = await in_force(sidecar)
                assert after["TrafficPolicy/shop/stock"] == before["TrafficPolicy/shop/stock"]
                assert after["Service/shop/stock"] == after["Endpoints/shop/stock"] > before["Endpoints/shop/stock"]
                assert (await ask(outbound, get(second.address)))[0].startswith(OK)
                assert second.received

                shown = (await meshctl(control, "status")).out
                assert shown.split()[12] == "REJECTED", shown
                told = shown.partition("rejected (the last good version stays in use)\n")[2]
                assert told.startswith("  shop/frontend-1: TrafficPolicy/shop/stock at "), shown
                assert "'quantum' is not known" in told
                assert "'quantum' is not known" in (await meshctl(control, "check", status=79)).out

                await meshctl(control, "apply", "-f", "-", "--wait", stdin=policy("random", "9s"))
                assert (await meshctl(control, "status")).out.split()[12] == "SYNCED"
                assert (await in_force(sidecar))["TrafficPolicy/shop/stock"] > after["Endpoints/shop/stock"]
