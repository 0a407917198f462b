"""`outbound.capture` and `inbound.capture` of the bootstrap file: text -> `model/capture.py`.

Checks that somebody listens where redirected connections land. The same small languages serve the flags of `sidecar
capture`: ports as `80,443,8000-8100`, networks as `10.0.0.0/8`. Rules are made of it in `capture_rules.py`.
"""

import ipaddress
import re
from collections.abc import Iterable

from sidecar.config.grammar import shown
from sidecar.config.node import Node
from sidecar.model.bootstrap import Bootstrap, HostPort
from sidecar.model.capture import EVERY_PORT, InboundCapture, OutboundCapture, PortRange, Selection

MAX_UID = 2**32 - 2  # the highest is the kernel's "nobody in particular"
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_ON_IPV4 = ("0.0.0.0", "127.0.0.1", "localhost", "::")  # noqa: S104 - compared; "::" takes IPv4 too
_ON_IPV6 = ("::", "::1")


def parse_port_range(text: str) -> PortRange:
    """`80`, or `8000-8100`."""
    match = _PORTS.fullmatch(text)
    if match is not None:
        first, last = int(match[1]), int(match[2] or match[1])
        if 1 <= first <= last <= 65_535:
            return PortRange(first, last)
    raise ValueError(f"{shown(text)} is not a port or a range of ports such as 80 or 8000-8100 (1 to 65535)")


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """`80,443,8000-8100`, or `*` for all."""
    if text == "*":
        return EVERY_PORT
    return merged(parse_port_range(part.strip()) for part in text.split(","))


def parse_cidr(text: str) -> str:
    """A network such as `10.0.0.0/8` or `fd00::/8`, or one address; no bits beyond the prefix."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as refusal:
        reason = "it has bits beyond its prefix" if "host bits" in str(refusal) else "such as 10.0.0.0/8 or fd00::/8"
        raise ValueError(f"{shown(text)} is not a network: {reason}") from None


def merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in order, none twice: the kernel takes no overlapping ranges."""
    made: list[PortRange] = []
    for first, last in sorted(ranges):
        if made and first <= made[-1].last + 1:
            made[-1] = PortRange(made[-1].first, max(last, made[-1].last))
        else:
            made.append(PortRange(first, last))
    return tuple(made)


def read_outbound(node: Node) -> OutboundCapture | None:
    """`true`, `false`, or a mapping that says whom and what."""
    if not isinstance(node.value, dict):
        return OutboundCapture() if node.boolean() else None
    got = node.fields("proxyUid", "proxyGid", "only", "skip")
    made = OutboundCapture(
        proxy_uid=got.maybe("proxyUid", _id, None),
        proxy_gid=got.maybe("proxyGid", _id, None),
        only=got.maybe("only", _selection, Selection()),
        skip=got.maybe("skip", _selection, Selection()),
    )
    for name, own, chosen in (
        ("proxyUid", made.proxy_uid, made.only.uids),
        ("proxyGid", made.proxy_gid, made.only.gids),
    ):
        if own is not None and own in chosen:
            node.at(name).complain(f"{own} is captured by `only`; the sidecar's own connections must not be")
    return made


def read_inbound(node: Node) -> InboundCapture | None:
    """`true` for the declared ports, `false`, or a mapping that says which ports."""
    if not isinstance(node.value, dict):
        return InboundCapture() if node.boolean() else None
    got = node.fields("only", "skip")
    return InboundCapture(
        only_ports=got.maybe("only", _ports_of, ()),
        skip_ports=got.maybe("skip", _ports_of, ()),
    )


def _ports_of(node: Node) -> tuple[PortRange, ...]:
    return node.fields("ports").maybe("ports", _ports, ())


def _selection(node: Node) -> Selection:
    got = node.fields("uids", "gids", "ports", "cidrs")
    return Selection(
        uids=got.maybe("uids", _ids, ()),
        gids=got.maybe("gids", _ids, ()),
        ports=got.maybe("ports", _ports, ()),
        cidrs=got.maybe("cidrs", lambda field: tuple(item.parsed(parse_cidr, "") for item in field.items()), ()),
    )


def _id(node: Node) -> int:
    return node.integer(0, MAX_UID)


def _ids(node: Node) -> tuple[int, ...]:
    return tuple(_id(item) for item in node.items())


def _ports(node: Node) -> tuple[PortRange, ...]:
    """A list of ports and ranges, or `"*"`."""
    if node.value == "*":
        return EVERY_PORT
    return merged(map(_port, node.items()))


def _port(node: Node) -> PortRange:
    if isinstance(node.value, str):
        return node.parsed(parse_port_range, PortRange(1, 1), 11)
    number = node.port()
    return PortRange(number, number)


def landing(listeners: Iterable[HostPort], *, outbound: bool) -> tuple[int | None, int | None]:
    """Ports of the listeners that redirected IPv4 and IPv6 connections land on; None where nobody listens.

    Args:
        outbound: The kernel sends redirected outgoing connections to 127.0.0.1 and ::1. Incoming ones (False) come to
            the address of the interface, which only a listener on every address hears.
    """
    listeners = list(listeners)

    def first(hosts: tuple[str, ...]) -> int | None:
        return next((listener.port for listener in listeners if listener.host in hosts and listener.port), None)

    if outbound:
        return first(_ON_IPV4), first(_ON_IPV6)
    return first((_ON_IPV4[0], "::")), first(("::",))


def check_capture(bootstrap: Bootstrap, root: Node) -> None:
    """Complain when redirected connections would find nobody."""
    inbound, outbound = bootstrap.inbound, bootstrap.outbound
    if outbound.capture is not None:
        node, where = root.at("outbound", "listen"), "127.0.0.1 and [::1]"
        _check_landing(node, "outgoing", where, landing(outbound.listen, outbound=True))
    if inbound is not None and inbound.capture is not None:
        node, where = root.at("inbound", "listen"), "0.0.0.0 and [::]"
        _check_landing(node, "incoming", where, landing(inbound.listen, outbound=False))


def _check_landing(node: Node, which: str, where: str, ports: tuple[int | None, int | None]) -> None:
    if ports == (None, None):
        node.complain(f"captured {which} connections need a listener with a fixed port on {where}")
    for port, family, host in zip(ports, ("IPv4", "IPv6"), where.split(" and "), strict=True):
        if port is None and ports != (None, None):
            node.warn(f"{which} {family} connections are not captured: no listener with a fixed port is on {host}")


def own_traffic_problem(capture: OutboundCapture, uid: int, gid: int) -> str:
    """Why a sidecar that runs as `uid` and `gid` would capture itself by the file's own rules; "" when it would not.

    Says nothing when the file does not tell users apart: then the flags of `sidecar capture` did.
    """
    own = _naming(capture.proxy_uid, "proxyUid") + _naming(capture.proxy_gid, "proxyGid")
    only = capture.only
    if uid == capture.proxy_uid or gid == capture.proxy_gid or uid in capture.skip.uids or gid in capture.skip.gids:
        return ""
    if only.uids or only.gids:
        if uid not in only.uids and gid not in only.gids:
            return ""
    elif not own:
        return ""
    return (
        f"outbound.capture: this sidecar runs as uid {uid}, gid {gid}, and its own connections would be captured "
        f"({', '.join(own) or 'they are in `only`'}); run it as that user, or write the user that it runs as"
    )


def _naming(value: int | None, name: str) -> list[str]:
    return [] if value is None else [f"{name} is {value}"]
