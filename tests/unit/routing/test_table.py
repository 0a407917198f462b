"""The router: compiled once, kept over pushes, bounded, nothing remembered of what does not exist."""

import pytest

from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.routing import table as table_module
from sidecar.routing.table import Router, ServiceTable, compile_service
from tests.unit.routing.builders import (
    PORT,
    endpoint,
    endpoints,
    head,
    key,
    push,
    route,
    rule,
    service,
    snapshot,
    tcp_route,
)

SHOP = snapshot(
    service("orders", PORT, 9090),
    endpoints("orders"),
    service("stock"),
    endpoints("stock"),
    route(rule("orders", "stock"), port=PORT),
)


def table_of(router: Router, given: Snapshot, name: str, port: int = PORT) -> ServiceTable:
    found = router.table(given, key(name), port)
    assert found is not None
    return found


def test_a_table_is_compiled_once_per_port() -> None:
    router = Router()
    first = table_of(router, SHOP, "orders")
    assert table_of(router, SHOP, "orders") is first
    assert table_of(router, SHOP, "orders", 9090) is not first


def test_what_the_snapshot_does_not_know_has_no_table_and_leaves_no_trace() -> None:
    router = Router()
    assert router.table(SHOP, key("nobody"), PORT) is None
    assert router.table(SHOP, key("orders"), 1) is None
    for n in range(100):
        assert router.table(SHOP, ServiceKey("made", f"up-{n}"), PORT) is None
    assert router._tables._now == {}


def test_an_unrelated_push_keeps_the_table_even_if_it_was_not_asked_for_in_between() -> None:
    router = Router()
    orders, stock = table_of(router, SHOP, "orders"), table_of(router, SHOP, "stock")
    now = SHOP
    for n in range(5):
        now = push(now, endpoints(f"unrelated-{n}"))
        assert table_of(router, now, "stock") is stock
    assert table_of(router, now, "orders") is orders


def test_a_push_of_its_parts_makes_a_new_table_and_keeps_the_other_plans() -> None:
    router = Router()
    before = table_of(router, SHOP, "orders")
    now = push(SHOP, endpoints("stock", endpoint("stock-2")))
    after = table_of(router, now, "orders")
    assert after is not before
    kept = [key for key, plan in after.clusters.items() if before.clusters[key] is plan]
    assert [one.service.name for one in kept] == ["orders"]


def test_two_tables_with_the_same_backend_share_its_endpoints() -> None:
    router = Router()
    orders, stock = table_of(router, SHOP, "orders"), table_of(router, SHOP, "stock")
    (alone,) = stock.clusters.values()
    assert orders.clusters[alone.key].endpoints is alone.endpoints


def test_a_service_that_goes_is_forgotten_and_compiled_anew_when_it_returns() -> None:
    router = Router()
    first = table_of(router, SHOP, "stock")
    gone = push(SHOP, drop=("Service/shop/stock",))
    assert router.table(gone, key("stock"), PORT) is None
    back = push(gone, service("stock"))
    assert table_of(router, back, "stock") is not first


def test_a_request_that_still_holds_an_older_snapshot_is_routed_by_it() -> None:
    router = Router()
    now = push(SHOP, drop=("HTTPRoute/shop/orders",))
    for given, name in ((SHOP, "HTTPRoute/shop/orders/rule-0"), (now, "default")) * 2:
        plan = table_of(router, given, "orders").match(head())
        assert plan is not None
        assert plan.name == name


def test_the_number_of_tables_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "MAX_TABLES", 3)
    many = snapshot(*(service(f"s{n}") for n in range(6)))
    router = Router()
    tables = [table_of(router, many, f"s{n}") for n in range(6)]
    assert len(router._tables._now) == 3
    assert table_of(router, many, "s5") is tables[5]
    assert table_of(router, many, "s0") is not tables[0]
    router.table(push(many, service("one-more")), key("one-more"), PORT)
    assert len(router._tables._before) <= 3


def test_connections_have_tables_of_their_own_that_survive_a_push_of_something_else() -> None:
    router = Router()
    first = router.l4_table(SHOP, key("stock"), PORT)
    assert first is not None
    assert router.l4_table(SHOP, key("stock"), PORT) is first
    assert router.l4_table(push(SHOP, service("more")), key("stock"), PORT) is first
    steered = push(SHOP, tcp_route("orders", parent="stock"))
    changed = router.l4_table(steered, key("stock"), PORT)
    assert changed is not None
    assert [plan.name for plan in changed.routes] == ["TCPRoute/shop/orders/rule-0"]
    assert router.l4_table(steered, key("nobody"), PORT) is None


def test_compile_service_does_the_same_without_a_router() -> None:
    first = compile_service(SHOP, key("orders"), PORT)
    assert first is not None
    assert compile_service(push(SHOP, service("more")), key("orders"), PORT, first) is first
    changed = compile_service(push(SHOP, endpoints("orders", endpoint("orders-2"))), key("orders"), PORT, first)
    assert changed is not None
    assert changed is not first
    assert compile_service(SHOP, key("nobody"), PORT) is None
