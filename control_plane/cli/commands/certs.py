"""`meshctl cert inspect`, `rotate`: who is who, until when, and new certificates for everybody."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.certificates import read_pem
from control_plane.cli.client import Client
from control_plane.cli.commands.options import TimeoutOption, WaitOption, client_of, seconds, wait_bound
from control_plane.cli.complaint import FINDINGS, TIMED_OUT, USAGE, Complaint
from control_plane.cli.output import Column, Json, Output, OutputOption, clean, show, span, state_style
from control_plane.cli.waiting import progress

app = typer.Typer(no_args_is_help=True, help="Certificates of the mesh.")

COLUMNS = (
    Column("KIND"),
    Column("IDENTITY", fold=True),
    Column("UNTIL"),
    Column("LEFT", right=True, style=state_style),
    Column("SINCE", wide=True),
    Column("SUBJECT", wide=True),
    Column("ISSUER", wide=True),
    Column("KEY", wide=True),
    Column("SERIAL", wide=True),
)
LOOK_S = 1.0  # between two looks at who has a new certificate; sidecars report every 2 s


@app.command("inspect")
def inspect(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A PEM file; none: ask the control plane.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the certificates in a PEM file, or those of the mesh.

    A FILE is read offline; without one the control plane is asked.

    Status 79 when one of them is not valid now, or may not stand for a workload.
    """
    if file is not None:
        rows, notes = read_pem(file)
        document: Json = {"rows": rows}
    else:
        with client_of(context) as client:
            document = client.get("/v1/certs")
        rows, notes = document["rows"], []
    now_s = time.time()
    names = [row["spiffe_id"] or row["name"] for row in rows]
    show(output, COLUMNS, [cells(row, now_s) for row in rows], document=document, names=names)
    for row in rows:
        if row.get("problem"):
            notes.append(f"{row['spiffe_id'] or row['name']} {row['problem']}")
    for note in notes:
        print(clean(note), file=sys.stderr)
    if any(row.get("problem") or not valid_at(row, now_s) for row in rows):
        raise typer.Exit(FINDINGS)


def valid_at(row: Json, now_s: float) -> bool:
    """Whether a certificate's time includes `now_s`."""
    return bool((row["not_before_s"] or 0.0) <= now_s < row["not_after_s"])


def cells(row: Json, now_s: float) -> list[str]:
    """The cells of one certificate, in the order of COLUMNS."""
    if valid_at(row, now_s):
        left = span(row["not_after_s"] - now_s)
    else:
        left = "EXPIRED" if now_s >= row["not_after_s"] else "not yet"
    return [
        row["kind"],
        row["spiffe_id"] or row["name"],
        _moment(row["not_after_s"]),
        left,
        _moment(row["not_before_s"]),
        row["name"],
        row.get("issuer", "-"),
        row.get("key", "-"),
        row.get("serial", "-"),
    ]


def _moment(unix_s: float | None) -> str:
    return "-" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M}Z"


@app.command("rotate")
def rotate(
    context: typer.Context,
    spread: Annotated[str, typer.Option(metavar="TIME", help="Over how long the renewals are spread.")] = "30s",
    wait: WaitOption = False,
    timeout: TimeoutOption = "90s",
    output: OutputOption = Output.TABLE,
) -> None:
    """Give every connected sidecar a new certificate.

    Connections in use are kept; new ones use the new one.
    """
    spread_s, timeout_s = seconds(spread, "--spread"), wait_bound(timeout)
    if spread_s > 3600:
        raise Complaint(f"--spread: {spread!r} is more than an hour", status=USAGE)
    with client_of(context) as client:
        before = _ends(client) if wait else {}
        got = client.post("/v1/certs/rotate", {"spread_s": spread_s})
        if wait:
            _wait_for_new(client, before, timeout_s)
    if output in (Output.JSON, Output.YAML):
        show(output, (), [], document=got, names=[])
    else:
        done = "renewed" if wait else f"asked to renew within {spread_s:g} s"
        print(f"{got['asked']} {'sidecar' if got['asked'] == 1 else 'sidecars'} {done}")


def _ends(client: Client) -> dict[str, float]:
    """The end of each connected sidecar's certificate."""
    rows = client.get("/v1/status")["sidecars"]
    return {row["node"]: row["cert_not_after_s"] or 0.0 for row in rows if row["connected"]}


def _wait_for_new(client: Client, before: dict[str, float], timeout_s: float) -> None:
    """Return when every sidecar of `before` reports a later end or has left. Raises Complaint, status 3, when late."""
    ends_s = time.monotonic() + timeout_s
    with progress("sidecars renewed") as tell:
        while True:
            now = _ends(client)
            waiting = [node for node, end_s in before.items() if node in now and now[node] <= end_s]
            tell(len(before) - len(waiting), len(before))
            left_s = ends_s - time.monotonic()
            if not waiting or left_s <= 0:
                break
            time.sleep(min(LOOK_S, left_s))
    if waiting:
        raise Complaint(
            f"not every sidecar has a new certificate after {timeout_s:g} s",
            details=[f"waiting for {node}" for node in waiting],
            hint="they go on trying; meshctl status shows the time their certificates have left",
            status=TIMED_OUT,
        )
