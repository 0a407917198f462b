"""The client as a whole on virtual time: sessions one after another over memory streams, a cache on disk."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from sidecar.config.resources import parse_wire
from sidecar.control import messages as m
from sidecar.control.cache import CacheWriter, load, write
from sidecar.control.cache_file import CacheContent
from sidecar.control.client import ControlClient
from sidecar.control.dial import Link
from sidecar.control.link import Trouble, TroubleError
from sidecar.control.push import Push
from sidecar.control.state import Applied, Rejection
from sidecar.model.bootstrap import ControlPlaneConfig, HostPort, NodeInfo
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.transport.identity import Identity
from tests.support.fake_control_plane import FakeControlPlane
from tests.support.pki import identity, pki
from tests.unit.control.test_identity import new_request
from tests.unit.control.test_state import endpoints, route, service

ORDERS, STOCK = ServiceKey("shop", "orders"), ServiceKey("shop", "stock")
NODE = NodeInfo(service="orders", namespace="shop", version="v1", id="orders-1", account="orders", zone="eu-1a")
WORKLOAD = {"address": "", "inbound": 15006, "ports": [{"port": 8080, "protocol": "http"}], "ready": True}


@pytest.fixture(autouse=True)
def cache_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time does not wait for threads; test_cache.py has the real thing."""

    async def write_here(writer: CacheWriter) -> None:
        content, writer._newest = writer._newest, None
        if content is not None:
            write(writer._path, content)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(CacheWriter, "_write", write_here)


class FakeSink:
    """An app that applies pushes and remembers the rest."""

    def __init__(self) -> None:
        self.client: ControlClient
        self.is_ready = True
        self.identities: list[Identity] = []
        self.drains = 0

    def apply(self, push: Push) -> Applied:
        return self.client.applied.after(push, parse_wire, self.client.wants())

    def identity_changed(self, identity: Identity) -> None:
        self.identities.append(identity)

    def report(self) -> dict[str, Any]:
        return {"ejected": ["shop/orders/8080/orders-2"]}

    def ready(self) -> bool:
        return self.is_ready

    def workload(self) -> dict[str, Any] | None:
        return WORKLOAD

    def drain(self) -> None:
        self.drains += 1


class Mesh:
    """A client, its sink, and a control plane at the other end of memory streams while `up`."""

    def __init__(self, folder: Path, *, who: Identity | None = None, declared: tuple[ServiceKey, ...] = ()) -> None:
        self.fake = FakeControlPlane()
        self.up = True
        self.dials: list[float] = []
        self.lines: list[str] = []
        self.sink = FakeSink()
        self.start_s = trio.current_time()
        self.nursery: trio.Nursery
        self.client = self.sink.client = ControlClient(
            ControlPlaneConfig(address=HostPort("127.0.0.1", 15012), cache=folder / "cache"),
            NODE,
            self.sink,
            rng=Random(1),
            now_unix=self.now_unix,
            declared=declared,
            log=self.lines.append,
            make_request=new_request,
            dial=self.dial,
        )
        self.client.keeper.restore(who or identity())
        self.path = folder / "cache" / "shop.orders-1.cache"

    def now_unix(self) -> float:
        return pki().now_s + trio.current_time() - self.start_s

    async def dial(self) -> Link:
        self.dials.append(trio.current_time() - self.start_s)
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise TroubleError(Trouble("the control plane at 127.0.0.1:15012 cannot be reached (connection refused)"))
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.fake.attend, theirs, identity().spiffe_id)
        return Link(ours, "the cached identity of this sidecar")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The client runs inside, until the block ends; then the control plane ends too."""
        async with trio.open_nursery() as self.nursery:
            async with trio.open_nursery() as inner:
                await inner.start(self.client.run)
                yield
                inner.cancel_scope.cancel()
            self.nursery.cancel_scope.cancel()

    async def connected(self) -> None:
        await self.fake.until(lambda: bool(self.fake.standing))

    async def acked(self, version: int) -> None:
        await self.fake.until(lambda: m.Ack(version=version) in self.fake.heard(m.Ack))


def offer(fake: FakeControlPlane, *items: Any) -> None:
    for item in items:
        fake.put(item.name, item.document)


async def test_hello_says_who_it_is_what_it_has_and_wants(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, declared=(STOCK,))
    async with mesh.running():
        await mesh.connected()
        [hello] = mesh.fake.heard(m.Hello)
    assert hello.node == m.Node(
        service="orders", namespace="shop", version="v1", id="orders-1", account="orders", zone="eu-1a"
    )
    assert len(hello.instance) == 16
    assert hello.wants == ("stock.shop",)
    assert hello.have == {}
    assert hello.workload == m.WorkloadInfo(inbound=15006, ports=(m.PortInfo(port=8080, protocol="http"),), ready=True)


async def test_a_push_is_in_force_and_acknowledged_and_survives_on_disk(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    offer(mesh.fake, service(), endpoints())
    async with mesh.running():
        await mesh.acked(mesh.fake.version)
        assert mesh.client.applied.snapshot.knows(ORDERS) is Known.FOUND
        mesh.client.want(STOCK)
    content = load(mesh.path, parse_wire).content
    assert content is not None
    assert content.snapshot.resources.keys() == {"Service/shop/orders", "Endpoints/shop/orders"}
    assert content.wants == {STOCK}
    assert content.identity == identity()


async def test_a_restart_serves_from_the_cache_and_asks_for_the_difference(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    first = Mesh(tmp_path)
    offer(first.fake, service(), endpoints())
    async with first.running():
        await first.acked(first.fake.version)
        first.client.want(STOCK)

    second = Mesh(tmp_path)
    second.up = False
    content = second.client.restore()
    assert content is not None
    assert content.snapshot.knows(ORDERS) is Known.FOUND
    assert content.identity == identity()
    second.fake.resources = first.fake.resources
    async with second.running():
        await trio.sleep(60.0)
        assert second.client.age_s() == pytest.approx(60.0, abs=2.0)
        assert not second.client.status()["connected"]
        second.up = True
        await second.connected()
        [hello] = second.fake.heard(m.Hello)
        assert hello.have == {name: item.version for name, item in first.fake.resources.items()}
        assert hello.wants == ("stock.shop",)
        await trio.sleep(1.5)
        assert second.client.age_s() == 0.0


async def test_a_damaged_cache_is_said_and_started_without(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    write(mesh.path, CacheContent())
    mesh.path.write_bytes(mesh.path.read_bytes()[:-1])
    assert mesh.client.restore() is None
    assert mesh.lines == [
        f"{mesh.path}: the configuration cache is not used: its checksum does not match, so it is damaged or cut off; "  # noqa: ISC004
        "kept as shop.orders-1.cache.corrupt for a look; starting without it"
    ]


async def test_a_refusal_is_shown_and_said_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    offer(mesh.fake, service(), route("orders", path_type="Telepathy"))
    async with mesh.running():
        await mesh.acked(mesh.fake.version)
        bad = mesh.fake.resources["HTTPRoute/shop/orders"].version
        offer(mesh.fake, endpoints())
        await mesh.acked(await mesh.fake.push())
        status = mesh.client.status()
        assert status["rejected"]["HTTPRoute/shop/orders"]["version"] == bad
        assert "Telepathy" in status["rejected"]["HTTPRoute/shop/orders"]["reason"]
    said = [line for line in mesh.lines if "is refused" in line]
    assert len(said) == 1
    assert said[0].startswith(f"HTTPRoute/shop/orders version {bad} is refused, the last good one stays: ")


async def test_a_first_use_subscribes_and_waits_for_the_answer(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    async with mesh.running():
        await mesh.connected()
        offer(mesh.fake, service(), endpoints())
        assert await mesh.client.wait_known(ORDERS) is Known.FOUND
        assert await mesh.client.wait_known(STOCK) is Known.ABSENT
        assert mesh.fake.standing[0].wants == {"orders.shop", "stock.shop"}


async def test_a_service_that_is_not_used_any_more_is_unsubscribed(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, declared=(STOCK,))
    async with mesh.running():
        await mesh.connected()
        await mesh.client.wait_known(ORDERS)
        await trio.sleep(700.0)
        assert mesh.fake.heard(m.Unwant) == [m.Unwant(names=("orders.shop",))]
        assert mesh.client.wants() == {STOCK}


async def test_readiness_is_told_at_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    async with mesh.running():
        mesh.client.ready_changed()  # not connected yet: hello will say it
        await mesh.connected()
        mesh.sink.is_ready = False
        mesh.client.ready_changed()
        await mesh.fake.until(lambda: m.Beat(ready=False) in mesh.fake.heard(m.Beat))
        assert trio.current_time() - mesh.start_s < 1.0


async def test_other_messages_do_what_they_say(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    async with mesh.running():
        await mesh.connected()
        await mesh.fake.say(m.Drain())
        await mesh.fake.say(m.Error(message="too many services are wanted at once", hint="unwant some"))
        await mesh.fake.say(m.Bundle(bundle="nonsense"))
        await mesh.fake.say(m.Bundle(bundle=(pki().bundle_pem * 2).decode()))
        await mesh.fake.until(lambda: bool(mesh.fake.heard(m.Report)))
    assert mesh.sink.drains == 1
    assert "the control plane says: too many services are wanted at once; unwant some" in mesh.lines
    assert any("sent roots that do not fit" in line for line in mesh.lines)
    assert len(mesh.sink.identities) == 1


async def test_after_a_lost_stream_it_is_back_in_a_moment_with_the_difference(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    offer(mesh.fake, service())
    async with mesh.running():
        await mesh.acked(mesh.fake.version)
        await trio.sleep(60.0)
        lost_s = trio.current_time() - mesh.start_s
        await mesh.fake.standing[0].stream.aclose()
        await mesh.fake.until(lambda: len(mesh.fake.heard(m.Hello)) == 2)
        assert mesh.dials[-1] - lost_s <= 0.1
        first, second = mesh.fake.heard(m.Hello)
        assert second.instance == first.instance
        assert second.have == {"Service/shop/orders": 2}
        await trio.sleep(1.5)
        assert mesh.client.status()["sessions"] == 2


async def test_tries_grow_apart_to_five_seconds_and_say_the_same_thing_once(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.up = False
    async with mesh.running():
        await trio.sleep(60.0)
        status = mesh.client.status()
        assert status["error"] == "the control plane at 127.0.0.1:15012 cannot be reached (connection refused)"
        assert not status["final"]
        mesh.up = True
        await trio.sleep(6.5)
        assert mesh.client.connected
    gaps = [later - earlier for earlier, later in itertools.pairwise(mesh.dials)]
    assert 0.05 <= gaps[0] <= 0.1
    assert all(2.5 <= gap <= 5.0 for gap in gaps[7:])
    assert mesh.lines == [
        "the control plane at 127.0.0.1:15012 cannot be reached (connection refused)",
        "connected to the control plane at 127.0.0.1:15012",
    ]


async def test_a_control_plane_that_ends_every_stream_at_once_is_not_asked_ten_times_a_second(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.fake.refuse[m.Hello] = m.Error(message="busy", hint="later")

    async def hang_up(conversation: Any, message: Any) -> bool:
        return False

    mesh.fake._answer = hang_up  # type: ignore[method-assign]
    async with mesh.running():
        await trio.sleep(60.0)
    assert len(mesh.dials) < 30


async def test_a_final_refusal_is_tried_again_only_after_half_a_minute(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.fake.refuse[m.Hello] = m.Error(message="account orders may not serve orders", hint="join anew", final=True)
    async with mesh.running():
        await trio.sleep(25.0)
        assert len(mesh.dials) == 1
        assert mesh.client.status()["final"]
        assert mesh.client.status()["hint"] == "join anew"
        await trio.sleep(40.0)
        assert len(mesh.dials) == 2
    assert mesh.lines == ["the control plane says: account orders may not serve orders; join anew"]


async def test_an_end_says_bye(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    async with mesh.running():
        await mesh.connected()
    assert mesh.fake.heard(m.Bye) == [m.Bye()]


async def test_the_certificate_is_renewed_over_the_stream(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.fake.now_unix = mesh.now_unix
    async with mesh.running():
        await mesh.connected()
        await mesh.fake.say(m.Rotate(spread_s=2.0))
        await trio.sleep(3.0)
    assert mesh.sink.identities[0].spiffe_id == identity().spiffe_id
    assert mesh.sink.identities[0].key_pem != identity().key_pem
    content = load(mesh.path, parse_wire).content
    assert content is not None
    assert content.identity == mesh.sink.identities[0]


async def test_while_connected_the_cache_is_kept_young(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    offer(mesh.fake, service())
    async with mesh.running():
        await mesh.acked(mesh.fake.version)
        await trio.sleep(1_000.0)
    content = load(mesh.path, parse_wire).content
    assert content is not None
    assert mesh.now_unix() - content.saved_at_s < 350.0


async def test_nothing_known_yet_never_replaces_a_cache(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.up = False
    mesh.client.keeper.identity = None
    write(mesh.path, CacheContent(saved_at_s=5.0))
    async with mesh.running():
        mesh.client.want(ORDERS)
        await trio.sleep(5.0)
    assert load(mesh.path, parse_wire).content == CacheContent(saved_at_s=5.0)


async def test_status_is_plain_values(autojump_clock: MockClock, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, declared=(STOCK,))
    mesh.client.applied = Applied(snapshot=Snapshot(version=3), standing={"Service/a/b": Rejection(3, "bad")})
    status = mesh.client.status()
    assert status == {
        "address": "127.0.0.1:15012", "connected": False, "since_s": mesh.now_unix(), "sessions": 0, "error": "",
        "hint": "", "final": False, "version": 3, "age_s": 0.0,
        "rejected": {"Service/a/b": {"version": 3, "reason": "bad"}}, "held": [], "wants": ["stock.shop"],
        "identity": {"spiffe_id": identity().spiffe_id, "not_after_s": identity().not_after_s},
        "identity_error": "", "cache": {"path": str(mesh.path), "failures": 0, "error": ""},
    }  # fmt: skip
