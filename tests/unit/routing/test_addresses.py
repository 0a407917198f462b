"""From the address that an app dialled to the service behind it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clusters import ClusterKey, Endpoint, EndpointSet, Hop, Mesh, Plain, Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.routing.addresses import AddressIndex, canonical

ORDERS = ServiceKey("shop", "orders")
MESH = Mesh("8080.orders.shop.mesh", frozenset({"spiffe://mesh.local/ns/shop/sa/orders"}))


def snapshot(*bodies: Service | EndpointSet) -> Snapshot:
    made = []
    for body in bodies:
        kind, key = ("Service", body.key) if isinstance(body, Service) else ("Endpoints", body.service)
        made.append(Resource(f"{kind}/{key.namespace}/{key.name}", 1, body))
    return Snapshot(complete=True).changed(made, version=1)


def endpoints(name: str, host: str, port: int, *, service_port: int = 8080, hop: Hop = Plain()) -> EndpointSet:  # noqa: B008 - frozen
    one = Endpoint(id=f"{name}-1", service_port=service_port, host=host, port=port, hop=hop)
    return EndpointSet(ServiceKey("shop", name), (one,))


def test_an_endpoint_is_known_by_what_is_dialled_without_a_mesh() -> None:
    index = AddressIndex(snapshot(endpoints("orders", "10.0.0.5", 9000)))
    assert index.find("10.0.0.5", 9000) == ClusterKey(ORDERS, 8080)
    assert index.find("10.0.0.5", 8080) is None
    assert index.find("10.0.0.6", 9000) is None


def test_behind_a_sidecar_it_is_known_by_the_apps_port_and_not_by_the_sidecars() -> None:
    """All ports of a workload share 15006: it names none of them."""
    index = AddressIndex(snapshot(endpoints("orders", "10.0.0.5", 15006, hop=MESH)))
    assert index.find("10.0.0.5", 8080) == ClusterKey(ORDERS, 8080)
    assert index.find("10.0.0.5", 15006) is None


def test_the_address_of_a_service_beats_that_of_an_endpoint() -> None:
    service = Service(ORDERS, (ServicePort(80), ServicePort(443)), ("10.96.0.7", "fd00::7"))
    index = AddressIndex(snapshot(service, endpoints("other", "10.96.0.7", 80)))
    assert index.find("10.96.0.7", 80) == ClusterKey(ORDERS, 80)
    assert index.find("fd00::7", 443) == ClusterKey(ORDERS, 443)
    assert index.find("10.96.0.7", 8080) is None


@pytest.mark.parametrize("turned", [False, True])
def test_a_workload_belongs_to_its_service_before_that_of_its_version(turned: bool) -> None:
    bodies = [endpoints("orders", "10.0.0.5", 8080), endpoints("orders-v1", "10.0.0.5", 8080)]
    index = AddressIndex(snapshot(*(reversed(bodies) if turned else bodies)))
    assert index.find("10.0.0.5", 8080) == ClusterKey(ORDERS, 8080)


@pytest.mark.parametrize(
    ("text", "known_as"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("fd00:0:0::5", "fd00::5"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_one_address_has_one_text(text: str, known_as: str) -> None:
    assert canonical(text) == known_as


@given(st.ip_addresses().map(str))
def test_canonical_text_stays(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
