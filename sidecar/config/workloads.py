"""The kinds that only users and the control plane see: `Workload` and `MeshPolicy`; documents <-> model.

A Workload never travels to a sidecar: it is compiled into a Service and Endpoints. The label `version` of a Workload is
its version and becomes part of a Service's name, so it must be fit for one.
"""

from types import MappingProxyType

from sidecar.config import grammar
from sidecar.config.header import OWN_API, Metadata, document
from sidecar.config.node import Json, Node
from sidecar.config.policy.traffic import POLICY_FIELDS, encode_policy, policy_of
from sidecar.config.protocols import port_protocol
from sidecar.config.references import MAX_WEIGHT
from sidecar.model.bootstrap import MtlsMode
from sidecar.model.clusters import EMPTY, Protocol, ServicePort, Workload
from sidecar.model.mesh import MeshPolicy

VERSION_LABEL = "version"


def parse_workload(meta: Metadata, spec: Node, version: Node | None) -> Workload:
    """A Workload. `version` is the node of its label of that name, for positions."""
    got = spec.fields("service", "address", "ports", "inbound", "account", "zone", "weight", "ready")
    service = got.need("service", "the name of its service").label()
    labels = {name: value for name, value in meta.labels.items() if name != VERSION_LABEL}
    return Workload(
        namespace=meta.namespace,
        name=meta.name,
        service=service,
        address=got.need("address", "an IP address or host name").parsed(grammar.parse_host, "", 253),
        ports=_ports(got.need("ports", "a list of the app's ports")),
        inbound=got.maybe("inbound", Node.port, None),
        account=got.maybe("account", Node.label, service),
        zone=got.maybe("zone", lambda node: node.parsed(grammar.parse_label_value, ""), ""),
        version=version_of(version, service),
        weight=got.maybe("weight", lambda node: node.integer(1, MAX_WEIGHT), 1),
        ready=got.maybe("ready", Node.boolean, True),
        labels=MappingProxyType(labels) if labels else EMPTY,
    )


def version_of(node: Node | None, service: str) -> str:
    """The version in `node`, which must make a Service's name together with `service`."""
    if node is None or node.value == "":
        return ""
    version = node.parsed(_parse_version, "")
    if len(f"{service}-{version}") > 63:
        node.complain(f"Service {service}-{version} would be longer than 63 characters; choose a shorter version")
    return version


def _parse_version(text: str) -> str:
    try:
        return grammar.parse_label(text)
    except ValueError:
        raise ValueError(
            f"{grammar.shown(text)} is not a version such as v1 or 2-3-0: it becomes part of a Service's name, "
            "so lower-case letters, digits and '-' only"
        ) from None


def _ports(node: Node) -> tuple[ServicePort, ...]:
    ports: dict[int, ServicePort] = {}
    for item in node.items(at_least=1):
        seen = node.source.problems.count
        got = item.fields("port", "protocol", "name")
        number = got.need("port", "a port number").port()
        if number in ports and node.source.problems.count == seen:
            item.complain(f"port {number} is declared twice")
        protocol = got.maybe("protocol", port_protocol, Protocol.AUTO)
        ports[number] = ServicePort(number, protocol, got.maybe("name", Node.label, ""))
    return tuple(ports.values())


def encode_workload(workload: Workload) -> dict[str, Json]:
    """The document of a Workload."""
    ports: list[Json] = []
    for port in workload.ports:
        entry: dict[str, Json] = {"port": port.port, "protocol": port.protocol.value}
        ports.append(entry | {"name": port.name} if port.name else entry)
    spec: dict[str, Json] = {
        "service": workload.service,
        "address": workload.address,
        "ports": ports,
        "account": workload.account or workload.service,
        "weight": workload.weight,
        "ready": workload.ready,
    }
    if workload.inbound is not None:
        spec["inbound"] = workload.inbound
    if workload.zone:
        spec["zone"] = workload.zone
    made = document(OWN_API, "Workload", workload.namespace, workload.name, spec)
    labels: dict[str, Json] = {**workload.labels}
    if workload.version:
        labels[VERSION_LABEL] = workload.version
    metadata = made["metadata"]
    if labels and isinstance(metadata, dict):
        metadata["labels"] = labels
    return made


def parse_mesh_policy(meta: Metadata, spec: Node) -> MeshPolicy:
    """The MeshPolicy."""
    got = spec.fields("mtls", "trustDomain", "defaults")
    return MeshPolicy(
        namespace=meta.namespace,
        name=meta.name,
        mtls=got.maybe("mtls", lambda node: node.choice(MtlsMode), MtlsMode.STRICT),
        trust_domain=got.maybe("trustDomain", lambda node: node.parsed(grammar.parse_trust_domain, ""), ""),
        defaults=got.maybe("defaults", lambda node: policy_of(node.fields(*POLICY_FIELDS)), None),
    )


def encode_mesh_policy(policy: MeshPolicy) -> dict[str, Json]:
    """The document of the MeshPolicy."""
    spec: dict[str, Json] = {"mtls": policy.mtls.value}
    if policy.trust_domain:
        spec["trustDomain"] = policy.trust_domain
    if policy.defaults is not None:
        spec["defaults"] = encode_policy(policy.defaults)
    return document(OWN_API, "MeshPolicy", policy.namespace, policy.name, spec)
