"""What a sidecar gets to see."""

import pytest

from control_plane import closure
from control_plane.closure import Closures
from sidecar.model.clusters import ServiceKey
from sidecar.model.routes import BackendRef, L4Rule, ParentRef, TcpRoute
from sidecar.model.snapshot import Resource
from tests.unit.control_plane.world import access, endpoints, key, route, service, snapshot, traffic

SHOP = snapshot(
    *(service(name) for name in ("orders", "orders-v1", "orders-v2", "stock", "frontend", "pay.bank")),
    *(endpoints(name, "x") for name in ("orders", "orders-v1", "orders-v2", "stock", "frontend", "pay.bank")),
    route("orders", "orders", "orders-v1", "orders-v2"),
    route("stock", "stock", "stock"),
    route("orders-for-bank", "orders", "stock", namespace="bank"),
    traffic("of-service", ("Service", "orders")),
    traffic("of-route", ("HTTPRoute", "orders")),
    traffic("of-backend", ("Service", "orders-v2")),
    traffic("of-stock", ("Service", "stock"), ("Service", "nobody")),
    access("orders", ("Service", "orders")),
    access("frontend", ("Service", "frontend")),
    access("frontend-v9", ("Service", "frontend-v9")),
)


def of(*wants: str, own: str = "frontend", version: str = "") -> set[str]:
    return set(Closures(SHOP).of(key(own), version, frozenset(map(key, wants))))


def both(name: str) -> set[str]:
    return {f"Service/shop/{name}", f"Endpoints/shop/{name}"}


def test_without_wants_it_is_the_own_service_and_its_policies() -> None:
    assert of() == {"Service/shop/frontend", "AuthorizationPolicy/shop/frontend"}


def test_policies_of_the_own_version_belong_to_it() -> None:
    assert of(version="v9") - of() == {"AuthorizationPolicy/shop/frontend-v9"}


def test_a_want_brings_routes_backends_and_policies_on_any_of_them() -> None:
    assert of("orders") - of() == {
        *both("orders"),
        *both("orders-v1"),
        *both("orders-v2"),
        "HTTPRoute/shop/orders",
        "TrafficPolicy/shop/of-service",
        "TrafficPolicy/shop/of-route",
        "TrafficPolicy/shop/of-backend",
        "AuthorizationPolicy/shop/orders",
    }


def test_routes_of_every_kind_come_with_their_backends_and_policies() -> None:
    parents = (ParentRef(key("orders")),)
    rules = (L4Rule(backends=(BackendRef(key("stock"), 8080),)),)
    tcp = TcpRoute(namespace="shop", name="db", parents=parents, rules=rules)
    body = Resource("TCPRoute/shop/db", 1, tcp)
    closures = Closures(
        snapshot(*(service(n) for n in ("orders", "stock", "frontend")), body, traffic("of-tcp", ("TCPRoute", "db")))
    )
    got = closures.of(key("frontend"), "", frozenset({key("orders")}))
    assert got == {
        *(f"Service/shop/{name}" for name in ("frontend", "orders", "stock")),
        "TCPRoute/shop/db",
        "TrafficPolicy/shop/of-tcp",
    }
    assert closures.led_to(tcp) == {"Service/shop/orders", "Service/shop/stock"}


def test_routes_of_a_backend_are_not_followed() -> None:
    assert "HTTPRoute/shop/orders" not in of("orders-v1")
    assert of("orders-v1") - of() == both("orders-v1")


def test_a_consumers_route_counts_in_its_own_namespace_only() -> None:
    assert "HTTPRoute/bank/orders-for-bank" not in of("orders")
    assert {"HTTPRoute/bank/orders-for-bank", *both("stock")} <= of("orders", own="pay.bank")


def test_what_does_not_exist_is_left_out() -> None:
    assert of("nothing") == of()
    assert Closures(snapshot()).of(ServiceKey("shop", "a"), "", frozenset({key("b")})) == frozenset()


def test_wants_add_up() -> None:
    assert of("orders", "stock") == of("orders") | of("stock")


def test_what_is_remembered_of_subscriptions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closure, "MAX_CACHED_WANTS", 10)
    closures = Closures(SHOP)
    for number in range(50):
        assert closures.of(key("frontend"), "", frozenset({key("stock"), key(f"made-up-{number}")}))
    assert sum(len(wants) for _, _, wants in closures._cache) <= 10
    assert closures.of(key("frontend"), "", frozenset(key(f"made-up-{number}") for number in range(20)))
    assert len(closures._cache) == 1
