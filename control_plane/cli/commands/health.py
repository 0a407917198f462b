"""`meshctl check`, `status`, `version`: is the mesh well, does every sidecar have what it should, who is who."""

import sys
import time
from typing import Annotated

import typer

import sidecar
from control_plane.cli.commands.options import client_of
from control_plane.cli.complaint import FINDINGS, Complaint
from control_plane.cli.output import (
    Column,
    Json,
    Output,
    OutputOption,
    clean,
    coloured,
    show,
    span,
    state_style,
)

STATUS_COLUMNS = (
    Column("NODE", fold=True),
    Column("SERVICE", fold=True),
    Column("VERSION"),
    Column("CONFIG", right=True),
    Column("STATE", style=state_style),
    Column("READY"),
    Column("AGE", right=True),
    Column("CERT", right=True, style=state_style),
    Column("ADDRESS", wide=True),
    Column("ACCOUNT", wide=True),
    Column("LEASE", wide=True, right=True),
    Column("SIDECAR", wide=True),
)


def check(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Say what is wrong with the mesh, and what to do.

    Status 0 when all is well, 79 when something is not, 1 when the control plane cannot be asked.
    """
    with client_of(context) as client:
        server = client.server
        try:
            version = client.get("/v1/version")
        except Complaint as complaint:
            _print_groups([("control plane", [_line(f"answers at {server}", False, str(complaint.message))])], output)
            raise Complaint("the mesh cannot be checked", hint=complaint.hint, status=complaint.status) from complaint
        own = [_line(f"answers at {server} and accepts the token", True)]
        same = version["version"] == sidecar.__version__
        cause = f"it is {version['version']}, this command is {sidecar.__version__}"
        own.append(_line("has the version of this command", same, "" if same else cause, "install the same version"))
        lines = client.get("/v1/check")["lines"]
    groups = [("control plane", own), ("mesh", lines)]
    _print_groups(groups, output)
    failing = sum(not line["ok"] for _, lines in groups for line in lines)
    if failing:
        raise typer.Exit(FINDINGS)


def _line(what: str, ok: bool, cause: str = "", hint: str = "") -> Json:
    return {"what": what, "ok": ok, "cause": cause, "hint": "" if ok else hint}


def _print_groups(groups: list[tuple[str, list[Json]]], output: Output) -> None:
    if output not in (Output.TABLE, Output.WIDE):
        rows = [{"group": name, **line} for name, lines in groups for line in lines]
        columns = [Column("GROUP"), Column("WHAT"), Column("STATE")]
        names = [f"{'ok' if row['ok'] else 'failed'} {row['what']}" for row in rows]
        show(output, columns, [], document={"lines": rows}, names=names)
        return
    for place, (name, lines) in enumerate(groups):
        if place:
            print()
        print(coloured(name, "bold"))
        for line in lines:
            word = "ok" if line["ok"] else "failed"
            print(f"  {coloured(word.ljust(6), state_style(word))}  {clean(line['what'])}")
            if not line["ok"] and line["cause"]:
                print(f"          {clean(line['cause'])}")
            if not line["ok"] and line["hint"]:
                print(f"          hint: {clean(line['hint'])}")


def status(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show every sidecar and what it has taken or rejected.

    CONFIG is the revision that a sidecar has, and the one that it should have if that is another (41/42); AGE how old
    its configuration is; CERT the time its certificate has left.

    STATE: SYNCED, STALE (not taken yet), REJECTED (reasons below), HELD (gone, but too many went at once), GONE.
    """
    with client_of(context) as client:
        got = client.get("/v1/status")
    now_s = time.time()
    for row in got["sidecars"]:
        row["state"] = state_of(row)
    show(
        output,
        STATUS_COLUMNS,
        [status_cells(row, now_s) for row in got["sidecars"]],
        document=got,
        names=[row["node"] for row in got["sidecars"]],
        empty="no sidecar has ever joined (meshctl token create makes a join file for one)",
    )
    if output in (Output.TABLE, Output.WIDE):
        _print_rejections(got["sidecars"])


def state_of(row: Json) -> str:
    """One word for how a sidecar's configuration stands."""
    if not row["connected"]:
        return "HELD" if row["held"] else "GONE"
    if row["rejected"]:
        return "REJECTED"
    return "SYNCED" if row["in_sync"] else "STALE"


def status_cells(row: Json, now_s: float) -> list[str]:
    """The cells of one sidecar, in the order of STATUS_COLUMNS."""
    ends_s = row["cert_not_after_s"]
    left_s = None if ends_s is None else ends_s - now_s
    return [
        row["node"],
        row["service"],
        row["version"] or "-",
        str(row["latest"]) if row["applied"] == row["latest"] else f"{row['applied']}/{row['latest']}",
        state_of(row),
        ("yes" if row["ready"] else "no") if row["registered"] and row["connected"] else "-",
        span(row["config_age_s"] if row["connected"] else None),
        "EXPIRED" if left_s is not None and left_s <= 0 else span(left_s),
        row["address"] or "-",
        row["account"],
        span(row["lease_left_s"]),
        row["sidecar_version"] or "-",
    ]


def _print_rejections(rows: list[Json]) -> None:
    rejected = [line for row in rows for line in row["rejected"]]
    if rejected:
        print()
        print(coloured("rejected (the last good version stays in use)", "bold"))
    for line in rejected:
        print(f"  {clean(line['node'])}: {clean(line['name'])} at {line['version']}: {clean(line['reason'])}")


def version(
    context: typer.Context,
    output: OutputOption = Output.TABLE,
    client_only: Annotated[bool, typer.Option("--client", help="Do not ask the control plane.")] = False,
) -> None:
    """Show the versions of this command and of the control plane.

    Status 0 also when the control plane is away.
    """
    document: Json = {"meshctl": sidecar.__version__, "control_plane": None}
    away = ""
    if not client_only:
        try:
            with client_of(context) as client:
                document["control_plane"] = client.get("/v1/version")
        except Complaint as complaint:
            away = complaint.message
    if output not in (Output.TABLE, Output.WIDE):
        show(output, (), [], document=document, names=[sidecar.__version__])
    else:
        print(f"meshctl        {sidecar.__version__}")
        if plane := document["control_plane"]:
            domain, revision = plane["trust_domain"], plane["revision"]
            print(f"control plane  {plane['version']} (trust domain {domain}, revision {revision})")
    if away:
        print(away, file=sys.stderr)
