"""`faults` of a TrafficPolicy: what is done to tries on purpose; document <-> model."""

import re

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.config.policy.headers import encode_headers, parse_headers
from sidecar.model.clusters import ServiceKey
from sidecar.model.faults import InjectedFault

MAX_FAULTS = 16  # looked through for each try
_CALLER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ACTS = ("delay", "abort", "reset")


def parse_faults(node: Node) -> tuple[InjectedFault, ...]:
    """Each with what it does, and to which tries."""
    items = node.items()
    if len(items) > MAX_FAULTS:
        node.complain(f"has {len(items)} members; at most {MAX_FAULTS} are allowed")
    return tuple(_fault(item) for item in items)


def _fault(node: Node) -> InjectedFault:
    got = node.fields("percent", "tries", "headers", "callers", *_ACTS)
    if not any(act in got for act in _ACTS):
        node.complain("does nothing; give delay, abort or reset")
    if "abort" in got and "reset" in got:
        node.at("reset").complain_at_key("cannot be together with abort: the connection is lost, or it answers")
    return InjectedFault(
        percent=got.maybe("percent", lambda field: field.number(0, 100), 100.0),
        tries=got.maybe("tries", lambda field: field.integer(1, 100), 0),
        headers=got.maybe("headers", parse_headers, ()),
        callers=got.maybe("callers", _callers, frozenset()),
        delay_s=got.maybe("delay", Node.seconds, 0.0),
        status=got.maybe("abort", lambda field: field.integer(400, 599), 0),
        reset=got.maybe("reset", _true, False),
    )


def _true(node: Node) -> bool:
    if node.boolean() is False:
        node.complain("is false; give true, or leave the field out")
    return True


def _callers(node: Node) -> frozenset[ServiceKey]:
    return frozenset(item.parsed(_caller, ServiceKey("", ""), 127) for item in node.items(at_least=1))


def _caller(text: str) -> ServiceKey:
    if not _CALLER.fullmatch(text):
        raise ValueError(f"{grammar.shown(text)} is not a service's full name such as frontend.shop")
    name, _, namespace = text.partition(".")
    return ServiceKey(namespace, name)


def encode_faults(faults: tuple[InjectedFault, ...]) -> list[Json]:
    """What `parse_faults` reads."""
    return [_encode(fault) for fault in faults]


def _encode(fault: InjectedFault) -> dict[str, Json]:
    made: dict[str, Json] = {"percent": fault.percent}
    if fault.tries:
        made["tries"] = fault.tries
    if fault.headers:
        made["headers"] = encode_headers(fault.headers)
    if fault.callers:
        made["callers"] = [*sorted(map(str, fault.callers))]
    if fault.delay_s:
        made["delay"] = grammar.format_duration(fault.delay_s)
    if fault.status:
        made["abort"] = fault.status
    if fault.reset:
        made["reset"] = True
    return made
