"""The `sidecar` command as users run it: one command, a file, a mesh of two; what it prints, and how it ends."""

import json
import signal
import socket
from pathlib import Path

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.net.test_otlp import Collector
from tests.support import needs, pki
from tests.support.planes import answer_heads, ask, raw_app
from tests.support.processes import Running, finished, running

GET = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"


async def get_json(made: Running, listener: str, path: str) -> object:
    answer, _ = await ask(made.listening[listener], b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def one_command(app: object) -> tuple[str, ...]:
    return ("sidecar", "run", "--listen", "127.0.0.1:0", "--to", str(app))


async def test_one_command_proxies_shows_itself_and_ends_with_0() -> None:
    async with raw_app() as app, running(*one_command(app.address), until="listening outbound") as proxy:
        answer, _ = await ask(proxy.listening["outbound upstream.local:80"], GET)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert await get_json(proxy, "admin", "/ready") == {"ready": True, "reasons": []}
        metrics, _ = await ask(proxy.listening["metrics"], b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b'istio_requests_total{reporter="source"' in metrics
        assert await proxy.end() == 0
        assert proxy.said[-1] == "stopped"
        assert proxy.out == b""


async def test_sigterm_lets_the_answer_under_way_finish() -> None:
    arrived = trio.Event()

    async def slow(stream: trio.SocketStream, data: bytes) -> None:
        arrived.set()
        await trio.sleep(0.5)
        await answer_heads(stream, data)

    async with raw_app(slow) as app, running(*one_command(app.address), until="listening outbound") as proxy:
        answers: list[bytes] = []

        async def one() -> None:
            answers.append((await ask(proxy.listening["outbound upstream.local:80"], GET))[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await arrived.wait()
            assert await proxy.end(signal.SIGINT) == 0
        assert answers[0].startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answers[0]


@pytest.mark.needs("promtool")
async def test_promtool_says_nothing_but_the_base_unit_line() -> None:
    async with raw_app() as app, running(*one_command(app.address), until="listening outbound") as proxy:
        for _ in range(3):
            await ask(proxy.listening["outbound upstream.local:80"], GET)
        metrics, _ = await ask(proxy.listening["metrics"], b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        said = await trio.run_process(
            [str(needs.find("promtool")), "check", "metrics"],
            stdin=metrics.partition(b"\r\n\r\n")[2],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        lines = (said.stdout + said.stderr).decode().splitlines()
        assert lines == ['istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"']


async def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await finished("sidecar", "run", "--listen", f"127.0.0.1:{port}", "--to", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"outbound.upstreams: cannot listen on 127.0.0.1:{port}: address already in use; "
        "another process listens there; stop it or choose another port (0 picks a free one)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ((), 2, "sidecar run: either -c FILE, or --listen ADDR with --to ADDR[,ADDR...] (sidecar run --help)\n"),
        (
            ("--listen", "8000", "--to", ":80"),
            1,
            "--listen: '8000' is not an address such as 127.0.0.1:8080 or :8080\n",
        ),
        (
            ("--listen", ":0", "--to", ":80,:80"),
            1,
            "--to: ':80,:80' names an address twice; each endpoint stands once\n",
        ),
        (("-c", "nowhere.yaml"), 2, "nowhere.yaml: No such file or directory\n"),
    ],
)
async def test_wrong_flags_say_what_is_allowed(arguments: tuple[str, ...], status: int, complaint: str) -> None:
    done = await finished("sidecar", "run", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", complaint)


def write_identity(folder: Path, account: str) -> str:
    """Identity files of an account; returns the bootstrap's line."""
    identity = pki.identity(account)
    for name, content in (("crt", identity.chain_pem), ("key", identity.key_pem), ("ca", identity.bundle_pem)):
        path = folder / f"{account}.{name}"
        path.write_bytes(content)
        path.chmod(0o600)
    return f"identity: {{cert: {account}.crt, key: {account}.key, bundle: {account}.ca}}\n"


def static_mesh(folder: Path, inbound_port: int, app: object, collector: object) -> tuple[Path, Path]:
    """Bootstrap files of a called and a calling sidecar in one folder of resources, without a control plane."""
    resources = folder / "mesh.d"
    resources.mkdir()
    (resources / "orders.yaml").write_text(
        "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: orders-1, namespace: shop}\n"
        "spec: {service: orders, address: 127.0.0.1, ports: [{port: 8080, protocol: http}], "
        f"inbound: {inbound_port}, account: orders}}\n"
    )
    common = "static: ./mesh.d\nadmin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
    common += f"tracing: {{otlp: 'http://{collector}', sample: 1}}\naccess_log: {{when: all}}\n"
    called, calling = folder / "called.yaml", folder / "calling.yaml"
    called.write_text(
        "node: {service: orders, namespace: shop, version: v1}\n"
        + common
        + write_identity(folder, "orders")
        + f"inbound: {{listen: ['127.0.0.1:{inbound_port}'], ports: [{{port: 8080, protocol: http, app: '{app}'}}]}}\n"
        + "outbound: {listen: []}\n"
    )
    calling.write_text(
        "node: {service: frontend, namespace: shop}\n"
        + common
        + write_identity(folder, "frontend")
        + "outbound: {listen: ['127.0.0.1:0']}\n"
    )
    return called, calling


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def test_parent_and_child_spans_are_right_through_both_sidecars(tmp_path: Path) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    collector = Collector(HostPort(*listeners[0].socket.getsockname()[:2]))
    async with raw_app() as app, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, collector.serve, listeners)
        called_file, calling_file = static_mesh(tmp_path, free_port(), app.address, collector.address)
        assert (await finished("sidecar", "check", "-c", str(called_file))).returncode == 0
        async with (
            running("sidecar", "run", "-c", str(called_file), until="listening inbound") as called,
            running("sidecar", "run", "-c", str(calling_file), until="listening outbound") as calling,
        ):
            answer, _ = await ask(calling.listening["outbound"], GET)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert await calling.end() == 0
            assert await called.end() == 0
            [client] = [span for span in collector.spans if span.kind == span.SPAN_KIND_CLIENT]
            [server] = [span for span in collector.spans if span.kind == span.SPAN_KIND_SERVER]
            assert client.trace_id == server.trace_id
            assert server.parent_span_id == client.span_id
            assert client.parent_span_id == b""
            logged = json.loads(calling.out)
            assert logged["trace_id"] == client.trace_id.hex()
            assert logged["principal"] == "spiffe://mesh.local/ns/shop/sa/orders"
        nursery.cancel_scope.cancel()
