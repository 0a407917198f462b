"""What users type to name things: services in every spelling that works elsewhere in the mesh, and kinds.

Pure. Refuses what cannot be a name before it travels, with the nearest known word where there is one.
"""

import difflib

from control_plane.cli.complaint import USAGE, Complaint
from sidecar.config.grammar import parse_label, parse_subdomain
from sidecar.model.clusters import ServiceKey

DEFAULT_NAMESPACE = "default"

# Kind -> what people type for it, beside the kind itself in any case.
KINDS: dict[str, tuple[str, ...]] = {
    "Service": ("services", "svc"),
    "Workload": ("workloads", "wl"),
    "HTTPRoute": ("httproutes", "route", "routes"),
    "GRPCRoute": ("grpcroutes",),
    "TLSRoute": ("tlsroutes",),
    "TCPRoute": ("tcproutes",),
    "TrafficPolicy": ("trafficpolicies", "tp"),
    "AuthorizationPolicy": ("authorizationpolicies", "authz", "ap"),
    "MeshPolicy": ("meshpolicies", "mp"),
    "Endpoints": ("ep",),
}

_TAILS = (".svc.cluster.local", ".svc", ".mesh")


def kind_of(text: str) -> str:
    """The kind that `text` means: `HTTPRoute` for `httproute`, `httproutes`, `route`.

    Raises:
        Complaint: Status 2, with the nearest word or all kinds.
    """
    wanted = text.lower()
    words = {alias: kind for kind, aliases in KINDS.items() for alias in (kind.lower(), *aliases)}
    if wanted in words:
        return words[wanted]
    near = difflib.get_close_matches(wanted, words, n=1)
    hint = f"did you mean {words[near[0]]}?" if near else f"kinds: {', '.join(KINDS)}"
    raise Complaint(f"unknown kind {text!r}", hint=hint, status=USAGE)


def service_key(text: str, namespace: str | None) -> ServiceKey:
    """The service that `text` names: `orders`, `orders.shop`, `shop/orders`, `orders.shop.svc.cluster.local`.

    Args:
        namespace: What `-n` said, or None. Must not contradict a namespace in `text`.

    Raises:
        Complaint: Status 2; not a name, or two namespaces.
    """
    plain = text.removesuffix(".")
    for tail in _TAILS:
        plain = plain.removesuffix(tail)
    if "/" in plain:
        within, _, name = plain.partition("/")
    else:
        name, _, within = plain.partition(".")
    if within and namespace is not None and within != namespace:
        raise Complaint(
            f"{text!r} lies in namespace {within}, but -n says {namespace}", hint="leave one out", status=USAGE
        )
    key = ServiceKey(within or namespace or DEFAULT_NAMESPACE, name)
    separated = "/" in plain or "." in plain
    try:
        parse_label(key.name)
        parse_label(key.namespace)
        if separated and not within:
            raise ValueError("a namespace is missing")
    except ValueError as exc:
        hint = "write orders, orders.shop or shop/orders"
        raise Complaint(f"{text!r} is not the name of a service", hint=hint, status=USAGE) from exc
    return key


def checked_name(text: str, what: str) -> str:
    """`text`, if it can be the name of a resource (labels with dots between).

    Raises:
        Complaint: Status 2.
    """
    try:
        return parse_subdomain(text)
    except ValueError as exc:
        raise Complaint(
            f"{text!r} cannot be the name of a {what}",
            hint="lower-case letters, digits, hyphens and dots; at most 63 characters between dots",
            status=USAGE,
        ) from exc
