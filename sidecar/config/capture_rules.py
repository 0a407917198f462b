"""What to capture -> the nftables rules that do it, as the text that `nft -f -` takes in one transaction.

One table of our own, `inet sidecar_mesh`, for IPv4 and IPv6. The text first makes the table, so that deleting it cannot
fail, then deletes it, then makes it anew: the kernel applies all or nothing, twice is like once, and no packet meets
half of it. Removing is the first two lines. `app/capture.py` runs it.

Only TCP is looked at (DNS over UDP stays as it is), and only the first packet of a connection: a kernel that has not
tracked connections before takes the middle of an established one for a new one, and would redirect it.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from sidecar.config.capture import landing, merged
from sidecar.model.bootstrap import INBOUND_LISTEN, METRICS_LISTEN, OUTBOUND_LISTEN, Bootstrap, InboundPort
from sidecar.model.capture import EVERY_PORT, InboundCapture, OutboundCapture, PortRange

TABLE = "inet sidecar_mesh"
REMOVE = f"table {TABLE}\ndelete table {TABLE}\n"
# Just before everybody else's destination NAT (-100): the address that the app dialled is what names the service, not
# what a load balancer in the kernel made of it. After connection tracking (-200), without which nothing is redirected.
_PRIORITY = -110
_NOT_OURS = (
    "meta l4proto != tcp accept",
    "tcp flags & (fin | syn | rst | ack) != syn accept",
)


@dataclass(frozen=True, slots=True)
class Landing:
    """The port that redirected connections go to, by family; None: that family is not captured."""

    ipv4: int | None = None
    ipv6: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePlan:
    """Everything that the rules say.

    Attributes:
        outbound, inbound: None: that direction is not captured.
        own_ports: Ports of the sidecar that others reach directly: peers the inbound port, scrapers the metrics.
        app_ports: Ports where the sidecar dials the app at an address other than loopback; see `_self_calls`.
    """

    outbound: OutboundCapture | None = None
    outbound_to: Landing = Landing(OUTBOUND_LISTEN.port, OUTBOUND_LISTEN.port)
    inbound: InboundCapture | None = None
    inbound_to: Landing = Landing(INBOUND_LISTEN.port, INBOUND_LISTEN.port)
    own_ports: tuple[int, ...] = (INBOUND_LISTEN.port, METRICS_LISTEN.port)
    app_ports: tuple[int, ...] = field(default=())


def plan_of(bootstrap: Bootstrap) -> CapturePlan:
    """What a bootstrap file captures; ports to listen on come from its listeners."""
    inbound, outbound = bootstrap.inbound, bootstrap.outbound
    captured = inbound.capture if inbound is not None else None
    declared = inbound.ports if inbound is not None else ()
    if captured is not None and not captured.only_ports:
        captured = replace(captured, only_ports=merged(PortRange(port.port, port.port) for port in declared))
    listen = inbound.listen if inbound is not None else ()
    return CapturePlan(
        outbound=outbound.capture,
        outbound_to=Landing(*landing(outbound.listen, outbound=True)),
        inbound=captured,
        inbound_to=Landing(*landing(listen, outbound=False)),
        own_ports=tuple(sorted({port for _, port in (*listen, bootstrap.metrics.listen) if port})),
        app_ports=tuple(sorted({port.app.port for port in declared if not _on_loopback(port)})),
    )


def problems(plan: CapturePlan) -> list[str]:
    """What makes a plan unusable, each as a sentence that names the flag."""
    found = []
    outbound = plan.outbound
    if outbound is None and plan.inbound is None:
        found.append("nothing is to be captured")
    if outbound is not None:
        own = (outbound.proxy_uid, outbound.proxy_gid)
        if own == (None, None) and not (outbound.only.uids or outbound.only.gids):
            found.append(
                "which connections are the sidecar's own? give --proxy-uid with the user that it runs as, "
                "or name the users to capture with --only-uid"
            )
        if outbound.proxy_uid in outbound.only.uids or outbound.proxy_gid in outbound.only.gids:
            found.append("the sidecar's own user must not be among the captured ones")
        if plan.outbound_to == Landing():
            found.append("no listener takes outgoing connections")
    if plan.inbound is not None:
        if not plan.inbound.only_ports:
            found.append("no port to capture incoming connections of; give --include-inbound-ports")
        if plan.inbound_to == Landing():
            found.append("no listener takes incoming connections")
    return found


def ruleset(plan: CapturePlan) -> str:
    """The text for `nft -f -`; replaces whatever an earlier one made. `problems(plan)` must be empty."""
    chains = []
    if plan.outbound is not None:
        chains.append(_chain("outbound", "output", _outbound(plan, plan.outbound)))
    if plan.inbound is not None:
        chains.append(_chain("inbound", "prerouting", _inbound(plan, plan.inbound)))
    return REMOVE + f"table {TABLE} {{\n" + "\n".join(chains) + "}\n"


def _chain(name: str, hook: str, rules: Iterable[str]) -> str:
    lines = [f"\t\ttype nat hook {hook} priority {_PRIORITY}; policy accept;"]
    lines += [f"\t\t{rule}" for rule in chain(_NOT_OURS, rules)]
    return f"\tchain {name} {{\n" + "\n".join(lines) + "\n\t}\n"


def _outbound(plan: CapturePlan, capture: OutboundCapture) -> list[str]:
    """`accept` leaves a connection alone; what no rule names is redirected at the end."""
    only, skip = capture.only, capture.skip
    rules = _self_calls(plan, capture)
    # What stays on this machine: the app's own address, 127.0.0.1, the sidecar's admin port.
    rules.append('oif "lo" accept')
    rules += [f"{owner} accept" for owner in _own(capture)]
    if skip.uids:
        rules.append(f"meta skuid {_set(skip.uids)} accept")
    if skip.gids:
        rules.append(f"meta skgid {_set(skip.gids)} accept")
    chosen = [f"meta skuid != {_set(only.uids)}"] if only.uids else []
    chosen += [f"meta skgid != {_set(only.gids)}"] if only.gids else []
    if chosen:
        rules.append(" ".join([*chosen, "accept"]))  # one of the users, or one of the groups
    rules += _ports(only.ports, skip.ports)
    rules += [f"{match} accept" for match in _networks(skip.cidrs, "==")]
    rules += [f"{match} accept" for match in _networks(only.cidrs, "!=")] if only.cidrs else []
    return rules + _redirect(plan.outbound_to)


def _inbound(plan: CapturePlan, capture: InboundCapture) -> list[str]:
    rules = [
        'iif "lo" accept',
        "fib daddr type != local accept",  # what this machine only forwards is not for the app
        f"tcp dport {_set(plan.own_ports)} accept" if plan.own_ports else "",
        *_ports(capture.only_ports, capture.skip_ports),
    ]
    return [rule for rule in rules if rule] + _redirect(plan.inbound_to)


def _self_calls(plan: CapturePlan, capture: OutboundCapture) -> list[str]:
    """The sidecar calls its own service: such a call enters through the inbound side like anybody's.

    Only for ports that are captured by name: the sidecar also dials control plane and collector, which may be on this
    machine. Not where the app itself is dialled at an address of this machine: that would come back for ever.
    """
    inbound = plan.inbound
    if inbound is None or inbound.only_ports == EVERY_PORT:
        return []
    left_out = merged([*inbound.skip_ports, *(PortRange(port, port) for port in (*plan.own_ports, *plan.app_ports))])
    ports = f"tcp dport {_set(inbound.only_ports)} tcp dport != {_set(left_out)}"
    return [
        f'oif "lo" {owner} {elsewhere} {ports} redirect to :{port}'
        for owner in _own(capture)
        for elsewhere, port in (
            ("ip daddr != 127.0.0.0/8", plan.inbound_to.ipv4),
            ("ip6 daddr != ::1", plan.inbound_to.ipv6),
        )
        if port is not None
    ]


def _own(capture: OutboundCapture) -> list[str]:
    made = [] if capture.proxy_uid is None else [f"meta skuid {capture.proxy_uid}"]
    return made if capture.proxy_gid is None else [*made, f"meta skgid {capture.proxy_gid}"]


def _ports(only: tuple[PortRange, ...], skip: tuple[PortRange, ...]) -> list[str]:
    rules = [f"tcp dport {_set(merged(skip))} accept"] if skip else []
    if only and only != EVERY_PORT:
        rules.append(f"tcp dport != {_set(merged(only))} accept")
    return rules


def _networks(cidrs: Iterable[str], operator: str) -> list[str]:
    """Matches for addresses inside (`==`) or outside (`!=`) the networks, one for each family."""
    cidrs = list(cidrs)
    ipv4 = ipaddress.collapse_addresses(ipaddress.IPv4Network(cidr) for cidr in cidrs if ":" not in cidr)
    ipv6 = ipaddress.collapse_addresses(ipaddress.IPv6Network(cidr) for cidr in cidrs if ":" in cidr)
    matches = []
    for version, name, mine in ((4, "ip", list(map(str, ipv4))), (6, "ip6", list(map(str, ipv6)))):
        everything = any(one.endswith("/0") for one in mine)
        if (everything and operator == "==") or (not mine and operator == "!="):
            matches.append(f"meta nfproto ipv{version}")
        elif mine and not everything:
            matches.append(f"{name} daddr {'!= ' if operator == '!=' else ''}{_set(mine)}")
    return matches


def _redirect(to: Landing) -> list[str]:
    return [
        f"meta nfproto {family} meta l4proto tcp redirect to :{port}"
        for family, port in (("ipv4", to.ipv4), ("ipv6", to.ipv6))
        if port is not None
    ]


def _set(members: Iterable[object]) -> str:
    return "{ " + ", ".join(map(str, members)) + " }"


def _on_loopback(port: InboundPort) -> bool:
    host = port.app.host
    return host in ("localhost", "::1") or host.startswith("127.")
