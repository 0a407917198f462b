"""What only several sections of a bootstrap file together can get wrong.

Skipped while a section has an error of its own, so that one mistake is one line.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.config.capture import check_capture
from sidecar.config.check import Ports, listed
from sidecar.config.node import Node
from sidecar.model.bootstrap import Bootstrap, HostPort, MtlsMode

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


class _Listener(NamedTuple):
    """An address that this process will bind; `node` is None for a default."""

    path: str
    node: Node | None
    address: HostPort


def check_bootstrap(bootstrap: Bootstrap, root: Node) -> None:
    """Complain about sections that contradict or need each other."""
    if root.source.problems.count == 0:
        _check_sources(bootstrap, root)
        _check_addresses(bootstrap, root)
        check_capture(bootstrap, root)


def check_upstreams(bootstrap: Bootstrap, root: Node, services: Ports) -> None:
    """Complain about upstreams that a static folder does not have; there, nothing else can come."""
    for index, upstream in enumerate(bootstrap.outbound.upstreams):
        node = root.at("outbound", "upstreams", index)
        ports = services.get(upstream.service)
        if ports is None:
            known = listed([str(key) for key in sorted(services)], str(upstream.service))
            node.at("service").complain(f"no such Service {upstream.service} in the static folder ({known})")
        elif upstream.port not in ports:
            declared = ", ".join(map(str, sorted(ports))) or "none"
            node.at("port").complain(f"Service {upstream.service} has no port {upstream.port} (declared: {declared})")


def _check_sources(bootstrap: Bootstrap, root: Node) -> None:
    """There is one source of configuration, and an identity where one is needed."""
    central, static, inbound = bootstrap.control_plane, bootstrap.static, bootstrap.inbound
    if central is not None and static is not None:
        root.at("static").complain_at_key("configuration comes from control_plane or from static, not from both")
    if central is None and static is None:
        root.complain("where does configuration come from? give control_plane or static")
    if root.find("node") is None and (central is not None or inbound is not None):
        root.complain("field 'node' is missing (who this sidecar is, such as node: {service: orders})")
    if central is not None and central.join_file is None and bootstrap.identity is None:
        root.at("control_plane").warn(
            "neither join_file nor identity is given: only a cache of an earlier run can say who this sidecar is"
        )
    if inbound is None or central is not None or bootstrap.identity is not None or inbound.mtls is MtlsMode.OFF:
        return
    root.at("inbound", "mtls").complain(
        f"mtls: {inbound.mtls.value} needs a certificate; give identity or control_plane, or write mtls: off"
    )


def _check_addresses(bootstrap: Bootstrap, root: Node) -> None:
    """No two listeners want one address, and no app is one of our own listeners."""
    # Defaults first, so that the file's own lines are blamed.
    found = sorted(_listeners(bootstrap, root), key=lambda listener: listener.node is not None)
    listeners = [listener for listener in found if listener.address.port]
    for index, listener in enumerate(listeners):
        taken = next((one for one in listeners[:index] if _overlap(one.address, listener.address)), None)
        if taken is not None and listener.node is not None:
            by = taken.path if taken.node is not None else f"{taken.path}, by default"
            listener.node.complain(f"{listener.address} is taken by {by} ({taken.address}); choose another port, or 0")
    inbound = bootstrap.inbound
    for index, port in enumerate(inbound.ports if inbound else ()):
        if any(_overlap(port.app, listener.address) for listener in listeners):
            node = root.find("inbound", "app") or root.at("inbound", "ports", index, "app")
            node.complain(f"{port.app} is a listener of this sidecar; give the address of the app itself")


def _listeners(bootstrap: Bootstrap, root: Node) -> Iterator[_Listener]:
    inbound, outbound = bootstrap.inbound, bootstrap.outbound
    if inbound is not None:
        yield from _listed_addresses(root, ("inbound", "listen"), inbound.listen)
    yield from _listed_addresses(root, ("outbound", "listen"), outbound.listen)
    for index, upstream in enumerate(outbound.upstreams):
        if upstream.listen is not None:
            node = root.at("outbound", "upstreams", index, "listen")
            yield _Listener(node.path, node, upstream.listen)
    if isinstance(bootstrap.admin.listen, HostPort):
        yield _Listener("admin.listen", root.find("admin", "listen"), bootstrap.admin.listen)
    yield _Listener("metrics.listen", root.find("metrics", "listen"), bootstrap.metrics.listen)


def _listed_addresses(root: Node, keys: tuple[str, str], addresses: tuple[HostPort, ...]) -> Iterator[_Listener]:
    listed_or_one = root.find(*keys)
    for index, address in enumerate(addresses):
        node = None if listed_or_one is None else listed_or_one.at(index)
        yield _Listener(".".join(keys) if node is None else node.path, node, address)


def _overlap(one: HostPort, other: HostPort) -> bool:
    if {one.host, other.host} == set(_EVERYWHERE):
        return False  # beside 0.0.0.0, [::] is bound for IPv6 alone
    same = one.host == other.host or one.host in _EVERYWHERE or other.host in _EVERYWHERE
    return one.port == other.port and same
