"""May this sidecar be what it says? And what is registered for it.

push.py asks once for each `hello`, before anything is written. Pure: the identity comes verified from the TLS layer,
the grants from the store. A sidecar may only say hello as the namespace and account of its certificate, and as a
service that a token granted to that account; what it registers goes through the same parser as a Workload of a user.
"""

from collections.abc import Collection
from dataclasses import replace

from control_plane.compile import Content, Edit, remember, stale
from sidecar.config import grammar
from sidecar.config.derive import version_service
from sidecar.config.resources import parse_json, to_document, to_json
from sidecar.control.messages import Hello, Node, WorkloadInfo
from sidecar.errors import ConfigError
from sidecar.model.clusters import Protocol, ServiceKey, ServicePort, Workload

MAX_WORKLOADS = 20_000
MAX_OF_SERVICE = 5_000  # their Endpoints must fit into one frame of 4 MiB
MAX_VERSIONS = 64  # of one service; a canary needs two


class HelloRefused(Exception):  # noqa: N818 - a verdict about the peer
    """The sidecar may not be what it says. `final`: saying it again cannot help."""

    def __init__(self, message: str, hint: str = "", *, final: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.final = final


def check_identity(node: Node, namespace: str, account: str, granted: Collection[str]) -> None:
    """Raise HelloRefused unless the certificate's namespace and account may stand for the node's service."""
    if (node.namespace, node.account) != (namespace, account):
        raise HelloRefused(
            f"the certificate is for account {account} in namespace {namespace}, the node says account {node.account} "
            f"in namespace {node.namespace}",
            "correct node.namespace or node.account, or join with a token for that account",
        )
    if node.service not in granted:
        allowed = ", ".join(sorted(granted)) or "none"
        raise HelloRefused(
            f"account {account} may not serve {node.service} (allowed: {allowed})",
            f"join anew: meshctl token create --service {node.service} --namespace {namespace} --account {account}",
        )


def check_owner(node: Node, account: str) -> None:
    """Raise HelloRefused when the node's id is in use by another account; "" is nobody."""
    if account not in ("", node.account):
        raise HelloRefused(
            f"node id {node.id} in namespace {node.namespace} is in use by account {account}",
            "choose another node.id, or wait 30 s after the other one ended",
            final=False,
        )


def workload_of(hello: Hello, peer_address: str) -> Workload | None:
    """The Workload to register, or None for a pure caller.

    Raises:
        HelloRefused: A name, address or port that a user's Workload could not have either.
    """
    node, info = hello.node, hello.workload
    try:
        for name in (node.service, node.namespace):
            grammar.parse_label(name)
        grammar.parse_subdomain(node.id)
        if info is None:
            return None
        workload = Workload(
            namespace=node.namespace,
            name=node.id,
            service=node.service,
            address=info.address or peer_address,
            ports=_ports(info),
            inbound=info.inbound,
            account=node.account,
            zone=node.zone,
            version=node.version,
            ready=info.ready,
            labels=node.labels,
        )
        parsed = parse_json(to_json(to_document(workload))).body
    except ValueError as problem:
        raise HelloRefused(f"this cannot be registered: {problem}", "correct the sidecar's file") from None
    except ConfigError as problem:
        raise HelloRefused(f"this cannot be registered: {'; '.join(problem.problems[:3])}", "correct it") from None
    assert isinstance(parsed, Workload)
    return parsed


def registration(content: Content, workload: Workload) -> Edit:
    """The edit that registers `workload`; empty when it is registered just so.

    Raises:
        HelloRefused: The mesh is full, or what it would be belongs to another service.
    """
    node = f"{workload.namespace}/{workload.name}"
    present = content.registered.get(node)
    if present == workload:
        return Edit()
    if present is None or present.service != workload.service:
        _check_room(content, workload)
        _check_applied(content, workload)
    edit = Edit(registered={node: workload}, remembered=remember(content, workload))
    if present is not None and (present.service, present.version) == (workload.service, workload.version):
        return edit
    _check_version(content, workload)
    if present is None:
        return edit
    # The version that this node had may be nobody's now. Kept, a node that goes from one to the next fills the store.
    return replace(edit, remembered={**stale(content.edited(edit)), **edit.remembered})


def removal(content: Content, nodes: Collection[str]) -> Edit:
    """The edit that ends the registration of `nodes`; those that are not registered are left out."""
    gone = dict.fromkeys(node for node in nodes if node in content.registered)
    if not gone:
        return Edit()
    return Edit(registered=gone, remembered=stale(content.edited(Edit(registered=gone))))


def readiness(content: Content, node: str, ready: bool) -> Edit:
    """The edit that says whether a registered app takes requests."""
    present = content.registered.get(node)
    if present is None or present.ready == ready:
        return Edit()
    changed = replace(present, ready=ready)
    return Edit(registered={node: changed})


def _ports(info: WorkloadInfo) -> tuple[ServicePort, ...]:
    known = ", ".join(protocol.value for protocol in Protocol)
    for port in info.ports:
        if port.protocol not in set(Protocol):
            raise ValueError(f"port {port.port}: protocol {grammar.shown(port.protocol)} is not known (known: {known})")
    return tuple(ServicePort(port.port, Protocol(port.protocol)) for port in info.ports)


def _check_applied(content: Content, workload: Workload) -> None:
    """A registered Workload counts before an applied one of its name: it must be of the same service."""
    applied = content.user.get(f"Workload/{workload.namespace}/{workload.name}")
    body = None if applied is None else applied.body
    if isinstance(body, Workload) and body.service != workload.service:
        raise HelloRefused(
            f"node id {workload.name} in namespace {workload.namespace} is that of an applied Workload of service "
            f"{body.service}",
            "choose another node.id, or delete that Workload",
            final=False,
        )


def _check_version(content: Content, workload: Workload) -> None:
    """`orders-eu-v1` is the name of one service, also version `eu-v1` of `orders`: the first has it.

    Otherwise a workload could have itself sent what is meant for another service, by the version that it says it has.
    """
    if not workload.version:
        return
    key = version_service(ServiceKey(workload.namespace, workload.service), workload.version)
    known = content.remembered.get(key)
    taken = known is not None and known.version_of != workload.service
    for each in content.workloads():
        if taken:
            break
        if each.namespace == workload.namespace and each.service != workload.service:
            taken = key.name in (each.service, f"{each.service}-{each.version}")
    if taken:
        raise HelloRefused(
            f"version {workload.version} of {workload.service} would be {key.name}, which is taken by another service",
            "name the version otherwise",
        )


def _check_room(content: Content, workload: Workload) -> None:
    if len(content.registered) >= MAX_WORKLOADS:
        raise HelloRefused(
            f"{MAX_WORKLOADS} workloads are registered, as many as fit", "use a second mesh", final=False
        )
    siblings = [
        each
        for each in content.registered.values()
        if (each.namespace, each.service) == (workload.namespace, workload.service)
    ]
    if len(siblings) >= MAX_OF_SERVICE:
        raise HelloRefused(
            f"{workload.service} has {MAX_OF_SERVICE} workloads, as many as fit", "split the service", final=False
        )
    versions = {each.version for each in siblings}
    if workload.version not in versions and len(versions) >= MAX_VERSIONS:
        raise HelloRefused(
            f"{workload.service} has {MAX_VERSIONS} versions at once, as many as fit", "end old versions", final=False
        )
