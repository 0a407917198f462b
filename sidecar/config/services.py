"""`v1/Service` and our compiled `Endpoints`: documents <-> model.

Of a Kubernetes Service the ports count here, and its cluster addresses, by which captured connections know it.
Endpoints come from Workloads: who is behind it is not chosen by its selector. Other fields that Kubernetes knows are
accepted and ignored.
"""

from types import MappingProxyType

from sidecar.config import grammar
from sidecar.config.header import OWN_API, Metadata, document
from sidecar.config.node import Json, Node
from sidecar.config.protocols import app_protocol, protocol_of_name
from sidecar.config.references import MAX_WEIGHT
from sidecar.model.clusters import (
    EMPTY,
    PLAIN,
    Endpoint,
    EndpointSet,
    Hop,
    Mesh,
    Service,
    ServiceKey,
    ServicePort,
)

_KUBERNETES = (
    *("selector", "type", "ipFamilies", "ipFamilyPolicy", "sessionAffinity"),
    *("sessionAffinityConfig", "externalIPs", "externalName", "externalTrafficPolicy", "internalTrafficPolicy"),
    *("allocateLoadBalancerNodePorts", "healthCheckNodePort", "loadBalancerClass", "loadBalancerIP"),
    *("loadBalancerSourceRanges", "publishNotReadyAddresses", "trafficDistribution"),
)
_HEADLESS = ("None", "")  # Kubernetes' words for a service without an address, and for one that has none yet


def parse_service(meta: Metadata, spec: Node) -> Service:
    """A Service. Its UDP and SCTP ports are left out with a warning: nothing here carries them."""
    got = spec.fields("ports", "clusterIP", "clusterIPs", ignored=_KUBERNETES)
    ports: dict[int, ServicePort] = {}
    for node in got.need("ports", "a list of ports").items(at_least=1):
        seen = node.source.problems.count
        port = _service_port(node)
        if port is None or node.source.problems.count != seen:
            continue
        if port.port in ports:
            node.complain(f"port {port.port} is declared twice")
        ports[port.port] = port
    given = [got.get("clusterIP"), *got.maybe("clusterIPs", Node.items, [])]
    addresses = [_cluster_ip(node) for node in given if node is not None and node.value not in _HEADLESS]
    # Kubernetes repeats the first of `clusterIPs` in `clusterIP`.
    return Service(
        ServiceKey(meta.namespace, meta.name), tuple(ports.values()), tuple(dict.fromkeys(filter(None, addresses)))
    )


def _cluster_ip(node: Node) -> str:
    return node.parsed(grammar.parse_ip_address, "", 64)


def _service_port(node: Node) -> ServicePort | None:
    got = node.fields("port", "name", "appProtocol", "protocol", "targetPort", ignored=("nodePort",))
    number = got.need("port", "a port number").port()
    name = got.maybe("name", Node.label, "")
    transport = got.get("protocol")
    target = got.get("targetPort")
    if target is not None and target.value != number:
        target.warn("is not used: endpoints come from Workloads, which serve the port itself")
    if transport is not None and transport.one_of(("TCP", "UDP", "SCTP")) != "TCP":
        transport.warn(f"port {number} is left out: only TCP is carried")
        return None
    return ServicePort(number, got.maybe("appProtocol", app_protocol, protocol_of_name(name)), name)


def encode_service(service: Service) -> dict[str, Json]:
    """The document of a Service. The protocol is always written, so that no convention on names is needed."""
    ports: list[Json] = []
    for port in service.ports:
        entry: dict[str, Json] = {"port": port.port, "appProtocol": port.protocol.value}
        ports.append(entry | {"name": port.name} if port.name else entry)
    spec: dict[str, Json] = {"ports": ports}
    if service.addresses:
        spec["clusterIPs"] = [*service.addresses]
    return document("v1", "Service", service.key.namespace, service.key.name, spec)


def parse_endpoints(meta: Metadata, spec: Node) -> EndpointSet:
    """The endpoints of a service, made by the control plane or by `derive.py`."""
    got = spec.fields("endpoints")
    endpoints: dict[tuple[str, int], Endpoint] = {}
    for node in got.need("endpoints", "a list").items():
        seen = node.source.problems.count
        endpoint = _endpoint(node)
        if node.source.problems.count == seen and (endpoint.id, endpoint.service_port) in endpoints:
            node.complain(f"endpoint {grammar.shown(endpoint.id)} of port {endpoint.service_port} is there twice")
        endpoints[endpoint.id, endpoint.service_port] = endpoint
    return EndpointSet(ServiceKey(meta.namespace, meta.name), tuple(endpoints.values()))


def _endpoint(node: Node) -> Endpoint:
    got = node.fields("id", "servicePort", "address", "port", "weight", "zone", "version", "ready", "labels", "hop")
    labels: dict[str, str] = got.maybe("labels", Node.labels, {})
    return Endpoint(
        id=got.need("id", "the workload's name").parsed(grammar.parse_subdomain, ""),
        service_port=got.need("servicePort", "a port number").port(),
        host=got.need("address", "an IP address or host name").parsed(grammar.parse_host, "", 253),
        port=got.need("port", "a port number").port(),
        hop=got.maybe("hop", _hop, PLAIN),
        weight=got.maybe("weight", lambda field: field.integer(1, MAX_WEIGHT), 1),
        zone=got.maybe("zone", _zone, ""),
        version=got.maybe("version", _zone, ""),
        ready=got.maybe("ready", Node.boolean, True),
        labels=MappingProxyType(labels) if labels else EMPTY,
    )


def _zone(node: Node) -> str:
    return "" if node.value == "" else node.parsed(grammar.parse_label_value, "")


def _hop(node: Node) -> Hop:
    got = node.fields("plain", "mesh")
    if ("plain" in got) == ("mesh" in got):
        node.complain("give exactly one of: plain, mesh")
        return PLAIN
    if "plain" in got:
        got.maybe("plain", Node.fields, None)
        return PLAIN
    return got.maybe("mesh", _mesh, Mesh("", frozenset()))


def _mesh(node: Node) -> Mesh:
    got = node.fields("serverName", "spiffeIds", "alpn")
    ids = got.need("spiffeIds", "a list of SPIFFE IDs").items(at_least=1)
    return Mesh(
        got.need("serverName", "PORT.SERVICE.NAMESPACE.mesh").parsed(grammar.parse_host, "", 253),
        frozenset(item.parsed(grammar.parse_spiffe_id, "") for item in ids),
        got.maybe("alpn", lambda field: tuple(item.text(32) for item in field.items(at_least=1)), ("http/1.1",)),
    )


def encode_endpoints(endpoints: EndpointSet) -> dict[str, Json]:
    """The document of a service's endpoints."""
    key = endpoints.service
    spec: dict[str, Json] = {"endpoints": [_encode_endpoint(endpoint) for endpoint in endpoints.endpoints]}
    return document(OWN_API, "Endpoints", key.namespace, key.name, spec)


def _encode_endpoint(endpoint: Endpoint) -> dict[str, Json]:
    hop: dict[str, Json] = {"plain": {}}
    if isinstance(endpoint.hop, Mesh):
        ids: list[Json] = [*sorted(endpoint.hop.spiffe_ids)]
        hop = {"mesh": {"serverName": endpoint.hop.server_name, "spiffeIds": ids, "alpn": [*endpoint.hop.alpn]}}
    return {
        "id": endpoint.id,
        "servicePort": endpoint.service_port,
        "address": endpoint.host,
        "port": endpoint.port,
        "weight": endpoint.weight,
        "zone": endpoint.zone,
        "version": endpoint.version,
        "ready": endpoint.ready,
        "labels": dict(endpoint.labels),
        "hop": hop,
    }
