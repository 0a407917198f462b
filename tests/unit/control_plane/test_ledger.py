"""Changes on a real store: one after another, all or nothing, the same after a restart."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from control_plane.answers import Refused
from control_plane.compile import Content, Edit, remember
from control_plane.ledger import Ledger, open_ledger
from control_plane.store.contract import Put, StoreError
from control_plane.store.sqlite import SqliteStore, open_store
from sidecar.config.node import Json
from sidecar.config.resources import parse_json, to_document, to_json
from sidecar.model.clusters import ServicePort, Workload

Opened = Callable[[], AbstractAsyncContextManager[Ledger]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens the same store each time, with the ledger running."""

    @asynccontextmanager
    async def open_it() -> AsyncIterator[Ledger]:
        store = await open_store(tmp_path)
        ledger = await open_ledger(store, "mesh.local")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.run)
            yield ledger
            nursery.cancel_scope.cancel()
        await store.aclose()

    return open_it


def service(name: str, note: str = "") -> Edit:
    metadata: dict[str, Json] = {"name": name, "namespace": "shop", "annotations": {"note": note}}
    spec: Json = {"ports": [{"port": 80}]}
    parsed = parse_json(to_json({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}))
    return Edit(user={parsed.name: parsed})


def registered(name: str, *, ready: bool = True) -> Callable[[Content], Edit]:
    made = Workload(
        namespace="shop",
        name=name,
        service="orders",
        address="10.0.0.1",
        ports=(ServicePort(8080),),
        account="orders",
        ready=ready,
    )
    return lambda content: Edit(registered={f"shop/{name}": made}, remembered=remember(content, made))


def versions(ledger: Ledger) -> dict[str, int]:
    return {name: each.version for name, each in ledger.snapshot.resources.items()}


async def test_a_change_is_compiled_versioned_and_announced(opened: Opened) -> None:
    async with opened() as ledger:
        told: list[int] = []
        ledger.listeners.append(lambda: told.append(ledger.snapshot.version))
        outcome = await ledger.change(lambda _: service("orders"))
        assert outcome.revision == ledger.revision == ledger.snapshot.version == 1
        assert versions(ledger) == {"Service/shop/orders": 1, "Endpoints/shop/orders": 1}
        assert ledger.content.user["Service/shop/orders"].version == 1
        assert ledger.changed_at(1) == frozenset({"Service/shop/orders", "Endpoints/shop/orders"})
        assert ledger.changed_at(2) is None
        assert told == [1]


async def test_a_refused_change_leaves_nothing(opened: Opened) -> None:
    def refuse(content: Content) -> Edit:
        raise Refused("no")

    async with opened() as ledger:
        with pytest.raises(Refused, match="no"):
            await ledger.change(refuse)
        assert ledger.revision == 0
        outcome = await ledger.change(lambda _: Edit())
        assert outcome.revision == 0


async def test_each_change_sees_those_before_it_and_a_refusal_spoils_no_other(opened: Opened) -> None:
    seen: dict[int, int] = {}
    refused: dict[int, str] = {}

    async def change(ledger: Ledger, number: int) -> None:
        def decide(content: Content) -> Edit:
            seen[number] = len(content.user)
            if number % 3 == 0:
                raise Refused(str(number))
            return service(f"s{number}")

        try:
            await ledger.change(decide)
        except Refused as refusal:
            refused[number] = refusal.message

    async with opened() as ledger:
        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(change, ledger, number)
        assert refused == {0: "0", 3: "3", 6: "6"}
        assert len(ledger.content.user) == 6
        assert ledger.revision < 6  # a burst is one transaction, or a few
        assert sorted(seen.values())[-1] >= 5


async def test_versions_survive_a_restart(opened: Opened) -> None:
    async with opened() as ledger:
        await ledger.change(lambda _: service("stock"))
        await ledger.change(registered("orders-1"))
        await ledger.change(registered("orders-2"))
        await ledger.change(lambda _: Edit(registered={"shop/orders-2": None}))
        before = versions(ledger)
        documents = {name: each.document for name, each in ledger.snapshot.resources.items()}
        content = ledger.content
    async with opened() as ledger:
        assert versions(ledger) == before
        assert before["Endpoints/shop/orders"] == 4
        assert {name: each.document for name, each in ledger.snapshot.resources.items()} == documents
        assert ledger.revision == 4
        assert ledger.content.registered == content.registered
        assert ledger.content.remembered == content.remembered
        assert ledger.registered_at == {"shop/orders-1": 2}
        assert ledger.changed_at(4) is None


async def test_a_write_per_change_and_none_without_one(opened: Opened) -> None:
    async with opened() as ledger:
        await ledger.change(registered("orders-1"))
        revision = ledger.revision
        await ledger.change(lambda _: Edit())
        assert ledger.revision == revision


async def test_a_change_that_compiles_to_the_same_pushes_nothing(opened: Opened) -> None:
    async with opened() as ledger:
        await ledger.change(lambda _: service("orders"))
        snapshot = ledger.snapshot
        outcome = await ledger.change(lambda _: service("orders", "changed"))
        assert outcome.revision == 2
        assert ledger.snapshot is snapshot
        assert ledger.changed_at(2) == frozenset()


async def test_what_compiles_differently_than_when_it_was_written_gets_a_new_version(
    opened: Opened, tmp_path: Path
) -> None:
    async with opened() as ledger:
        await ledger.change(lambda _: service("orders"))
        await ledger.change(lambda _: service("stock"))
    store = await open_store(tmp_path)  # as if another version of the program had compiled it
    await store.txn([Put("compiled/Service/shop/orders", b"other"), Put("compiled/Endpoints/shop/gone", b"other")])
    await store.aclose()
    async with opened() as ledger:
        assert versions(ledger)["Service/shop/orders"] == ledger.snapshot.version == 4
        assert versions(ledger)["Service/shop/stock"] == 2
    async with opened() as ledger:
        assert versions(ledger)["Service/shop/orders"] == 4


async def test_a_failing_store_is_told_to_whoever_asked_and_changes_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    ledger = await open_ledger(store, "mesh.local")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.run)
        await ledger.change(lambda _: service("orders"))
        await store.aclose()
        with pytest.raises(StoreError, match="closed"):
            await ledger.change(lambda _: service("stock"))
        assert sorted(ledger.content.user) == ["Service/shop/orders"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("resource/Service/shop/a", b"{", "holds resource/Service/shop/a, which this version cannot read"),
        ("resource/Service/shop/a", b"\xff", "which this version cannot read"),
        ("workload/shop/a", b'{"kind": "Rollout"}', "start the version that wrote it"),
    ],
)
async def test_a_document_that_cannot_be_read_is_never_dropped_silently(
    tmp_path: Path, key: str, value: bytes, message: str
) -> None:
    await _with_store(tmp_path, lambda store: store.txn([Put(key, value)]))
    store = await open_store(tmp_path)
    with pytest.raises(StoreError, match=message):
        await open_ledger(store, "mesh.local")
    await store.aclose()


async def test_a_workload_key_must_hold_a_workload(tmp_path: Path) -> None:
    body = next(iter(service("a").user.values()))
    assert body is not None
    text = to_json(to_document(body.body)).encode()
    await _with_store(tmp_path, lambda store: store.txn([Put("workload/shop/a", text)]))
    store = await open_store(tmp_path)
    with pytest.raises(StoreError, match="workload/shop/a: holds no Workload"):
        await open_ledger(store, "mesh.local")
    await store.aclose()


async def _with_store(path: Path, work: Callable[[SqliteStore], Awaitable[object]]) -> None:
    store = await open_store(path)
    await work(store)
    await store.aclose()
