"""`meshctl traffic show`, `set`: how a service's requests are shared out between its versions."""

from typing import Annotated

import typer

from control_plane.cli.client import path
from control_plane.cli.commands.options import NamespaceOption, TimeoutOption, WaitOption, client_of, wait_bound
from control_plane.cli.names import service_key
from control_plane.cli.output import Column, Json, Output, OutputOption, show
from control_plane.cli.waiting import wait_for_revision
from control_plane.cli.weights import parse_weights, shares

app = typer.Typer(no_args_is_help=True, help="Show and move traffic between versions.")

COLUMNS = (
    Column("BACKEND", fold=True),
    Column("SHORT"),
    Column("PORT", right=True, wide=True),
    Column("WEIGHT", right=True),
    Column("SHARE", right=True),
)
ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="orders, orders.shop or shop/orders.")]


@app.command("show")
def show_split(
    context: typer.Context,
    service: ServiceArgument,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show which backends take which share of a service's traffic."""
    key = service_key(service, namespace)
    with client_of(context) as client:
        print_split(client.get(path("traffic", key.namespace, key.name)), output)


@app.command("set")
def set_split(
    context: typer.Context,
    service: ServiceArgument,
    weights: Annotated[list[str], typer.Argument(metavar="NAME=WEIGHT", help="v1=90 v2=10; or orders-v1=90.")],
    namespace: NamespaceOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = "60s",
    output: OutputOption = Output.TABLE,
) -> None:
    """Set weights of a service's backends; others keep theirs.

    NAME is a backend of the one route whose parent is the service, in full or without the service's name in front.
    Without a route, HTTPRoute/SERVICE is made, or TCPRoute/SERVICE where no port carries HTTP. With --wait the command
    ends when every sidecar that calls the service decides by the new weights: status 1 if one rejected them, 3 if one
    did not answer in time.
    """
    key, wanted, timeout_s = service_key(service, namespace), parse_weights(weights), wait_bound(timeout)
    with client_of(context) as client:
        got = client.post(path("traffic", key.namespace, key.name), {"weights": wanted})
        if wait:
            wait_for_revision(client, got["revision"], timeout_s)
    print_split(got, output)


def print_split(got: Json, output: Output) -> None:
    """The answer to both commands."""
    backends = got["backends"]
    parts = shares({row["name"]: row["weight"] for row in backends})
    rows = [
        [row["name"], row["label"], str(row["port"]), str(row["weight"]), f"{parts[row['name']]:.4g}%"]
        for row in backends
    ]
    service = f"{got['service']}.{got['namespace']}"
    nothing = f"no route splits the traffic of {service}: all of its endpoints take a share"
    if got["known"]:
        nothing += f" (versions: {', '.join(got['known'])})"
    show(output, COLUMNS, rows, document=got, names=[row["name"] for row in backends], empty=nothing)
