"""A push: good resources apply together, a bad one keeps its last good version, and nothing it needs is pulled away."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.resources import parse_wire
from sidecar.control.push import Item, Push
from sidecar.control.state import Applied, Rejection, apply_push
from sidecar.errors import ConfigError
from sidecar.model.clusters import Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Known, Resource, Snapshot

ORDERS = ServiceKey("shop", "orders")
NOTHING = Applied(snapshot=Snapshot())


def service(name: str = "orders", port: int = 8080, version: int = 1) -> Item:
    document = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": port}]},
    }  # fmt: skip
    return Item(name=f"Service/shop/{name}", version=version, document=json.dumps(document))


def endpoints(name: str = "orders", port: int = 9000, version: int = 1) -> Item:
    endpoint = {"id": f"{name}-1", "servicePort": 8080, "address": "127.0.0.1", "port": port, "hop": {"plain": {}}}
    document = {
        "apiVersion": "sidecar-mesh.dev/v1alpha1", "kind": "Endpoints",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"endpoints": [endpoint]},
    }  # fmt: skip
    return Item(name=f"Endpoints/shop/{name}", version=version, document=json.dumps(document))


def route(*backends: str, path_type: str = "PathPrefix", version: int = 1) -> Item:
    rule = {
        "matches": [{"path": {"type": path_type, "value": "/"}}],
        "backendRefs": [{"name": name, "port": 8080} for name in backends],
    }
    document = {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "orders"}], "rules": [rule]},
    }  # fmt: skip
    return Item(name="HTTPRoute/shop/orders", version=version, document=json.dumps(document))


def push(version: int, *items: Item, unset: tuple[str, ...] = ()) -> Push:
    return Push(version=version, set=items, unset=unset)


def canary() -> Applied:
    """orders, split over orders-v1 and orders-v2."""
    items = [make(name) for name in ("orders", "orders-v1", "orders-v2") for make in (service, endpoints)]
    return NOTHING.after(push(1, *items, route("orders-v1", "orders-v2")), parse_wire)


def test_one_push_makes_one_snapshot_of_its_version() -> None:
    applied = canary()
    assert len(applied.snapshot.resources) == 7
    assert applied.snapshot.version == applied.acked_version == 1
    assert not applied.rejected


def test_a_value_that_is_not_known_refuses_that_resource_and_the_rest_applies() -> None:
    before = canary()
    bad = route("orders-v1", path_type="Telepathy", version=2)
    after = before.after(push(2, bad, endpoints(port=9001, version=2)), parse_wire)
    assert set(after.rejected) == {"HTTPRoute/shop/orders"}
    assert "Telepathy" in after.rejected["HTTPRoute/shop/orders"]
    assert after.snapshot.resources["HTTPRoute/shop/orders"] is before.snapshot.resources["HTTPRoute/shop/orders"]
    found = after.snapshot.endpoints(ORDERS)
    assert found is not None
    assert found.endpoints[0].port == 9001
    assert after.acked_version == 2


def test_a_refusal_stands_until_a_good_version_comes_and_is_not_repeated_by_itself() -> None:
    refused = canary().after(push(2, route("orders-v1", path_type="Telepathy", version=2)), parse_wire)
    later = refused.after(push(3, endpoints(port=9001, version=3)), parse_wire)
    assert not later.rejected
    assert later.standing["HTTPRoute/shop/orders"].version == 2
    mended = later.after(push(4, route("orders-v1", version=4)), parse_wire)
    assert not mended.standing
    assert mended.snapshot.resources["HTTPRoute/shop/orders"].version == 4


def test_a_refusal_ends_when_the_resource_is_dropped() -> None:
    refused = canary().after(push(2, route("orders-v1", path_type="Telepathy", version=2)), parse_wire)
    gone = refused.after(push(3, unset=("HTTPRoute/shop/orders",)), parse_wire)
    assert not gone.standing
    assert "HTTPRoute/shop/orders" not in gone.snapshot.resources


def test_what_a_route_that_stays_leads_to_stays_until_the_route_is_mended() -> None:
    """The control plane drops v2, since the new route does not name it; the old one, which stays, does."""
    drop_v2 = ("Service/shop/orders-v2", "Endpoints/shop/orders-v2")
    refused = canary().after(push(2, route("orders-v1", path_type="Telepathy", version=2), unset=drop_v2), parse_wire)
    assert refused.held == set(drop_v2)
    assert set(drop_v2) <= refused.snapshot.resources.keys()
    later = refused.after(push(3, endpoints(port=9001, version=3)), parse_wire)
    assert later.held == set(drop_v2)
    mended = later.after(push(4, route("orders-v1", version=4)), parse_wire)
    assert not mended.held
    assert mended.snapshot.resources.keys().isdisjoint(drop_v2)


def test_a_held_service_that_is_sent_again_is_held_no_longer() -> None:
    drop_v2 = ("Service/shop/orders-v2",)
    refused = canary().after(push(2, route("orders-v1", path_type="Telepathy", version=2), unset=drop_v2), parse_wire)
    again = refused.after(push(3, service("orders-v2", version=3)), parse_wire)
    assert not again.held
    assert again.after(push(4, route("orders-v1", version=4)), parse_wire).snapshot.service(
        ServiceKey("shop", "orders-v2")
    )


def test_a_good_route_holds_nothing() -> None:
    after = canary().after(push(2, unset=("Service/shop/orders-v2",)), parse_wire)
    assert "Service/shop/orders-v2" not in after.snapshot.resources
    assert not after.held


def test_a_kind_that_this_version_does_not_know_is_refused_with_a_reason() -> None:
    item = Item(name="UDPRoute/shop/orders", version=1, document='{"kind": "UDPRoute"}')
    after = NOTHING.after(push(1, item, service()), parse_wire)
    assert "UDPRoute" in after.rejected["UDPRoute/shop/orders"]
    assert after.snapshot.service(ORDERS)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "null",
        "{",
        '{"kind": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"kind": "Service"}',
        "\ud800",
        "9" * 5_000,
    ],
)
def test_a_broken_document_is_one_refusal_in_one_line(document: str) -> None:
    after = NOTHING.after(push(1, Item(name="Service/shop/x", version=1, document=document), service()), parse_wire)
    [(name, reason)] = after.rejected.items()
    assert name == "Service/shop/x"
    assert 0 < len(reason) <= 500
    assert reason.isprintable()
    assert after.snapshot.service(ORDERS)


def test_a_fault_in_reading_is_a_refusal_too() -> None:
    def buggy(name: str, version: int, document: str) -> Resource:
        raise KeyError("ports")

    after = NOTHING.after(push(1, service()), buggy)
    assert after.rejected == {
        "Service/shop/orders": "this sidecar failed to read it (KeyError: 'ports'); please report this"
    }


def test_a_document_under_another_name_is_refused() -> None:
    def other(name: str, version: int, document: str) -> Resource:
        return Resource("Service/shop/other", version, Service(ORDERS, ()))

    assert "is Service/shop/other, not Service/shop/orders" in next(
        iter(NOTHING.after(push(1, service()), other).rejected.values())
    )


def test_a_name_twice_counts_as_it_stands_last_and_put_beats_drop() -> None:
    twice = push(1, service(port=1), service(port=2), unset=("Service/shop/orders",))
    found = NOTHING.after(twice, parse_wire).snapshot.service(ORDERS)
    assert found is not None
    assert found.ports[0].port == 2


def test_a_wanted_service_that_is_dropped_is_absent_and_another_is_unknown() -> None:
    stock = ServiceKey("shop", "stock")
    after = NOTHING.after(push(1, unset=("Service/shop/orders", "Service/shop/stock")), parse_wire, frozenset({ORDERS}))
    assert after.snapshot.knows(ORDERS) is Known.ABSENT
    assert after.snapshot.knows(stock) is Known.UNKNOWN
    kept = after.after(push(2), parse_wire, frozenset({ORDERS}))
    assert kept.snapshot.knows(ORDERS) is Known.ABSENT
    forgotten = kept.after(push(3), parse_wire, frozenset())
    assert forgotten.snapshot.knows(ORDERS) is Known.UNKNOWN
    there = kept.after(push(3, service()), parse_wire, frozenset({ORDERS}))
    assert there.snapshot.knows(ORDERS) is Known.FOUND
    assert not there.snapshot.absent


def test_a_held_service_is_found_and_absent_once_it_goes() -> None:
    v2 = ServiceKey("shop", "orders-v2")
    bad = push(2, route("orders-v1", path_type="Telepathy", version=2), unset=("Service/shop/orders-v2",))
    held = canary().after(bad, parse_wire, frozenset({v2}))
    assert held.snapshot.knows(v2) is Known.FOUND
    mended = held.after(push(3, route("orders-v1", version=3)), parse_wire, frozenset({v2}))
    assert mended.snapshot.knows(v2) is Known.ABSENT


def test_what_a_push_does_not_change_keeps_its_identity() -> None:
    before = canary()
    after = before.after(push(2, service(version=2), endpoints(port=9001, version=2)), parse_wire)
    for name, resource in before.snapshot.resources.items():
        same = after.snapshot.resources[name].body is resource.body
        assert same is (name != "Endpoints/shop/orders")


# -- any sequence of pushes, against a plain model -------------------------------------------------------------------


def ports(name: str, version: int, document: str) -> Resource:
    """Documents are port numbers; 0 is bad."""
    if document == "0":
        raise ConfigError(["port: 0"])
    return Resource(name, version, Service(ServiceKey("shop", name.rpartition("/")[2]), (ServicePort(int(document)),)))


NAMES = st.sampled_from([f"Service/shop/{letter}" for letter in "abc"])
STEPS = st.lists(st.tuples(st.dictionaries(NAMES, st.integers(0, 2)), st.sets(NAMES)), max_size=8)


@given(STEPS)
def test_each_resource_is_its_last_good_version(steps: list[tuple[dict[str, int], set[str]]]) -> None:
    applied, model, refused = NOTHING, dict[str, int](), dict[str, Any]()
    for version, (put, drop) in enumerate(steps, 1):
        items = (Item(name=name, version=version, document=str(port)) for name, port in put.items())
        applied = applied.after(push(version, *items, unset=tuple(drop)), ports)
        for name in drop - put.keys():
            model.pop(name, None)
            refused.pop(name, None)
        for name, port in put.items():
            if port:
                model[name] = port
                refused.pop(name, None)
            else:
                refused[name] = Rejection(version, "port: 0")
        assert {name: int(resource.body.ports[0].port) for name, resource in applied.snapshot.resources.items()
                if isinstance(resource.body, Service)} == model  # fmt: skip
        assert applied.standing == refused
        assert applied.rejected.keys() == {name for name, port in put.items() if not port}


def test_apply_push_without_history_is_a_first_push() -> None:
    assert apply_push(Snapshot(), push(7, service()), parse_wire).snapshot.version == 7
