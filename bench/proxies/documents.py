"""The mesh of mesh.py as a folder of our resources."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import mesh

RULES_A_ROUTE = 16  # Gateway API's limit for one HTTPRoute
_DOCUMENTS_A_FILE = 63  # a thousand routes, half a megabyte; a file may have one
FILE = "mesh.yaml"
Document = dict[str, Any]


def write_folder(folder: Path, port: int, *, routes: int = mesh.ROUTES, inbound: int | None = None) -> None:
    """Write the resources.

    Args:
        port: The service's port; without `inbound`, also where the endpoints listen.
        inbound: Port of the sidecar in front of every endpoint; None for endpoints without one.
    """
    folder.mkdir()
    (folder / FILE).write_text(text(port, routes=routes, inbound=inbound))
    write_others(folder, port, routes)


def write_others(folder: Path, port: int, routes: int) -> None:
    """Write the routes that have no room in FILE."""
    others = [*_routes(mesh.make_routes(routes), port)][:-_DOCUMENTS_A_FILE]
    for number, start in enumerate(range(0, len(others), _DOCUMENTS_A_FILE)):
        (folder / f"routes-{number}.yaml").write_text(_joined(others[start : start + _DOCUMENTS_A_FILE]))


def text(
    port: int,
    *,
    routes: int = mesh.ROUTES,
    inbound: int | None = None,
    protocol: str = "auto",
    turn: int = 0,
    policy: Mapping[str, object] | None = None,
) -> str:
    """FILE's resources: the endpoints, and as many of the last routes as have room; see mesh.make_routes.

    `policy`: what a TrafficPolicy for all versions says.
    """
    last = [*_routes(mesh.make_routes(routes, turn), port)][-_DOCUMENTS_A_FILE:]
    return _joined([*_workloads(port, inbound, protocol), *_policies(policy), *last])


def opaque_text(port: int) -> str:
    """The endpoints alone, on a port of which nothing is read."""
    return _joined(list(_workloads(port, None, "tcp")))


def _joined(documents: list[Document]) -> str:
    # JSON is YAML without its surprises.
    return "\n---\n".join(json.dumps(document, indent=1) for document in documents)


def _workloads(port: int, inbound: int | None, protocol: str) -> Iterator[Document]:
    for version in mesh.VERSIONS:
        for number in range(len(mesh.ENDPOINTS[version])):
            ports = [{"port": port, "protocol": protocol}]
            spec: Document = {"service": mesh.SERVICE, "address": mesh.ENDPOINTS[version][number], "ports": ports}
            if inbound is not None:
                spec |= {"address": mesh.SIDECARS[version][number], "inbound": inbound}
            name = f"{mesh.SERVICE}-{version}-{number + 1}"
            yield _document("sidecar-mesh.dev/v1alpha1", "Workload", name, spec, {"version": version})


def _policies(spec: Mapping[str, object] | None) -> Iterator[Document]:
    if spec is not None:
        names = [mesh.SERVICE, *(f"{mesh.SERVICE}-{version}" for version in mesh.VERSIONS)]
        targets = [{"kind": "Service", "name": name} for name in names]
        yield _document("sidecar-mesh.dev/v1alpha1", "TrafficPolicy", "common", {"targetRefs": targets, **spec}, {})


def _routes(routes: tuple[mesh.Route, ...], port: int) -> Iterator[Document]:
    parent = {"group": "", "kind": "Service", "name": mesh.SERVICE, "port": port}
    for start in range(0, len(routes), RULES_A_ROUTE):
        rules = [_rule(route, port) for route in routes[start : start + RULES_A_ROUTE]]
        name = f"{mesh.SERVICE}-{start // RULES_A_ROUTE}"
        spec = {"parentRefs": [parent], "rules": rules}
        yield _document("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec, {})


def _rule(route: mesh.Route, port: int) -> Document:
    match: Document = {"path": {"type": "PathPrefix", "value": route.prefix}}
    if route.header is not None:
        name, value = route.header
        match["headers"] = [{"type": "Exact", "name": name, "value": value}]
    backends = [
        {"name": f"{mesh.SERVICE}-{version}", "port": port, "weight": weight} for version, weight in route.weights
    ]
    return {"matches": [match], "backendRefs": backends}


def _document(api: str, kind: str, name: str, spec: Document, labels: dict[str, str]) -> Document:
    metadata: Document = {"name": name, "namespace": mesh.NAMESPACE}
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": metadata | ({"labels": labels} if labels else {}),
        "spec": spec,
    }
