"""`meshctl apply`, `get`, `delete`: the resources of the mesh, as their authors wrote them."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from control_plane.cli.client import Client, path
from control_plane.cli.commands.options import (
    DryRunOption,
    FilesOption,
    NamespaceOption,
    TimeoutOption,
    WaitOption,
    client_of,
    wait_bound,
)
from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.files import Bundle, read
from control_plane.cli.names import DEFAULT_NAMESPACE, KINDS, checked_name, kind_of
from control_plane.cli.output import Column, Json, Output, OutputOption, clean, print_json, print_yaml, show
from control_plane.cli.waiting import wait_for_revision

COLUMNS = (
    Column("NAMESPACE"),
    Column("NAME", fold=True),
    Column("SUMMARY", fold=True),
    Column("ORIGIN"),
    Column("REVISION", right=True),
    Column("KIND", wide=True),
)
KindArgument = Annotated[str, typer.Argument(metavar="KIND[/NS/NAME]", help=f"{', '.join(KINDS)}; in any case.")]
NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="NAME or NS/NAME.")]


def apply(
    context: typer.Context,
    files: FilesOption,
    dry_run: DryRunOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "60s",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check resources and store them, all or nothing.

    Problems come as file:line:column, all at once.
    """
    bundle, timeout_s = Bundle.of(read(files)), wait_bound(timeout)
    body = {"documents": bundle.text, "source": bundle.source, "dry_run": dry_run}
    with client_of(context) as client:
        try:
            got = client.post("/v1/apply", body)
        except Complaint as complaint:
            raise bundle.retold(complaint) from complaint
        for line in got["warnings"]:
            print(f"warning: {clean(bundle.translated(line))}", file=sys.stderr)
        if wait and not dry_run and got["changed"]:
            wait_for_revision(client, got["revision"], timeout_s)
    print_changes(got, "would change" if dry_run else "applied", output)


def delete(
    context: typer.Context,
    kind: KindArgument,
    name: NameArgument = None,
    namespace: NamespaceOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "60s",
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete one resource.

    For example: delete httproute orders -n shop, or delete HTTPRoute/shop/orders.
    """
    kind, within, plain = place_of(kind, name, namespace)
    if plain is None:
        raise Complaint(f"which {kind} is to be deleted?", hint=f"meshctl get {kind} -o name lists them", status=USAGE)
    timeout_s = wait_bound(timeout)
    where = path("resources", kind, within or DEFAULT_NAMESPACE, plain)
    with client_of(context) as client:
        got = client.call("DELETE", where, params={"dry_run": "true"} if dry_run else None)
        if wait and not dry_run:
            wait_for_revision(client, got["revision"], timeout_s)
    print_changes(got, "would be deleted" if dry_run else "deleted", output)


def get(
    context: typer.Context,
    kind: KindArgument,
    name: NameArgument = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show resources of a kind, or one of them.

    Without -n those of every namespace. What -o yaml prints can be applied again.
    """
    kind, within, plain = place_of(kind, name, namespace)
    with client_of(context) as client:
        if plain is not None and within is not None:
            found = [client.get(path("resources", kind, within, plain))]
        else:
            found = _listed(client, kind, within)
    if plain is not None:
        found = [_only(found, kind, plain)]
    _print_resources(found, output, single=plain is not None, empty=f"no {kind} in {within or 'any namespace'}")


def place_of(kind: str, name: str | None, namespace: str | None) -> tuple[str, str | None, str | None]:
    """Kind, namespace and name of `route orders -n shop`, `route shop/orders`, `HTTPRoute/shop/orders`.

    Raises:
        Complaint: Status 2; unknown kind, not a name, or two namespaces.
    """
    if "/" in kind and name is None:
        kind, _, name = kind.partition("/")
    full = kind_of(kind)
    if name is None:
        return full, checked_name(namespace, "namespace") if namespace else None, None
    within, slash, plain = name.rpartition("/")
    if slash and namespace is not None and within != namespace:
        raise Complaint(
            f"{name!r} lies in namespace {within}, but -n says {namespace}", hint="leave one out", status=USAGE
        )
    place = within or namespace
    return full, checked_name(place, "namespace") if place else None, checked_name(plain, full)


def _listed(client: Client, kind: str, namespace: str | None) -> list[Json]:
    asked = {"kind": kind, "namespace": namespace} if namespace else {"kind": kind}
    found: list[Json] = client.get("/v1/resources", asked)["resources"]
    return found


def _only(found: Sequence[Json], kind: str, name: str) -> Json:
    """The one resource called `name`. Raises Complaint, status 2, for none and for several."""
    called = [row for row in found if row["name"].rpartition("/")[2] == name]
    if len(called) == 1:
        return called[0]
    if called:
        names = [row["name"] for row in called]
        raise Complaint(f"{len(names)} resources fit {kind} {name}", details=names, hint="add -n", status=USAGE)
    raise Complaint(f"there is no {kind} {name}", hint=f"meshctl get {kind} lists what is there", status=USAGE)


def _print_resources(found: Sequence[Json], output: Output, *, single: bool, empty: str) -> None:
    documents = [row["document"] for row in found]
    if output is Output.YAML:
        print_yaml(documents)
        return
    if output is Output.JSON:
        print_json(documents[0] if single else {"items": documents})
        return
    rows = []
    for row in found:
        kind, namespace, name = row["name"].split("/", 2)
        rows.append([namespace, name, summary(row["document"]), row["origin"], str(row["version"]), kind])
    show(output, COLUMNS, rows, document=documents, names=[row["name"] for row in found], empty=empty)


def print_changes(got: Json, verb: str, output: Output) -> None:
    """The answer of commands that change resources: a line each, as `kubectl` prints them."""
    if output is Output.JSON or output is Output.YAML:
        show(output, (), [], document=got, names=[])
        return
    for name in got["changed"]:
        print(name if output is Output.NAME else f"{name} {verb}")
    for name in got["unchanged"]:
        print(name if output is Output.NAME else f"{name} unchanged")


def summary(document: Json) -> str:
    """What a resource says, in a few words; "" for what is not understood."""
    spec = document.get("spec") or {}
    try:
        return _SUMMARIES.get(str(document.get("kind")), lambda _: "")(spec)
    except (AttributeError, TypeError, KeyError, ValueError):
        return ""  # a newer control plane's form: the other columns are still worth printing


def _ports(spec: Json) -> str:
    return ", ".join(
        f"{port['port']}/{port.get('protocol') or port.get('appProtocol') or 'auto'}" for port in spec["ports"]
    )


def _route(spec: Json) -> str:
    parts = []
    for rule in spec.get("rules", []):
        backends = rule.get("backendRefs", [])
        redirects = any(each.get("type") == "RequestRedirect" for each in rule.get("filters", []))
        nothing = "redirect" if redirects else "no backend"
        parts.append(", ".join(f"{backend['name']}={backend.get('weight', 1)}" for backend in backends) or nothing)
    return "; ".join(parts)


def _targets(spec: Json) -> str:
    return ", ".join(f"{target['kind']} {target['name']}" for target in spec.get("targetRefs", []))


def _access(spec: Json) -> str:
    callers = [caller for rule in spec.get("allow", []) for names in rule.get("from", {}).values() for caller in names]
    return f"{_targets(spec)} from {', '.join(callers) or 'nobody'}"


def _endpoints(spec: Json) -> str:
    endpoints = spec.get("endpoints", [])
    ready = sum(bool(endpoint.get("ready", True)) for endpoint in endpoints)
    return f"{ready} of {len(endpoints)} ready"


_SUMMARIES = {
    "Service": _ports,
    "Workload": lambda spec: f"{spec['service']} at {spec['address']}:{_ports(spec)}",
    "HTTPRoute": _route,
    "GRPCRoute": _route,
    "TLSRoute": lambda spec: f"{', '.join(spec['hostnames'])}: {_route(spec)}",
    "TCPRoute": _route,
    "TrafficPolicy": _targets,
    "AuthorizationPolicy": _access,
    "Endpoints": _endpoints,
}
