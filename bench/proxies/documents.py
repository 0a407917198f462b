"""The mesh of mesh.py as a folder of our resources."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import mesh

RULES_A_ROUTE = 16  # Gateway API's limit for one HTTPRoute
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


def text(
    port: int, *, routes: int = mesh.ROUTES, inbound: int | None = None, protocol: str = "auto", turn: int = 0
) -> str:
    """The resources as one file; see `write_folder` and mesh.make_routes."""
    documents = [*_workloads(port, inbound, protocol), *_routes(mesh.make_routes(routes, turn), port)]
    return _joined(documents)


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
