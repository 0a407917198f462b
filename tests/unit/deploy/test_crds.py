"""The CRDs accept and refuse what the product's own loader does: bent documents are judged by both."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sidecar.config.header import OWN_API
from sidecar.config.resources import USER_KINDS, parse_json
from sidecar.errors import ConfigError
from sidecar.model.routes import ROUTE_KINDS
from tests.support import crds
from tests.support.crds import HAS_CEL, Crd

CRDS = {kind: Crd(schema) for kind, schema in crds.load_all().items()}

FULL = """
kind: Workload
metadata: {name: orders-1, namespace: shop}
spec:
  service: orders
  address: 10.0.0.5
  ports: [{port: 8080, protocol: http, name: web}, {port: 9090, protocol: grpc}]
  inbound: 15006
  account: orders
  zone: eu-1a
  weight: 3
  ready: true
---
kind: TrafficPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRefs:
  - {kind: Service, name: orders, group: core}
  - {kind: HTTPRoute, name: orders.web, group: gateway.networking.k8s.io, sectionName: canary}
  - {kind: GRPCRoute, name: calls}
  timeouts: {request: 10s, perTry: 3s, connect: 1s, streamIdle: 5m, tunnelIdle: 1h}
  retries:
    attempts: 2
    "on": [connect-failure, reset, grpc-unavailable]
    statuses: [429, 503]
    headers: [{name: x-try-again, value: "yes"}, {name: X-Busy}]
    backoff: {base: 25ms, max: 250ms}
    budget: {percent: 20, interval: 10s, minPerSecond: 3}
    maxBody: 64Ki
  balancing: {algorithm: round-robin}
  ejection:
    consecutiveFailures: 5
    gatewayFailures: 5
    connectFailures: 3
    success: {atLeast: 50, interval: 10s, requests: 20}
    base: 5s
    max: 300s
    maxPercent: 34
  limits: {connections: 1024, pending: 256, requests: 1024}
  rateLimits:
  - {requests: 100, interval: 1m, burst: 20, by: {source: true}, path: /search}
  - {requests: 5}
  stickySplit: {cookie: user}
  fallback: {statuses: [503], status: 200, contentType: application/json, body: "[]"}
  faults:
  - {percent: 10, tries: 1, headers: [{name: X-Test, value: "1"}], callers: [frontend.shop], delay: 200ms, abort: 503}
  - {reset: true}
  mode: shadow
---
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: orders, group: core}]
  mode: enforce
  allow:
  - {from: {services: [frontend, web.shop], principals: ["spiffe://mesh.local/ns/shop/sa/frontend"]}}
  - {from: {services: [admin]}}
---
kind: MeshPolicy
metadata: {name: mesh, namespace: mesh-system}
spec:
  mtls: permissive
  trustDomain: mesh.local
  defaults: {timeouts: {request: 30s}, mode: enforce}
"""

# What is put in the place of every value: edges of every range, words of every grammar, and things of another type.
ODD: tuple[object, ...] = (
    *(-1, 0, 1, 1.5, 2, 3, 10, 11, 34, 100, 101, 1000, 1001, 15006, 65535, 65536, 1_000_000, 1_000_001, 1_048_577),
    *("", "a", "A", "a-", "-a", "a.b", "a..b", "a_b", "x" * 63, "x" * 64, "1.2.3.4", "1.2.3.256", "::1", "host.name"),
    *(
        "0s",
        "0h0m",
        "1ms",
        "999ms",
        "500ms500ms",
        "1s",
        "15s",
        "1h30m",
        "1.5s",
        "1s ",
        "99999h",
        "100000h",
        "1h1h1h1h1h",
    ),
    *("65536", "1048576", "1048577", "64Ki", "1024Ki", "1025Ki", "1Mi", "2Mi", "1M", "1048k", "1049k", "0Gi", "1Gi"),
    *("off", "strict", "permissive", "enforce", "shadow", "http", "tls", "reset", "ewma", "random"),
    *("Service", "HTTPRoute", "TCPRoute", "core", "gateway.networking.k8s.io"),
    *("spiffe://mesh.local/a", "spiffe://mesh.local", "spiffe://mesh.local/a/../b", "spiffe://Mesh/a", "orders.shop"),
    *(True, False, [], {}, ["reset"], ["x"], [1], [{}], {"unknown": 1}),
)
Document = dict[str, Any]


def full(kind: str) -> Document:
    for document in yaml.safe_load_all(FULL):
        if document["kind"] == kind:
            return {"apiVersion": OWN_API, **document}
    raise AssertionError(kind)


def places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place below `value`."""
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in entries:
        yield (*at, key)
        yield from places(below, (*at, key))


def bent(document: Document) -> Iterator[tuple[str, Document]]:
    """The document with one thing wrong, or odd, at a time."""
    for place in places(document["spec"], ("spec",)):
        for name, change in _changes():
            made = copy.deepcopy(document)
            holder: Any = made
            for key in place[:-1]:
                holder = holder[key]
            change(holder, place[-1])
            yield f"{'.'.join(map(str, place))} {name}", made


def _changes() -> Iterator[tuple[str, Any]]:
    def remove(holder: Any, key: str | int) -> None:
        del holder[key]

    def repeat(holder: Any, key: str | int) -> None:
        if isinstance(holder, list):
            holder.append(holder[key])  # type: ignore[index]  # a list's keys are numbers
        else:
            holder[f"{key}s"] = holder[key]

    def replace(holder: Any, key: str | int, odd: object) -> None:
        holder[key] = copy.deepcopy(odd)

    yield "removed", remove
    yield "repeated", repeat
    for odd in ODD:
        yield f"= {odd!r}", lambda holder, key, odd=odd: replace(holder, key, odd)


def loader_problems(document: Document) -> list[str]:
    try:
        parse_json(json.dumps(document))
    except ConfigError as exc:
        return list(exc.problems)
    return []


def test_there_is_a_crd_for_each_kind_of_ours_that_users_write() -> None:
    ours = {kind for kind in USER_KINDS if kind not in ("Service", *ROUTE_KINDS)}

    assert set(CRDS) == ours


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_a_whole_document_is_taken_by_both(kind: str) -> None:
    assert CRDS[kind].problems(full(kind)) == []
    assert loader_problems(full(kind)) == []


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_what_the_crd_takes_the_loader_takes_and_the_other_way_round(kind: str) -> None:
    judged = 0
    differ = []
    for name, document in bent(full(kind)):
        by_crd, by_loader = CRDS[kind].problems(document), loader_problems(document)
        if bool(by_crd) != bool(by_loader) and not (needs_rules(by_loader) and not HAS_CEL):
            differ.append(f"{name}: CRD says {by_crd or 'fine'}, loader says {by_loader or 'fine'}")
        judged += 1

    assert differ == []
    assert judged > 400


def needs_rules(problems: list[str]) -> bool:
    """Whether these are complaints that only the CEL rules of a CRD can make."""
    words = ("must be less than request", "must not be more than", "is too short; at least 1s")
    return bool(problems) and all(any(word in problem for word in words) for problem in problems)


def test_traffic_policy_and_mesh_defaults_have_one_schema() -> None:
    schemas = crds.load_all()
    policy = dict(schemas["TrafficPolicy"]["properties"]["spec"]["properties"])
    del policy["targetRefs"]

    assert schemas["MeshPolicy"]["properties"]["spec"]["properties"]["defaults"]["properties"] == policy


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_every_rule_has_a_message_and_reads_bounded_values_only(kind: str) -> None:
    """An API server refuses a CRD whose rules could cost too much: each text that they read has a maxLength."""
    schema = crds.load_all()[kind]
    for below in crds.schemas(schema):
        for rule in below.get("x-kubernetes-validations", []):
            assert rule["message"]
            read = below["properties"].values() if "properties" in below else [below]
            assert all("maxLength" in text for text in read if text["type"] == "string"), rule
