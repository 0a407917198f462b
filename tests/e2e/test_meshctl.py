"""meshctl and control-plane as users run them: processes, files, exit statuses and exact complaints."""

import fcntl
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import yaml

from control_plane.api import listen
from sidecar.control.messages import Bye, Cert, Renew, Report, Rotate
from tests.net.stream_client import Joined, Keys
from tests.support.plane import Done, Plane, command, environment, running

pytestmark = pytest.mark.slow  # every command is a process

MESH = """\
kind: Workload
metadata: {name: orders-1, namespace: shop, labels: {version: v1}}
spec: {service: orders, address: 127.0.0.1, ports: [{port: 8080, protocol: http}]}
---
kind: Workload
metadata: {name: orders-2, namespace: shop, labels: {version: v2}}
spec: {service: orders, address: 127.0.0.1, ports: [{port: 8080, protocol: http}]}
"""


def route(name: str = "orders", backends: str = "{name: orders-v1, port: 8080, weight: 90}") -> str:
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: orders}}]
  rules:
    - backendRefs: [{backends}]
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(tmp_path_factory.mktemp("plane")) as started:
        started.meshctl("apply", "-f", "-", stdin=MESH)
        yield started
        assert started.stop() == 0


def test_a_fresh_mesh_is_well(plane: Plane) -> None:
    done = plane.meshctl("check")
    assert done.err == ""
    assert done.out.splitlines()[0] == "control plane"
    assert all(line.split()[0] == "ok" for line in done.out.splitlines() if line.startswith("  "))
    assert json.loads(plane.meshctl("status", "-o", "json").out)["sidecars"] == []
    assert plane.meshctl("version").out.splitlines()[1].startswith("control plane  0.1.0 (trust domain mesh.local, ")


def test_the_token_is_private_and_never_printed(plane: Plane) -> None:
    assert stat.S_IMODE(plane.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(plane.data.stat().st_mode) == 0o700
    token = plane.token_file.read_text().strip()
    assert not any(token in line for line in plane.lines)


def test_resources_go_in_and_come_out_again(plane: Plane, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    policy = {
        "apiVersion": "sidecar-mesh.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "orders"}], "timeouts": {"request": "5s"}},
    }
    file.write_text(yaml.safe_dump(policy))
    name = "TrafficPolicy/shop/orders"
    assert plane.meshctl("apply", "-f", str(file), "--dry-run").out == f"{name} would change\n"
    assert plane.meshctl("get", "tp", "-o", "name").out == ""
    assert plane.meshctl("apply", "-f", str(file)).out == f"{name} applied\n"
    assert plane.meshctl("apply", "-f", str(tmp_path)).out == f"{name} unchanged\n"
    assert plane.meshctl("get", "tp", "-o", "name").out == f"{name}\n"
    shown = plane.meshctl("get", "tp", "orders", "-n", "shop", "-o", "yaml").out
    assert plane.meshctl("apply", "-f", "-", stdin=shown).out == f"{name} unchanged\n"
    assert json.loads(plane.meshctl("get", name, "-o", "json").out)["spec"]["timeouts"] == {"request": "5s"}
    table = plane.meshctl("get", "trafficpolicies").out.splitlines()
    assert table[1].split()[:5] == ["shop", "orders", "Service", "orders", "user"]
    assert plane.meshctl("delete", name).out == f"{name} deleted\n"
    assert plane.meshctl("get", name, status=2).err.startswith("error: ")


def test_traffic_moves_between_the_backends_of_a_route(plane: Plane) -> None:
    both = "{name: orders-v1, port: 8080, weight: 100}, {name: orders-v2, port: 8080, weight: 0}"
    plane.meshctl("apply", "-f", "-", stdin=route(backends=both))
    done = plane.meshctl("traffic", "set", "orders.shop", "v1=90", "v2=10", "--wait")
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["orders-v1", "v1", "90", "90%"],
        ["orders-v2", "v2", "10", "10%"],
    ]
    assert plane.meshctl("traffic", "set", "shop/orders", "orders-v1=50", "v2=50", "-o", "name").out == (
        "orders-v1\norders-v2\n"
    )
    shown = json.loads(plane.meshctl("traffic", "show", "orders", "-n", "shop", "-o", "json").out)
    assert shown["route"] == "HTTPRoute/shop/orders"
    assert {backend["label"]: backend["weight"] for backend in shown["backends"]} == {"v1": 50, "v2": 50}
    unknown = plane.meshctl("traffic", "set", "orders", "-n", "shop", "v9=1", status=2)
    assert unknown.err == "error: orders has no version 'v9'\nhint: known: v1, v2\n"
    plane.meshctl("delete", "HTTPRoute/shop/orders")
    assert plane.meshctl("traffic", "show", "orders.shop").out == ""


async def test_wait_ends_when_the_last_sidecar_has_it_and_tells_who_has_not(plane: Plane) -> None:
    async def meshctl(*arguments: str, status: int = 0) -> Done:
        return await trio.to_thread.run_sync(partial(plane.meshctl, *arguments, status=status))

    made = await meshctl("token", "create", "--service", "web", "-n", "shop")
    joined = await Joined.with_token(plane.listening["streams"], made.out)
    async with joined.connected() as client:
        await client.hello("web-1", service="web", wants=["orders.shop"], port=None)
        await client.take()
        assert (await meshctl("status", "-o", "name")).out == "shop/web-1\n"
        row = (await meshctl("status")).out.splitlines()[1].split()
        assert row[:2] == ["shop/web-1", "web"]
        assert "SYNCED" in row

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.take)
            done = await meshctl("traffic", "set", "orders.shop", "v1=1", "--wait", "--timeout", "20")
        assert done.err.splitlines()[-1] == "1/1 sidecars"

        late = await meshctl("traffic", "set", "orders.shop", "v1=2", "--wait", "--timeout", "300ms", status=3)
        assert late.out == ""
        assert "  waiting for shop/web-1\n" in late.err
        await client.take()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(client.take, refuse={"HTTPRoute/shop/orders": "no \x1b[31mway"}))
            refused = await meshctl("traffic", "set", "orders.shop", "v1=3", "--wait", status=1)
        assert "  shop/web-1: HTTPRoute/shop/orders: no" in refused.err
        assert "\x1b" not in refused.err
        shown = (await meshctl("status")).out
        assert "REJECTED" in shown
        assert "shop/web-1: HTTPRoute/shop/orders at " in shown
        checked = await meshctl("check", status=79)
        assert "  failed  no sidecar rejected a resource" in checked.out
        await client.say(Bye())
    await meshctl("delete", "HTTPRoute/shop/orders")


def test_two_routes_of_one_service_are_ambiguous(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a"))
    (tmp_path / "b.yaml").write_text(route("b"))
    plane.meshctl("apply", "-f", str(tmp_path))
    done = plane.meshctl("traffic", "set", "orders", "-n", "shop", "v1=1", status=2)
    assert done.out == ""
    assert done.err == (
        "error: 2 routes steer orders.shop\n"
        "  HTTPRoute/shop/a\n"
        "  HTTPRoute/shop/b\n"
        "hint: edit one of them and apply it\n"
    )
    plane.meshctl("delete", "HTTPRoute/shop/a")
    plane.meshctl("delete", "HTTPRoute/shop/b")


def test_a_misspelt_field_is_told_with_place_and_suggestion(plane: Plane, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.yaml", tmp_path / "b.yaml"
    good.write_text(MESH)
    bad.write_text(route(backends="{name: orders-v1, port: 8080, wieght: 90}"))
    done = plane.meshctl("apply", "-f", str(good), "-f", str(bad), status=1)
    assert done.out == ""
    first, second, last = done.err.splitlines()
    assert first == "error: 1 problem in 2 files"
    assert second.startswith(
        f"  {bad}:7:51: spec.rules[0].backendRefs[0].wieght: unknown field 'wieght' (did you mean 'weight'? known: "
    )
    assert last == "hint: nothing was changed; correct this and apply again"


def test_a_dangling_backend_is_named(plane: Plane, tmp_path: Path) -> None:
    file = tmp_path / "route.yaml"
    file.write_text(route(backends="{name: order-v1, port: 8080}"))
    done = plane.meshctl("apply", "-f", str(file), status=1)
    assert done.out == ""
    assert done.err == (
        f"error: 1 problem in {file}\n"
        f"  {file}:7:28: spec.rules[0].backendRefs[0].name: backendRef order-v1.shop:8080: no such Service "
        "(did you mean 'orders-v1.shop'? known: orders.shop, orders-v1.shop, orders-v2.shop)\n"
        "hint: nothing was changed; correct this and apply again\n"
    )
    assert plane.meshctl("get", "httproute", "-o", "name").out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["get", "httproute", "nothing", "-n", "shop"], "nothing"),
        (["get", "rout", "nothing"], "unknown kind 'rout'"),
        (["delete", "service", "nothing", "-n", "shop"], "nothing"),
        (["traffic", "show", "nothing", "-n", "shop"], "nothing"),
        (["delete", "service"], "which Service is to be deleted?"),
        (["traffic", "set", "orders", "v1"], "'v1' is not a weight"),
        (["token", "create", "--service", "UPPER"], "'UPPER' is not the name of a service"),
    ],
)
def test_unknown_names_and_wrong_words_end_with_2(plane: Plane, arguments: list[str], says: str) -> None:
    done = plane.meshctl(*arguments, status=2)
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert says in done.err


def test_a_join_file_is_written_private_and_never_over_another(plane: Plane, tmp_path: Path) -> None:
    file = tmp_path / "join.pem"
    arguments = ("token", "create", "--service", "orders", "-n", "shop", "--uses", "2", "--ttl", "10m", "-o", str(file))
    done = plane.meshctl(*arguments)
    assert done.out == f"{file}\n"
    assert done.err.startswith("for orders.shop: may be used 2 times in the next ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert text.startswith("-----BEGIN CERTIFICATE-----\n")
    assert "-----BEGIN MESH JOIN TOKEN-----\n" in text
    again = plane.meshctl(*arguments, status=2)
    assert again.err == f"error: {file} is there already\nhint: name another file, or replace it with --force\n"
    assert file.read_text() == text
    plane.meshctl(*arguments, "--force")
    assert file.read_text() != text
    inspected = plane.meshctl("cert", "inspect", str(file))
    assert inspected.out.splitlines()[1].split()[0] == "root"
    printed = plane.meshctl("token", "create", "--service", "orders.shop")
    assert printed.out.endswith("-----END MESH JOIN TOKEN-----\n")


def test_certificates_of_the_mesh_are_shown_and_renewed(plane: Plane) -> None:
    rows = json.loads(plane.meshctl("cert", "inspect", "-o", "json").out)["rows"]
    assert {"root", "issuer", "control-plane"} <= {row["kind"] for row in rows}
    assert plane.meshctl("cert", "rotate", "--wait").out == "0 sidecars renewed\n"


async def test_rotation_is_waited_for(plane: Plane) -> None:
    made = await trio.to_thread.run_sync(partial(plane.meshctl, "token", "create", "-s", "pay.shop"))
    joined = await Joined.with_token(plane.listening["streams"], made.out)
    async with joined.connected() as client:
        await client.hello("pay-1", service="pay", port=None)
        # Certificates end on whole seconds; a first one that seems to end earlier makes the new one end later.
        before_s = joined.identity.not_after_s - 60.0
        await client.say(Report(instance="i1", spiffe_id=joined.identity.spiffe_id, not_after_s=before_s))
        async with trio.open_nursery() as nursery:
            rotate = partial(plane.meshctl, "cert", "rotate", "--spread", "0s", "--wait")
            nursery.start_soon(trio.to_thread.run_sync, partial(check_rotation, rotate))
            await client.hear(Rotate)
            keys = Keys()
            await client.say(Renew(csr=keys.csr))
            cert = await client.hear(Cert)
            await client.say(Report(instance="i1", spiffe_id=joined.identity.spiffe_id, not_after_s=cert.not_after_s))
        await client.say(Bye())


def check_rotation(rotate: Callable[[], Done]) -> None:
    done = rotate()
    assert done.out == "1 sidecar renewed\n"
    assert done.err.splitlines()[-1] == "1/1 sidecars renewed"


def on_a_terminal(plane: Plane, *arguments: str, columns: int = 80, **variables: str) -> str:
    """What meshctl prints on a real terminal of `columns` columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    line = [sys.executable, "-m", "control_plane.cli.main", "--server", plane.server]
    line += ["--token-file", str(plane.token_file), *arguments]
    process = subprocess.Popen(line, stdout=theirs, env={**environment(), "TERM": "xterm-256color", **variables})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:
        pass  # how Linux says that the other end of a terminal is closed
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    return shown.decode()


def test_tables_fit_a_real_terminal_and_colours_can_be_refused(plane: Plane) -> None:
    codes = re.compile(r"\x1b\[[0-9;]*m")
    shown = on_a_terminal(plane, "cert", "inspect", columns=72)
    lines = [line.rstrip() for line in codes.sub("", shown).splitlines()]
    assert lines[0].split() == ["KIND", "IDENTITY", "UNTIL", "LEFT"]
    assert max(len(line) for line in lines) <= 72
    assert codes.search(shown)
    plain = on_a_terminal(plane, "check", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert "  ok      the store can be written" in codes.sub("", plain)


def test_no_server_says_how_to_start_one(tmp_path: Path) -> None:
    with listen.bind("127.0.0.1:0") as taken:
        address = listen.address_of(taken)
    done = command("control_plane.cli.main", "status", "--server", address, folder=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"error: no control plane at http://{address} (start it: control-plane serve, or pass --server)\n"
    )


def test_a_wrong_token_is_named(plane: Plane, tmp_path: Path) -> None:
    file = tmp_path / "api.token"
    file.write_text("not-the-token-of-this-control-plane\n")
    arguments = ("status", "--server", plane.server, "--token-file", str(file))
    done = command("control_plane.cli.main", *arguments, folder=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"error: the control plane at {plane.server} does not accept the token in {file}\n"
        "hint: pass --token-file DIR/api.token, where DIR is the data folder of that control plane\n"
    )
    missing = command("control_plane.cli.main", "status", "--server", plane.server, folder=tmp_path)
    assert missing.err == (
        f"error: the control plane at {plane.server} wants a token, and none was found\n"
        "  looked at --token-file, MESHCTL_TOKEN_FILE and ./mesh-data/api.token\n"
        "hint: pass --token-file DIR/api.token, where DIR is the data folder of control-plane serve\n"
    )


def test_ports_in_use_are_one_line_each(plane: Plane, tmp_path: Path) -> None:
    api, streams = plane.listening["api"], plane.listening["streams"]
    cases = {
        ("--api", api, "--listen", "127.0.0.1:0"): (
            f"error: cannot listen on {api}: address already in use\n"
            "hint: choose another with --api HOST:PORT (port 0 picks one)\n"
        ),
        ("--api", "127.0.0.1:0", "--listen", streams): (
            f"error: {streams}: cannot listen on it: address already in use\n"
            "hint: choose another address with --listen HOST:PORT (port 0 picks one)\n"
        ),
    }
    for arguments, says in cases.items():
        done = command(
            "control_plane.cli.serve", "serve", "--data", str(tmp_path / "data"), *arguments, folder=tmp_path
        )
        assert (done.status, done.out, done.err) == (1, "", says)
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_control_plane_and_its_state_stays(tmp_path: Path, number: int) -> None:
    with running(tmp_path) as first:
        first.meshctl("apply", "-f", "-", stdin=MESH)
        token = first.token_file.read_text()
        assert first.stop(number) == 0
    with running(tmp_path) as second:
        assert second.token_file.read_text() == token
        assert second.meshctl("get", "workload", "-o", "name").out.splitlines() == [
            "Workload/shop/orders-1",
            "Workload/shop/orders-2",
        ]
        assert second.stop() == 0
    assert not any("Traceback" in line for line in first.lines + second.lines)
