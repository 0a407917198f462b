"""`sidecar capture print|apply|remove`: flags and bootstrap file -> a plan of what to capture -> the kernel.

The flags have the names that users of Istio and Linkerd look for. Rules are made in `config/capture_rules.py` and
carried out by `app/capture.py`; here is only who says what: a flag wins over the file, exclusions add up.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sidecar.config.capture_rules import CapturePlan
    from sidecar.model.capture import InboundCapture, OutboundCapture, PortRange

GOOD, USAGE = 0, 2
T = TypeVar("T")


def add_to(main: click.Group, end: Callable[[Callable[[], int]], None]) -> None:
    """Add the group to the `sidecar` command. `end` runs a command, prints its expected failures, and exits."""

    @main.group()
    def capture() -> None:
        """Send a service's TCP traffic through its sidecar, by nftables rules; the service does not notice.

        \b
        Outgoing connections, but for the sidecar's own:  sidecar capture apply --proxy-uid 65532
        As the bootstrap file says, both directions:      sidecar capture apply -c sidecar.yaml --proxy-uid 65532
        See the rules first (needs no privileges):        sidecar capture print -c sidecar.yaml --proxy-uid 65532
        Take them away again, all of them:                sidecar capture remove

        The rules are those of the network namespace that the command runs in. They hold for new connections. UDP, and
        so most DNS, is never touched, nor is what stays on loopback. `apply` and `remove` need root or NET_ADMIN.

        Exit status: done 0, failed 1 (nothing was changed), usage or unreadable file 2.
        """

    @capture.command("print")
    @_selecting
    def print_(**flags: Any) -> None:  # noqa: ANN401 - click hands over what the options make
        """Print the rules that `apply` would set, for `nft -f -`."""
        end(lambda: _with_plan(_print, flags))

    @capture.command()
    @_selecting
    def apply(**flags: Any) -> None:  # noqa: ANN401 - as above
        """Set the rules, in place of those of an earlier `apply`, in one transaction."""
        end(lambda: _with_plan(_apply, flags))

    @capture.command()
    def remove() -> None:
        """Take away whatever `apply` set; nothing else is touched. Captured connections that are still up are cut."""
        end(_remove)


def _with_plan(act: "Callable[[CapturePlan], int]", flags: dict[str, Any]) -> int:
    try:
        plan = _plan(**flags)
    except click.UsageError as refusal:
        print(f"sidecar capture: {refusal.format_message()} (sidecar capture apply --help)", file=sys.stderr)
        return USAGE
    return act(plan)


def _print(plan: "CapturePlan") -> int:
    from sidecar.config.capture_rules import ruleset

    print(ruleset(plan), end="")
    return GOOD


def _apply(plan: "CapturePlan") -> int:
    from sidecar.app.capture import transact
    from sidecar.config.capture_rules import TABLE, ruleset

    transact(ruleset(plan))
    captured = " and ".join(
        name for name, side in (("outgoing", plan.outbound), ("incoming", plan.inbound)) if side is not None
    )
    print(f"{captured} TCP connections are captured from now on (table {TABLE})", file=sys.stderr)
    return GOOD


def _remove() -> int:
    from sidecar.app.capture import transact
    from sidecar.config.capture_rules import REMOVE, TABLE

    transact(REMOVE)
    print(f"nothing is captured any more (table {TABLE} is gone)", file=sys.stderr)
    return GOOD


def _parsed(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """An option's callback: text, or several, in one of the small languages of the bootstrap file."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:  # noqa: ANN401 - click's
        try:
            if isinstance(value, tuple):
                return tuple(parse(text) for text in value)
            return None if value is None else parse(value)
        except ValueError as refusal:
            raise click.BadParameter(str(refusal)) from None

    return callback


def _ports(text: str) -> "tuple[PortRange, ...]":
    from sidecar.config.capture import parse_ports

    return parse_ports(text)


def _cidrs(text: str) -> tuple[str, ...]:
    """Networks separated by commas; `*` is every one of both families."""
    from sidecar.config.capture import parse_cidr

    return ("0.0.0.0/0", "::/0") if text == "*" else tuple(parse_cidr(part.strip()) for part in text.split(","))


def _uid(text: str) -> int:
    from sidecar.app.capture import user_id

    return user_id(text)


def _gid(text: str) -> int:
    from sidecar.app.capture import group_id

    return group_id(text)


_PORTS: dict[str, Any] = {"metavar": "PORTS", "callback": _parsed(_ports)}
_CIDRS: dict[str, Any] = {"metavar": "CIDRS", "callback": _parsed(_cidrs)}
_UIDS: dict[str, Any] = {"metavar": "USER", "callback": _parsed(_uid), "multiple": True}
_GIDS: dict[str, Any] = {"metavar": "GROUP", "callback": _parsed(_gid), "multiple": True}
_OPTIONS = (
    click.option(
        *("-c", "--config"),
        type=click.Path(path_type=Path),
        help="Bootstrap file: its listeners, declared ports, inbound.capture and outbound.capture.",
    ),
    click.option(
        "--proxy-uid",
        metavar="USER",
        callback=_parsed(_uid),
        help="The user that the sidecar runs as, number or name; its connections are never captured.",
    ),
    click.option(
        "--proxy-gid",
        metavar="GROUP",
        callback=_parsed(_gid),
        help="The group that it runs as, where that is distinct.",
    ),
    click.option(
        "--outbound-port", type=click.IntRange(1, 65_535), help="Port of the outbound listener, without -c; 15001."
    ),
    click.option(
        "--inbound-port", type=click.IntRange(1, 65_535), help="Port of the inbound listener, without -c; 15006."
    ),
    click.option("--only-uid", **_UIDS, help="Capture connections of this user only; may be repeated."),
    click.option("--only-gid", **_GIDS, help="Capture connections of this group only; may be repeated."),
    click.option("--exclude-uid", "--skip-uid", **_UIDS, help="Leave this user's connections alone; may be repeated."),
    click.option("--exclude-gid", "--skip-gid", **_GIDS, help="Leave this group's connections alone; may be repeated."),
    click.option(
        "--include-outbound-ports",
        **_PORTS,
        help="Capture connections to these ports only: 80,443,8000-8100; * is all.",
    ),
    click.option(
        *("--exclude-outbound-ports", "--skip-outbound-ports"), **_PORTS, help="Leave connections to these ports alone."
    ),
    click.option(
        *("--include-outbound-cidrs", "--include-outbound-ip-ranges"),
        **_CIDRS,
        help="Capture connections to these networks only: 10.0.0.0/8,fd00::/8; * is all.",
    ),
    click.option(
        *("--exclude-outbound-cidrs", "--exclude-outbound-ip-ranges", "--skip-subnets"),
        **_CIDRS,
        help="Leave connections to these networks alone.",
    ),
    click.option(
        "--include-inbound-ports",
        **_PORTS,
        help="Capture connections to these ports of the app; default: with -c the declared ones, else none; * is all.",
    ),
    click.option(
        *("--exclude-inbound-ports", "--skip-inbound-ports"),
        **_PORTS,
        help="Leave connections to these ports of the app alone.",
    ),
    click.option("--no-outbound", is_flag=True, help="Do not capture what goes out."),
    click.option("--no-inbound", is_flag=True, help="Do not capture what comes in."),
    click.option("--no-ipv6", is_flag=True, help="Capture IPv4 only."),
)


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is captured."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _plan(*, config: Path | None, no_outbound: bool, no_inbound: bool, no_ipv6: bool, **flags: Any) -> "CapturePlan":  # noqa: ANN401
    """What is to be captured. Raises click.UsageError."""
    from sidecar.config.capture_rules import problems

    plan = _plan_of_flags(flags) if config is None else _plan_of_file(config, flags)
    outbound = None if no_outbound or plan.outbound is None else _outbound(plan.outbound, flags)
    inbound = None if no_inbound or plan.inbound is None else _inbound(plan.inbound, flags)
    plan = replace(plan, outbound=outbound, inbound=inbound)
    if no_ipv6:
        plan = replace(
            plan,
            outbound_to=replace(plan.outbound_to, ipv6=None),
            inbound_to=replace(plan.inbound_to, ipv6=None),
        )
    found = problems(plan)
    if found:
        raise click.UsageError("; ".join(found))
    return plan


def _plan_of_flags(flags: dict[str, Any]) -> "CapturePlan":
    from sidecar.config.capture_rules import CapturePlan, Landing
    from sidecar.model.bootstrap import INBOUND_LISTEN, METRICS_LISTEN, OUTBOUND_LISTEN
    from sidecar.model.capture import InboundCapture, OutboundCapture

    outbound_port = flags["outbound_port"] or OUTBOUND_LISTEN.port
    inbound_port = flags["inbound_port"] or INBOUND_LISTEN.port
    return CapturePlan(
        outbound=OutboundCapture(),
        outbound_to=Landing(outbound_port, outbound_port),
        inbound=InboundCapture() if flags["include_inbound_ports"] else None,
        inbound_to=Landing(inbound_port, inbound_port),
        own_ports=(inbound_port, METRICS_LISTEN.port),
    )


def _plan_of_file(config: Path, flags: dict[str, Any]) -> "CapturePlan":
    """The file's plan. A side that the file does not capture cannot be captured by flags: nobody would serve it."""
    from sidecar.config.capture_rules import plan_of
    from sidecar.config.files import load_bootstrap

    if flags["outbound_port"] or flags["inbound_port"]:
        raise click.UsageError("--outbound-port and --inbound-port are for going without a file; -c has the listeners")
    bootstrap, warnings = load_bootstrap(config, os.environ)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    plan = plan_of(bootstrap)
    for side, captured in (("outbound", plan.outbound), ("inbound", plan.inbound)):
        given = [name for name in flags if side in name and flags[name]]
        if captured is None and given:
            raise click.UsageError(
                f"--{given[0].replace('_', '-')}: {config} does not say {side}.capture, so the sidecar would not know "
                f"what to do with captured connections; write {side}: {{capture: true}}"
            )
    if plan.outbound is None and plan.inbound is None:
        raise click.UsageError(f"{config} captures nothing; write capture: true under outbound, inbound or both")
    return plan


def _outbound(capture: "OutboundCapture", flags: dict[str, Any]) -> "OutboundCapture":
    only, skip = capture.only, capture.skip
    chosen = bool(flags["only_uid"] or flags["only_gid"])
    return replace(
        capture,
        proxy_uid=capture.proxy_uid if flags["proxy_uid"] is None else flags["proxy_uid"],
        proxy_gid=capture.proxy_gid if flags["proxy_gid"] is None else flags["proxy_gid"],
        only=replace(
            only,
            uids=flags["only_uid"] if chosen else only.uids,
            gids=flags["only_gid"] if chosen else only.gids,
            ports=flags["include_outbound_ports"] or only.ports,
            cidrs=flags["include_outbound_cidrs"] or only.cidrs,
        ),
        skip=replace(
            skip,
            uids=skip.uids + flags["exclude_uid"],
            gids=skip.gids + flags["exclude_gid"],
            ports=skip.ports + (flags["exclude_outbound_ports"] or ()),
            cidrs=skip.cidrs + (flags["exclude_outbound_cidrs"] or ()),
        ),
    )


def _inbound(capture: "InboundCapture", flags: dict[str, Any]) -> "InboundCapture":
    return replace(
        capture,
        only_ports=flags["include_inbound_ports"] or capture.only_ports,
        skip_ports=capture.skip_ports + (flags["exclude_inbound_ports"] or ()),
    )
