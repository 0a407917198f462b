"""Options that several commands share, spelled once."""

from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.client import Client
from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.names import DEFAULT_NAMESPACE
from control_plane.cli.session import Session
from sidecar.config.grammar import parse_duration

LONGEST_WAIT_S = 86_400.0

NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", help=f"Namespace (default: {DEFAULT_NAMESPACE})."),
]
FilesOption = Annotated[
    list[Path],
    typer.Option("--file", "-f", metavar="FILE|DIR|-", help="File, folder of YAML files, or - for stdin; repeatable."),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when every sidecar that uses it has taken it.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="TIME", help="How long --wait waits: 60, 90s, 2m (status 3 after that).")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]


def client_of(context: typer.Context) -> Client:
    """A client of the control plane that the global options chose."""
    session = context.obj
    assert isinstance(session, Session)
    return session.client()


def seconds(text: str, option: str) -> float:
    """The seconds of `90`, `90s`, `1m30s`.

    Raises:
        Complaint: Status 2, naming `option`.
    """
    try:
        value = float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else parse_duration(text)
    except ValueError as exc:
        raise Complaint(f"{option}: {exc}", status=USAGE) from exc
    return value


def wait_bound(text: str) -> float:
    """The seconds of `--timeout`, at most a day."""
    value = seconds(text, "--timeout")
    if value > LONGEST_WAIT_S:
        raise Complaint(f"--timeout: {text!r} is more than a day", status=USAGE)
    return value
