"""A static folder that changes while the sidecar runs: when it is taken, what survives, what a bad one does."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from sidecar.app import folder_source
from sidecar.app.folder_source import FolderSource, marks_of
from sidecar.config.files import load_static_folder
from sidecar.model.bootstrap import Bootstrap, HostPort, NodeInfo, OutboundConfig, Upstream
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.transport.identity import Identity

STOCK = ServiceKey("shop", "stock")
WORKLOAD = """
apiVersion: sidecar-mesh.dev/v1alpha1
kind: Workload
metadata: {name: NAME, namespace: shop}
spec: {service: SERVICE, address: ADDRESS, ports: [{port: 80, protocol: http}]}
"""


@dataclass
class Home:
    """Remembers what it is told; `until` waits for something to be said."""

    snapshots: list[Snapshot] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    heard: trio.Event = field(default_factory=trio.Event)

    def switch(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def identify(self, identity: Identity) -> None:
        raise AssertionError(identity)

    def say(self, line: str) -> None:
        self.said.append(line)
        self.heard.set()

    async def until(self, text: str) -> None:
        with trio.fail_after(10):
            while not any(text in line for line in self.said):
                self.heard = trio.Event()
                await self.heard.wait()


def workload(name: str, service: str, address: str) -> str:
    return WORKLOAD.replace("NAME", name).replace("SERVICE", service).replace("ADDRESS", address)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_source, "LOOK_S", 0.01)
    made = tmp_path / "mesh.d"
    made.mkdir()
    (made / "stock.yaml").write_text(workload("stock-1", "stock", "10.0.0.1"))
    (made / "orders.yaml").write_text(workload("orders-1", "orders", "10.0.0.2"))
    return made


def source_of(folder: Path, home: Home) -> FolderSource:
    bootstrap = Bootstrap(
        node=NodeInfo(service="web", id="web", account="web"),
        source="web.yaml",
        static=folder,
        outbound=OutboundConfig(listen=(), upstreams=(Upstream(service=STOCK, port=80, listen=HostPort("::1", 1)),)),
    )
    snapshot, _ = load_static_folder(folder, mesh=False)
    return FolderSource(snapshot, bootstrap, folder, home)


async def test_a_change_is_taken_when_it_stands_still_and_the_rest_keeps_its_identity(folder: Path) -> None:
    home = Home()
    source = source_of(folder, home)
    before = source.snapshot
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        (folder / "stock.yaml").write_text(workload("stock-1", "stock", "10.0.0.99"))
        await home.until("reloaded")
        [after] = home.snapshots
        nursery.cancel_scope.cancel()
    assert source.snapshot is after
    assert after.version == 1
    endpoints = after.endpoints(STOCK)
    assert endpoints is not None
    assert [one.host for one in endpoints.endpoints] == ["10.0.0.99"]
    untouched = "Endpoints/shop/orders"
    assert after.resources[untouched].body is before.resources[untouched].body
    assert home.said == [f"configuration reloaded: {len(after.resources)} resources from {folder}"]
    assert dict(source.reloads()) == {"applied": 1, "rejected": 0}


async def test_what_is_gone_from_the_folder_is_gone(folder: Path) -> None:
    home = Home()
    source = source_of(folder, home)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        (folder / "orders.yaml").unlink()
        await home.until("reloaded")
        nursery.cancel_scope.cancel()
    assert sorted(source.snapshot.resources) == ["Endpoints/shop/stock", "Service/shop/stock"]


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("orders.yaml", "kind: Workload\n", "orders.yaml:1:1: "),
        ("stock.yaml", "", "web.yaml: outbound.upstreams needs stock.shop port 80; "),
    ],
)
async def test_a_bad_folder_leaves_what_is_in_force_and_says_so_until_it_is_good(
    folder: Path, file: str, text: str, complaint: str
) -> None:
    home = Home()
    source = source_of(folder, home)
    before, good = source.snapshot, (folder / file).read_text()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        (folder / file).write_text(text) if text else (folder / file).unlink()
        await home.until("was not reloaded")
        assert home.snapshots == []
        assert source.snapshot is before
        assert complaint in home.said[0]
        assert home.said[-1] == f"{folder} was not reloaded; the configuration in force stays"
        assert complaint in str(source.rejections()[0]["reason"])
        assert source.age_s() > 0
        assert source.rejected_total() == 1
        (folder / file).write_text(good)
        await home.until("configuration reloaded")
        nursery.cancel_scope.cancel()
    assert source.rejections() == []
    assert source.age_s() == 0.0
    assert dict(source.reloads()) == {"applied": 1, "rejected": 1}


async def test_somebody_asks_and_the_folder_is_read_at_once(folder: Path) -> None:
    home = Home()
    source = source_of(folder, home)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        source.reread()
        await home.until("reloaded")
        nursery.cancel_scope.cancel()
    assert len(home.snapshots) == 1


def test_marks_change_with_what_is_read_and_nothing_else(folder: Path) -> None:
    before = marks_of(folder)
    (folder / ".stock.yaml.swp").write_text("")
    (folder / "notes.txt").write_text("")
    (folder / ".hidden.yaml").write_text("")
    assert marks_of(folder) == before
    (folder / "more.yml").write_text("")
    assert marks_of(folder) != before
    assert marks_of(folder / "nowhere") is None
