"""The control client against a scripted control plane over real TLS on loopback: who is let in, and what is said."""

import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from sidecar.config.resources import parse_wire
from sidecar.control import link, wire
from sidecar.control import messages as m
from sidecar.control.cache import load
from sidecar.control.client import ControlClient
from sidecar.control.identity import make_key_request
from sidecar.control.push import Push
from sidecar.control.state import Applied
from sidecar.model.bootstrap import ControlPlaneConfig, HostPort, IdentityFiles, NodeInfo
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known
from sidecar.transport import tls
from sidecar.transport.identity import Identity
from tests.support.fake_control_plane import FakeControlPlane
from tests.support.pki import Leaf, Pki, identity, pki
from tests.unit.control.test_identity import new_request
from tests.unit.control.test_state import endpoints, route, service
from tests.unit.transport.test_identity_files import write_files

ORDERS = ServiceKey("shop", "orders")
ORDERS_ID = "spiffe://mesh.local/ns/shop/sa/orders"
STOCK_ID = "spiffe://mesh.local/ns/shop/sa/stock"
NODE = NodeInfo(service="orders", namespace="shop", id="orders-1", account="orders")


class Sidecar:
    """A client with the least of an app around it."""

    def __init__(
        self, folder: Path, address: HostPort, *, files: IdentityFiles | None = None, real_child: bool = False
    ) -> None:
        self.lines: list[str] = []
        self.identities: list[Identity] = []
        self.path = folder / "cache" / "shop.orders-1.cache"
        self.client = ControlClient(
            ControlPlaneConfig(
                address=address, join_file=folder / "join.pem", cache=folder / "cache", report_interval_s=0.5
            ),
            NODE,
            self,
            rng=Random(1),
            now_unix=lambda: pki().now_s,
            declared=[ORDERS],
            identity_files=files,
            log=self.say,
            make_request=make_key_request if real_child else new_request,
        )
        self.renewed = trio.Event()
        self._said = trio.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._said.set()
        self._said = trio.Event()

    async def until_said(self, part: str) -> str:
        """The first line that holds `part`."""
        with trio.fail_after(10.0):
            while not (found := [line for line in self.lines if part in line]):
                await self._said.wait()
        return found[0]

    def apply(self, push: Push) -> Applied:
        return self.client.applied.after(push, parse_wire, self.client.wants())

    def identity_changed(self, identity: Identity) -> None:
        self.identities.append(identity)
        if len(self.identities) == 2:
            self.renewed.set()

    def report(self) -> dict[str, Any]:
        return {}

    def ready(self) -> bool:
        return True

    def workload(self) -> dict[str, Any] | None:
        return None

    def drain(self) -> None:
        pass

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.client.run)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving(fake: FakeControlPlane) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(fake.listen)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def tcp_server(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[HostPort]:
    """Something else than a control plane, on loopback."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = HostPort("127.0.0.1", listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, [listener])
        yield address
        nursery.cancel_scope.cancel()


# -- the way in ------------------------------------------------------------------------------------------------------


async def test_join_hello_push_ack_and_bye(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake.write_join_file(tmp_path / "join.pem")
    for item in (service(), endpoints()):
        fake.put(item.name, item.document)
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address, real_child=True)
        async with sidecar.running():
            await fake.until(lambda: m.Ack(version=fake.version) in fake.heard(m.Ack))
            assert sidecar.client.applied.snapshot.knows(ORDERS) is Known.FOUND
        await fake.until(lambda: fake.heard(m.Bye) == [m.Bye()])
    joined, spoke = fake.conversations
    assert (joined.peer, spoke.peer) == ("", ORDERS_ID)  # the token travels without a certificate, all else with it
    assert [each.spiffe_id for each in sidecar.identities] == [ORDERS_ID]
    assert sidecar.lines == [f"connected to the control plane at {fake.address}"]
    content = load(sidecar.path, parse_wire).content
    assert content is not None
    assert content.identity == sidecar.identities[0]


async def test_a_restart_does_not_join_again(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake.write_join_file(tmp_path / "join.pem")
    async with serving(fake):
        for _ in range(2):
            sidecar = Sidecar(tmp_path, fake.address)
            sidecar.client.restore()
            before = len(fake.heard(m.Ack))
            async with sidecar.running():
                await fake.until(lambda before=before: len(fake.heard(m.Ack)) > before)  # type: ignore[misc]
    assert len(fake.heard(m.Join)) == 1
    assert len(fake.heard(m.Hello)) == 2


async def test_an_unknown_value_is_one_nack_and_the_rest_is_in_force(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake.write_join_file(tmp_path / "join.pem")
    good = route("orders")
    for item in (service(), endpoints(), good):
        fake.put(item.name, item.document)
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            await fake.until(lambda: bool(fake.heard(m.Ack)))
            fake.put("HTTPRoute/shop/orders", route("orders", path_type="Telepathy").document)
            fake.put("Endpoints/shop/orders", endpoints(port=9001).document)
            version = await fake.push()
            await fake.until(lambda: m.Ack(version=version) in fake.heard(m.Ack))
            [nack] = fake.heard(m.Nack)
            snapshot = sidecar.client.applied.snapshot
    assert (nack.version, nack.name) == (version, "HTTPRoute/shop/orders")
    assert "Telepathy" in nack.reason
    assert snapshot.resources["HTTPRoute/shop/orders"].document == good.document
    found = snapshot.endpoints(ORDERS)
    assert found is not None
    assert found.endpoints[0].port == 9001


async def test_a_control_plane_that_dies_and_returns_is_found_again(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake.write_join_file(tmp_path / "join.pem")
    fake.put("Service/shop/orders", service().document)
    sidecar: Sidecar
    async with trio.open_nursery() as nursery:
        async with serving(fake):
            sidecar = Sidecar(tmp_path, fake.address)
            await nursery.start(sidecar.client.run)
            await fake.until(lambda: bool(fake.heard(m.Ack)))
        await sidecar.until_said("cannot be reached (connection refused)")
        assert sidecar.client.applied.snapshot.knows(ORDERS) is Known.FOUND
        fake.put("Endpoints/shop/orders", endpoints().document)
        async with serving(fake):
            await fake.until(lambda: len(fake.heard(m.Ack)) == 2)
            assert fake.heard(m.Hello)[1].have == {"Service/shop/orders": 2}
            nursery.cancel_scope.cancel()


async def test_files_are_an_identity_too_and_new_ones_are_used_for_the_next_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.transport.identity_files.POLL_S", 0.05)
    files = write_files(tmp_path, identity("orders"))
    fake = FakeControlPlane()
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address, files=files)
        async with sidecar.running():
            await fake.until(lambda: bool(fake.standing))
            write_files(tmp_path, identity("stock"))
            with trio.fail_after(10.0):
                await sidecar.renewed.wait()
            assert len(fake.conversations) == 1  # the stream that is up keeps what it was made with
            await trio.aclose_forcefully(fake.standing[0].stream)
            await fake.until(lambda: len(fake.heard(m.Hello)) == 2)
    assert [each.peer for each in fake.conversations] == [ORDERS_ID, STOCK_ID]
    assert fake.heard(m.Join) == []
    content = load(sidecar.path, parse_wire).content
    assert content is not None
    assert content.identity is None  # somebody else keeps the key


async def test_files_that_cannot_be_used_are_one_line_each(tmp_path: Path) -> None:
    files = write_files(tmp_path, identity("orders"))
    files.key.unlink()
    sidecar = Sidecar(tmp_path, HostPort("127.0.0.1", 1), files=files)
    async with sidecar.running():
        await sidecar.until_said("there is no certificate that is valid now; renew the files under `identity`")
    assert sidecar.lines[0] == f"{files.key}: cannot be read (No such file or directory)"


# -- every refusal is one clear line ---------------------------------------------------------------------------------


async def test_nobody_there(tmp_path: Path) -> None:
    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    sidecar = Sidecar(tmp_path, HostPort("127.0.0.1", 1))
    async with sidecar.running():
        assert await sidecar.until_said("cannot be reached") == (
            "the control plane at 127.0.0.1:1 cannot be reached (connection refused); "
            "is it running, and is control_plane.address right?"
        )


async def test_a_wrong_trust_root_in_the_join_file(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    FakeControlPlane(Pki("mesh.local")).write_join_file(tmp_path / "join.pem")
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            line = await sidecar.until_said("trust root")
    assert line == (
        f"the control plane at {fake.address} is not of the trust root in {tmp_path}/join.pem "
        "(unable to get local issuer certificate); "
        "put a new join file of that control plane in its place: meshctl token create"
    )
    assert fake.heard(m.Join) == []


@pytest.mark.parametrize(
    ("impostor", "reason"),
    [
        (lambda: identity("orders"), f"the peer is {ORDERS_ID}, not a control plane"),
        (lambda: pki().identity("control-plane", "shop"), "not a control plane"),
        (
            lambda: pki().forged(Leaf(uris=("spiffe://elsewhere.example/ns/mesh-system/sa/control-plane",))),
            "which is not of mesh.local",
        ),
    ],
)
async def test_an_impostor_never_sees_the_token(tmp_path: Path, impostor: Callable[[], Identity], reason: str) -> None:
    fake = FakeControlPlane()
    fake._identity = impostor()
    fake.write_join_file(tmp_path / "join.pem")
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            assert reason in await sidecar.until_said("is not one to talk to")
    assert fake.heard(m.Join) == []


async def test_an_expired_control_plane(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake._identity = pki().forged(
        Leaf(uris=("spiffe://mesh.local/ns/mesh-system/sa/control-plane",), begins_in_s=-7_200, ends_in_s=-3_600)
    )
    fake.write_join_file(tmp_path / "join.pem")
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            line = await sidecar.until_said("does not hold now")
    assert line.endswith("(certificate has expired); compare the clocks of both machines")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            m.Error(message="the join token has expired", hint="make a new one: meshctl token create", final=True),
            "joining was refused: the join token has expired; make a new one: meshctl token create",
        ),
        (
            m.Error(message="the join token was used once, as often as it may be", hint="make a new one", final=True),
            "joining was refused: the join token was used once, as often as it may be; make a new one",
        ),
    ],
)
async def test_a_refused_token_stops_the_joining_until_there_is_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: m.Error, line: str
) -> None:
    monkeypatch.setattr("sidecar.control.client.LOOK_FOR_FILE_S", 0.02)
    fake = FakeControlPlane()
    fake.refuse[m.Join] = error
    fake.tokens["id2.new"] = ("shop", "orders")
    fake.write_join_file(tmp_path / "join.pem")
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            await sidecar.until_said(line)
            status = sidecar.client.status()
            assert status["final"]
            assert len(fake.heard(m.Join)) == 1
            fake.refuse.clear()
            fake.write_join_file(tmp_path / "join.pem", "id2.new")
            await fake.until(lambda: bool(fake.standing))
    assert [each.token for each in fake.heard(m.Join)] == ["id1.secret", "id2.new"]


async def test_a_service_that_is_not_granted(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake.refuse[m.Hello] = m.Error(
        message="account orders may not serve orders (allowed: none)",
        hint="join anew: meshctl token create",
        final=True,
    )
    fake.write_join_file(tmp_path / "join.pem")
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            await sidecar.until_said(
                "the control plane says: account orders may not serve orders (allowed: none); "
                "join anew: meshctl token create"
            )


async def with_old_identity(tmp_path: Path, address: HostPort) -> Sidecar:
    """A sidecar that joined once, another control plane that had our name."""
    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    sidecar = Sidecar(tmp_path, address)
    file = sidecar.client.keeper.join_due()
    assert file is not None
    sidecar.client.keeper.restore(Pki("mesh.local").identity(bundle_pem=pki().bundle_pem), file.digest)
    return sidecar


async def test_a_certificate_that_the_control_plane_refuses(tmp_path: Path) -> None:
    """In TLS 1.3 our side of the handshake is done by then: the alert comes with the first read."""

    async def refuse(stream: trio.SocketStream) -> None:
        context = tls.server_context(pki().control_plane(), alpn=(wire.ALPN,), request_client_cert="optional")
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(received, to_send, server_side=True)
        while True:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                await stream.send_all(to_send.read())
                received.write(await stream.receive_some())
            except ssl.SSLError:
                await stream.send_all(to_send.read())
                return

    async with tcp_server(refuse) as address:
        sidecar = await with_old_identity(tmp_path, address)
        async with sidecar.running():
            line = await sidecar.until_said("refuses this sidecar's certificate")
    assert line == (
        f"the control plane at {address} refuses this sidecar's certificate (unknown ca); "
        "put a new join file of that control plane in its place: meshctl token create"
    )
    assert not any("connected to" in line for line in sidecar.lines)


async def test_a_stream_that_is_closed_without_a_word(tmp_path: Path) -> None:
    fake = FakeControlPlane()  # drops the alert of a failed handshake, as trio's SSLStream does
    async with serving(fake):
        sidecar = await with_old_identity(tmp_path, fake.address)
        async with sidecar.running():
            line = await sidecar.until_said("before it said anything")
    assert line.endswith("; does it take this sidecar's certificate? Its own log says why")


async def test_something_that_speaks_no_tls(tmp_path: Path) -> None:
    async def http(stream: trio.SocketStream) -> None:
        await stream.receive_some(1_000)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    async with tcp_server(http) as address:
        sidecar = Sidecar(tmp_path, address)
        async with sidecar.running():
            line = await sidecar.until_said("does not speak TLS 1.3")
    assert line.endswith("; is that its stream port (15012)?")


async def test_something_that_speaks_another_protocol_over_tls(tmp_path: Path) -> None:
    context = tls.server_context(pki().control_plane(), alpn=("http/1.1",), request_client_cert="none")

    async def https(stream: trio.SocketStream) -> None:
        secured: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
            stream, context, server_side=True, https_compatible=True
        )
        try:
            await secured.do_handshake()
            await secured.receive_some(1)
        except trio.BrokenResourceError:
            pass

    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    async with tcp_server(https) as address:
        sidecar = Sidecar(tmp_path, address)
        async with sidecar.running():
            line = await sidecar.until_said("does not speak sidecar-mesh/1")
    assert line == f"the control plane at {address} does not speak sidecar-mesh/1; is that its stream port (15012)?"


async def test_something_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_S", 0.1)

    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    async with tcp_server(silent) as address:
        sidecar = Sidecar(tmp_path, address)
        async with sidecar.running():
            await sidecar.until_said("did not finish the TLS handshake within 0.1 s")


async def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    sidecar = Sidecar(tmp_path, HostPort("x" * 64 + ".invalid", 15012))
    async with sidecar.running():
        await sidecar.until_said("cannot be reached (")


async def test_something_that_closes_at_once(tmp_path: Path) -> None:
    async def close(stream: trio.SocketStream) -> None:
        await stream.aclose()

    FakeControlPlane().write_join_file(tmp_path / "join.pem")
    async with tcp_server(close) as address:
        sidecar = Sidecar(tmp_path, address)
        async with sidecar.running():
            await sidecar.until_said(f"the control plane at {address} ")


async def test_a_join_file_without_a_usable_root(tmp_path: Path) -> None:
    path = FakeControlPlane().write_join_file(tmp_path / "join.pem")
    text = path.read_text()
    root = text[: text.index("-----BEGIN MESH")]
    path.write_text(text.replace(root, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
    sidecar = Sidecar(tmp_path, HostPort("127.0.0.1", 1))
    async with sidecar.running():
        line = await sidecar.until_said(str(path))
    assert line == f"{path}: the bundle holds no root certificate that can be read"


async def test_garbage_after_the_handshake_ends_the_stream_and_the_old_configuration_stays(tmp_path: Path) -> None:
    fake = FakeControlPlane()
    fake.write_join_file(tmp_path / "join.pem")
    fake.put("Service/shop/orders", service().document)
    async with serving(fake):
        sidecar = Sidecar(tmp_path, fake.address)
        async with sidecar.running():
            await fake.until(lambda: bool(fake.heard(m.Ack)))
            await fake.standing[0].say_bytes((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
            await sidecar.until_said("sent what this version does not understand (a frame of 4194305 bytes")
            await fake.until(lambda: len(fake.heard(m.Hello)) == 2)
            assert sidecar.client.applied.snapshot.knows(ORDERS) is Known.FOUND


def test_the_client_loads_no_x509_library() -> None:
    """It would cost the running sidecar 20 MB."""
    code = "import sys, sidecar.control.client; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_tls_1_3_is_offered() -> None:
    context = tls.client_context(None, pki().bundle_pem, [wire.ALPN])
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
