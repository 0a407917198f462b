"""`meshctl token create`: the join file with which a new sidecar makes itself known."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.commands.options import client_of, seconds
from control_plane.cli.complaint import FAILED, USAGE, Complaint
from control_plane.cli.names import service_key
from control_plane.cli.output import span
from sidecar.config.grammar import parse_label

MOST_USES = 1_000  # as the control plane allows
LONGEST_S = 30 * 86_400.0

app = typer.Typer(no_args_is_help=True, help="First contact of new sidecars.")


@app.callback()
def tokens() -> None:
    """First contact of new sidecars."""


@app.command("create")
def create(
    context: typer.Context,
    service: Annotated[str, typer.Option("--service", "-s", help="The service that the sidecar may serve.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", metavar="NS", help="Its namespace.")] = None,
    account: Annotated[str, typer.Option(help="The account of its identity (default: the service's name).")] = "",
    uses: Annotated[int, typer.Option(min=1, max=MOST_USES, help="How many sidecars may join with it.")] = 1,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it can be used: 10m, 1h, 48h.")] = "1h",
    file: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where to write it, 0600.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Make a token and write the join file: the root certificate and the token, to be handed to one sidecar.

    Without -o the file goes to stdout. It is a secret until it is used up or expired; it is not kept anywhere else.
    """
    key = service_key(service, namespace)
    if account:
        try:
            parse_label(account)
        except ValueError as exc:
            raise Complaint(f"--account: {exc}", status=USAGE) from exc
    ttl_s = seconds(ttl, "--ttl")
    if not 1.0 <= ttl_s <= LONGEST_S:
        raise Complaint(f"--ttl: {ttl!r} is not between 1s and 720h (30 days)", status=USAGE)
    body = {
        "service": key.name,
        "namespace": key.namespace,
        "account": account,
        "uses": uses,
        "ttl_s": ttl_s,
    }
    if file is not None:
        _may_write(file, force)  # before a token is made that nobody could use
    with client_of(context) as client:
        made = client.post("/v1/tokens", body)
    left = span(round(made["expires_s"] - time.time()))
    use = "once" if uses == 1 else f"{uses} times"
    if file is None:
        print(made["join_file"], end="" if made["join_file"].endswith("\n") else "\n")
    else:
        write_secret(file, made["join_file"], force)
        print(file)
    print(f"for {key}: may be used {use} in the next {left}", file=sys.stderr)


def _may_write(file: Path, force: bool) -> None:
    if file.exists() and not force:
        raise Complaint(f"{file} is there already", hint="name another file, or replace it with --force", status=USAGE)
    if not file.parent.is_dir():
        raise Complaint(f"the folder {file.parent} is not there", status=USAGE)


def write_secret(file: Path, text: str, force: bool) -> None:
    """Write `text` to `file`, mode 0600 from its first byte; never through a link, never over a file without `force`.

    Raises:
        Complaint: Status 1; there, or not writable.
    """
    try:
        if force:
            file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as exc:
        raise Complaint(f"cannot write {file}: {(exc.strerror or '').lower()}", status=FAILED) from exc
