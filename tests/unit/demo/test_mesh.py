"""What the demo writes for its processes is what the product reads; nothing is started here."""

from pathlib import Path

import pytest
import trio
import yaml

from demo.mesh import INSTANCES, SHOP, DemoMesh, for_each
from demo.process import DemoError
from sidecar.config.files import load_bootstrap
from sidecar.config.resources import parse_documents


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda instance: instance.name)
def test_the_bootstrap_files_load_without_a_warning(instance: object, tmp_path: Path) -> None:
    mesh = DemoMesh(tmp_path)
    (chosen,) = [one for one in INSTANCES if one is instance]
    file = tmp_path / "sidecar.yaml"
    file.write_text(yaml.safe_dump(mesh.bootstrap(chosen)), "utf-8")
    bootstrap, warnings = load_bootstrap(file, {})

    own = mesh.addresses[chosen.name]
    assert warnings == []
    assert (bootstrap.node.service, bootstrap.node.version, bootstrap.node.id) == (
        chosen.service,
        chosen.version,
        chosen.name,
    )
    assert bootstrap.inbound is not None
    assert [str(port.app) for port in bootstrap.inbound.ports] == [own.app]
    assert [str(upstream.listen) for upstream in bootstrap.outbound.upstreams] == (
        [own.upstream] if chosen.calls else []
    )


def test_every_address_of_a_mesh_is_its_own() -> None:
    mesh = DemoMesh(Path("/nowhere"))
    given = [text for own in mesh.addresses.values() for text in (own.app, own.inbound, own.outbound, own.upstream)]
    given += [text for own in mesh.addresses.values() for text in (own.admin, own.metrics)]
    given.append(mesh.server.removeprefix("http://"))

    assert len(set(given)) == len(given) == 6 * len(INSTANCES) + 1


def test_the_shops_resources_are_valid_and_name_what_the_demo_runs() -> None:
    names = [document.name for document in parse_documents(SHOP.read_text("utf-8"), SHOP.name)]

    assert names == ["HTTPRoute/shop/orders", "AuthorizationPolicy/shop/orders", "AuthorizationPolicy/shop/stock"]
    assert {instance.version for instance in INSTANCES if instance.service == "orders"} == {"v1", "v2"}
    assert sum(instance.version == "v1" for instance in INSTANCES) == 2  # one may be killed


async def test_the_first_failure_of_several_jobs_is_raised_as_it_is() -> None:
    async def start(name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name != "stock-1":
            raise DemoError(f"{name} ended")

    with pytest.raises(DemoError, match=r"orders-[12] ended"):
        await for_each(start, ["orders-1", "stock-1", "orders-2"])
