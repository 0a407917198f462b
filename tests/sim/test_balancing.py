"""Balancing on both paths: keys, zones, labels, and what is learnt of endpoints, through the whole proxy."""

from dataclasses import replace

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.app.clusters import clusters
from sidecar.model.balancing import Algorithm, Balancing, HashKey, HashOf, Otherwise, Subset, ZoneRule
from sidecar.model.clusters import ClusterKey, Endpoint
from sidecar.model.live import EndpointLive
from sidecar.model.policies import Ejection, TrafficPolicy
from sidecar.transport.memory import MemoryStream
from tests.support.mesh import ORDERS, PORT, AppConnection, MemoryMesh, ok

NAMES = ("east-1", "east-2", "west-1", "west-2")


class ZonedMesh(MemoryMesh):
    """Its endpoints' zones are in their names; the first of a zone is gold."""

    def endpoint(self, name: str, **more: object) -> Endpoint:
        zone, _, number = name.partition("-")
        return super().endpoint(name, zone=zone, labels={"tier": "gold"} if number == "1" else {}, **more)

    def live(self, name: str) -> EndpointLive:
        return self.worker.live.cluster(ClusterKey(ORDERS, PORT)).endpoints[name]

    def asked(self) -> dict[str, int]:
        """How many requests each endpoint got."""
        endpoints = self.worker.live.cluster(ClusterKey(ORDERS, PORT)).endpoints
        return {name: live.tries for name, live in endpoints.items() if live.tries}


@pytest.fixture(params=[True, False], ids=["fast", "full"])
async def mesh(request: pytest.FixtureRequest, autojump_clock: MockClock, nursery: trio.Nursery) -> ZonedMesh:
    del autojump_clock
    made = ZonedMesh(nursery)
    made.worker.fast_path = request.param
    for name in NAMES:
        made.app(name, ok)
    return made


def by(key: HashKey, algorithm: Algorithm = Algorithm.RING_HASH) -> TrafficPolicy:
    return TrafficPolicy(balancing=Balancing(algorithm=algorithm, hash_key=key))


@pytest.mark.parametrize("algorithm", [Algorithm.RING_HASH, Algorithm.MAGLEV])
@pytest.mark.parametrize(
    ("key", "field"),
    [(HashKey(HashOf.HEADER, "x-user"), ("X-User", "%s")), (HashKey(HashOf.COOKIE, "who"), ("Cookie", "a=1; who=%s"))],
)
async def test_a_key_has_its_endpoint(
    mesh: ZonedMesh, algorithm: Algorithm, key: HashKey, field: tuple[str, str]
) -> None:
    mesh.configure(NAMES, by(key, algorithm))
    for user in ("alice", "bob", "carol", "dave", "erin", "frank"):
        before = mesh.asked()
        for _ in range(5):
            answer = await mesh.request(fields=[(field[0], field[1] % user)])
            assert answer.status == 200
        grown = [name for name, tries in mesh.asked().items() if tries != before.get(name, 0)]
        assert len(grown) == 1
    assert len(mesh.asked()) > 1


async def test_a_path_is_a_key_without_its_query(mesh: ZonedMesh) -> None:
    mesh.configure(NAMES, by(HashKey(HashOf.PATH)))
    for number in range(6):
        await mesh.request(target=f"/items/7?page={number}")
    assert list(mesh.asked().values()) == [6]
    for number in range(20):
        await mesh.request(target=f"/items/{number}")
    assert len(mesh.asked()) > 1


async def test_who_asks_is_a_key_and_its_port_is_not(mesh: ZonedMesh) -> None:
    mesh.configure(NAMES, by(HashKey(HashOf.SOURCE)))
    for _ in range(8):  # each on a connection of its own
        await mesh.request()
    assert list(mesh.asked().values()) == [8]


async def test_both_paths_agree_on_a_keys_endpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        found = []
        for fast in (True, False):
            mesh = ZonedMesh(nursery, seed=fast + 1)
            mesh.worker.fast_path = fast
            for name in NAMES:
                mesh.app(name, ok)
            mesh.configure(NAMES, by(HashKey(HashOf.PATH)))
            for number in range(12):
                await mesh.request(target=f"/{number}")
            found.append(mesh.asked())
        assert found[0] == found[1]
        nursery.cancel_scope.cancel()


async def test_own_zone_first(mesh: ZonedMesh) -> None:
    mesh.worker.node = replace(mesh.worker.node, zone="west")
    mesh.configure(NAMES)
    for _ in range(20):
        await mesh.request()
    assert set(mesh.asked()) == {"west-1", "west-2"}


async def test_zones_are_no_matter_to_a_policy_that_says_so(mesh: ZonedMesh) -> None:
    mesh.worker.node = replace(mesh.worker.node, zone="west")
    mesh.configure(NAMES, TrafficPolicy(balancing=Balancing(algorithm=Algorithm.ROUND_ROBIN, zone=ZoneRule.ANY)))
    for _ in range(8):
        await mesh.request()
    assert set(mesh.asked().values()) == {2}


async def test_a_subset_is_all_that_is_asked(mesh: ZonedMesh) -> None:
    turns = Balancing(algorithm=Algorithm.ROUND_ROBIN, subset=Subset((("tier", "gold"),)))
    mesh.configure(NAMES, TrafficPolicy(balancing=turns))
    for _ in range(8):
        await mesh.request()
    assert mesh.asked() == {"east-1": 4, "west-1": 4}


@pytest.mark.parametrize(("otherwise", "status"), [(Otherwise.NONE, 503), (Otherwise.ANY, 200)])
async def test_a_subset_that_nobody_is_of(mesh: ZonedMesh, otherwise: Otherwise, status: int) -> None:
    subset = Subset((("tier", "tin"),), otherwise)
    mesh.configure(NAMES, TrafficPolicy(balancing=Balancing(subset=subset)))
    answer = await mesh.request()
    assert answer.status == status
    if status == 503:
        (done,) = mesh.told.done
        assert done.flags == "UH"
        assert "no endpoint of orders.shop:8080 has the labels tier=tin" in done.details


async def slow(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await trio.sleep(0.3)
    await ok(app, request, body)


async def broken(app: AppConnection, request: h11.Request, body: bytes) -> None:
    del request, body
    await app.answer(503)


async def test_what_is_learnt_of_endpoints_is_shown(mesh: ZonedMesh) -> None:
    mesh.app("east-1", slow)
    mesh.app("east-2", broken)
    mesh.configure(NAMES[:2], TrafficPolicy(ejection=Ejection(max_percent=0)))
    for _ in range(4):
        await mesh.request()
    (cluster,) = clusters(mesh.worker)
    endpoints = cluster["endpoints"]
    assert isinstance(endpoints, list)
    shown = {each["id"]: (each["rtt_ms"], each["success_percent"]) for each in endpoints}
    assert cluster["algorithm"] == "ewma"
    assert cluster["panic"] is False
    assert 300 <= shown["east-1"][0] < 2000
    assert shown["east-1"][1] == 100.0
    assert shown["east-2"][1] < 100.0


async def refusing(app: AppConnection, request: h11.Request, body: bytes) -> None:
    del request, body
    await app.answer(429)


async def working(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await trio.sleep(0.02)
    await ok(app, request, body)


async def test_who_refuses_at_once_does_not_look_quick(mesh: ZonedMesh) -> None:
    for name in NAMES:
        mesh.app(name, refusing if name == "east-1" else working)
    mesh.configure(NAMES)
    answers = [(await mesh.request()).status for _ in range(60)]
    live = mesh.live("east-1")
    assert answers.count(429) == live.tries < 12
    assert (live.failures, live.failed_tries) == (0, 0)  # it is no failure, for all that
    assert live.error_share > 0.0


async def test_nothing_is_learnt_where_nobody_asks(mesh: ZonedMesh) -> None:
    mesh.configure(NAMES[:1], TrafficPolicy(balancing=Balancing(algorithm=Algorithm.RANDOM)))
    await mesh.request()
    (cluster,) = clusters(mesh.worker)
    assert "'rtt_ms': None" in str(cluster)


async def test_a_slow_upload_is_not_the_endpoints_time(mesh: ZonedMesh) -> None:
    mesh.configure(NAMES[:1])
    stream = mesh.network.dial("proxy:1")
    await stream.send(b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\n1")
    for piece in (b"2", b"3"):
        await trio.sleep(2.0)
        await stream.send(piece)
    assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
    live = mesh.live(NAMES[0])
    assert live.tries == 1
    assert live.rtt_s < 0.1
    stream.close()


async def test_an_answer_to_half_an_upload_tells_no_time(mesh: ZonedMesh) -> None:
    async def at_once(stream: MemoryStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    mesh.network.listen("east-9:8080", lambda stream: mesh.nursery.start_soon(at_once, stream))
    mesh.configure(["east-9"])
    stream = mesh.network.dial("proxy:1")
    await stream.send(b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
    await trio.sleep(3.0)
    live = mesh.live("east-9")
    assert live.tries == 1
    assert live.error_share == 0.0
    assert live.rtt_s == 0.030  # still the guess
    stream.close()
