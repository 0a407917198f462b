"""The mesh of mesh.py as a folder of our resources."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import mesh

RULES_A_ROUTE = 16  # Gateway API's limit for one HTTPRoute
Document = dict[str, Any]


def write_folder(folder: Path, port: int, *, routes: int = mesh.ROUTES, inbound: int | None = None) -> None:
    """Write the resources.

    Args:
        port: The service's port; without `inbound`, also where the endpoints listen.
        inbound: Port of the sidecar in front of every endpoint, on 127.0.0.1; None for endpoints without one.
    """
    folder.mkdir()
    documents = [*_workloads(port, inbound), *_routes(mesh.make_routes(routes), port)]
    # JSON is YAML without its surprises.
    (folder / "mesh.yaml").write_text("\n---\n".join(json.dumps(document, indent=1) for document in documents))


def _workloads(port: int, inbound: int | None) -> Iterator[Document]:
    for version, addresses in mesh.ENDPOINTS.items():
        for number, address in enumerate(addresses, 1):
            spec: Document = {"service": mesh.SERVICE, "address": address, "ports": [{"port": port}]}
            if inbound is not None:
                spec |= {"address": "127.0.0.1", "inbound": inbound}
            name = f"{mesh.SERVICE}-{version}-{number}"
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
