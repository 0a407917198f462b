"""What the API and the command line can ask of a control plane without sidecars; with them: tests/net."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from control_plane.answers import Kind, Refused
from control_plane.facade import ControlPlane, run
from control_plane.settings import ServeConfig, one_line

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {ports: [{port: 8080}]}
"""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    config = ServeConfig(data=tmp_path / "data", stream="127.0.0.1:0", say=lambda _: None)
    async with trio.open_nursery() as nursery:
        plane: ControlPlane = await nursery.start(run, config)
        yield plane
        nursery.cancel_scope.cancel()


async def test_apply_answers_with_a_revision_and_what_changed(plane: ControlPlane) -> None:
    first = await plane.apply(SERVICE % ("orders", "shop"), "a.yaml")
    assert (first.changed, first.unchanged, first.dry_run) == (("Service/shop/orders",), (), False)
    again = await plane.apply(SERVICE % ("orders", "shop") + "---" + SERVICE % ("stock", "shop"), "a.yaml")
    assert again.revision == first.revision + 1
    assert (again.changed, again.unchanged) == (("Service/shop/stock",), ("Service/shop/orders",))
    same = await plane.apply(SERVICE % ("orders", "shop"))
    assert (same.revision, same.changed) == (again.revision, ())


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(plane: ControlPlane) -> None:
    revision = (await plane.version()).revision
    dry = await plane.apply(SERVICE % ("orders", "shop"), dry_run=True)
    assert (dry.changed, dry.dry_run, dry.revision) == (("Service/shop/orders",), True, revision)
    assert await plane.resources() == []
    with pytest.raises(Refused):
        await plane.apply("kind: Service", dry_run=True)


async def test_one_bad_document_keeps_all_out(plane: ControlPlane) -> None:
    with pytest.raises(Refused) as refusal:
        await plane.apply(SERVICE % ("orders", "shop") + "---" + SERVICE % ("Stock", "shop"), "a.yaml")
    assert refusal.value.message == "1 problem in a.yaml"
    assert await plane.resources() == []


async def test_a_source_name_cannot_reach_the_terminal(plane: ControlPlane) -> None:
    with pytest.raises(Refused) as refusal:
        await plane.apply("kind: nonsense", "a\x1b[31m\n.yaml")
    assert refusal.value.details[0].startswith("a [31m .yaml:1:")


async def test_get_by_kind_namespace_and_name(plane: ControlPlane) -> None:
    await plane.apply(SERVICE % ("orders", "shop") + "---" + SERVICE % ("orders", "bank"))
    assert [each.name for each in await plane.resources("services")] == ["Service/bank/orders", "Service/shop/orders"]
    assert [each.name for each in await plane.resources(namespace="bank")] == [
        "Endpoints/bank/orders",
        "Service/bank/orders",
    ]
    found = await plane.resource("Service", "shop", "orders")
    assert (found.origin, found.version) == ("user", 1)
    with pytest.raises(Refused, match="there is no Service/shop/order") as refusal:
        await plane.resource("Service", "shop", "order")
    assert refusal.value.kind is Kind.NOT_FOUND


async def test_delete(plane: ControlPlane) -> None:
    await plane.apply(SERVICE % ("orders", "shop"))
    assert (await plane.delete("service", "shop", "orders", dry_run=True)).dry_run
    deleted = await plane.delete("service", "shop", "orders")
    assert (deleted.revision, deleted.changed) == (2, ("Service/shop/orders",))
    assert await plane.resources() == []
    with pytest.raises(Refused, match="there is no"):
        await plane.delete("service", "shop", "orders")


async def test_waiting_for_a_revision_that_concerns_nobody_is_done_at_once(plane: ControlPlane) -> None:
    applied = await plane.apply(SERVICE % ("orders", "shop"))
    waited = await plane.wait_revision(applied.revision, 60.0)
    assert (waited.done, waited.acked, waited.waiting) == (True, (), ())
    with pytest.raises(Refused, match="revision 99 is not there yet"):
        await plane.wait_revision(99, 1.0)


async def test_tokens_and_rotation_refuse_what_is_out_of_range(plane: ControlPlane) -> None:
    made = await plane.create_token(service="orders", namespace="shop")
    assert "BEGIN CERTIFICATE" in made.join_file
    with pytest.raises(Refused, match="0 uses"):
        await plane.create_token(service="orders", namespace="shop", uses=0)
    with pytest.raises(Refused, match="a spread of -1 s"):
        await plane.rotate(-1.0)
    assert (await plane.rotate(0.0)).asked == 0


async def test_a_new_control_plane_is_healthy(plane: ControlPlane) -> None:
    assert [line for line in await plane.check() if not line.ok] == []
    certs = await plane.certs()
    assert [row.kind for row in certs.rows] == ["root", "issuer", "control-plane"]
    assert (await plane.status()).sidecars == ()
    assert (await plane.stats()).rows == ()
    assert "control_plane_revision" in plane.metrics().decode()


async def test_check_tells_that_the_store_cannot_be_written(plane: ControlPlane) -> None:
    await plane._store.aclose()
    (line,) = [line for line in await plane.check() if not line.ok]
    assert line.what == "the store can be written"
    assert "the store is closed" in line.cause


async def test_changes_at_the_same_time_are_all_kept(plane: ControlPlane) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(plane.apply, SERVICE % (f"s{number}", "shop"))
    assert len(await plane.resources("service")) == 12


def test_text_of_a_peer_becomes_one_bounded_line() -> None:
    assert one_line("a\nb\x1b[1m\u202e") == "a b [1m "
    assert one_line("x" * 600) == "x" * 500 + "..."
