"""References are errors where nothing else can come, and warnings where services come and go."""

import pytest

from sidecar.config.check import check_references, known_services, listed
from sidecar.config.problems import Problems
from sidecar.config.resources import parse_documents
from sidecar.model.clusters import ServiceKey

WORKLOAD = """
kind: Workload
metadata: {name: orders-1, namespace: shop, labels: {version: v1}}
spec: {service: orders, address: 10.0.0.5, ports: [{port: 8080}]}
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: orders}]
  rules: [{backendRefs: [{name: orders-v1, port: 8080}, {name: orders-v2, port: 8080}]}]
"""


def test_a_missing_service_is_an_error_in_a_complete_set_and_a_warning_else() -> None:
    documents = parse_documents(WORKLOAD + ROUTE, "a.yaml")
    complete, open_ended = Problems(), Problems()
    check_references(documents, complete)
    check_references(documents, open_ended, complete=False)
    assert len(complete.lines()) == 1
    assert complete.warning_lines() == []
    assert open_ended.warning_lines() == complete.lines()
    assert open_ended.lines() == []


def test_services_that_are_registered_elsewhere_count() -> None:
    problems = Problems()
    documents = parse_documents(WORKLOAD + ROUTE, "a.yaml")
    check_references(documents, problems, services={ServiceKey("shop", "orders-v2"): {8080}})
    assert problems.lines() == []


def test_a_service_document_alone_decides_its_ports() -> None:
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: orders, namespace: shop}\nspec: {ports: [{port: 80}]}\n---"
    )
    documents = parse_documents(service + WORKLOAD, "a.yaml")
    assert known_services(documents) == {ServiceKey("shop", "orders"): {80}, ServiceKey("shop", "orders-v1"): {8080}}
    problems = Problems()
    check_references(documents, problems)
    assert problems.warning_lines() == [
        "a.yaml:8:52: spec.ports[0]: Service orders.shop does not declare port 8080; nobody calls it"
    ]


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        ([], "a", "known: none"),
        (["orders", "stock"], "order", "did you mean 'orders'? known: orders, stock"),
        ([f"s{n}" for n in range(10)], "zzz", "known: s0, s1, s2, s3, s4, s5, s6, s7, and 2 more"),
    ],
)
def test_lists_of_names_stay_a_line(names: list[str], wanted: str, expected: str) -> None:
    assert listed(names, wanted) == expected
