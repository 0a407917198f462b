"""The `sidecar` command: run the data plane, check a bootstrap file.

Every command returns its exit status; data goes to stdout, complaints to stderr, no traceback reaches a user. What is
heavy is imported inside the commands, so that `--help` is quick.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar import __version__
from sidecar.errors import ConfigError, UnreadableError

if TYPE_CHECKING:
    from sidecar.config.files import Loaded

FAILED, USAGE = 1, 2

app = typer.Typer(
    name="sidecar",
    help="A proxy beside one service: retries, balancing, mutual TLS, metrics, without a client library.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sidecar {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """A proxy beside one service: retries, balancing, mutual TLS, metrics, without a client library."""


@app.command()
def run(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="Bootstrap file.")] = None,
    listen: Annotated[str | None, typer.Option(help="Address to listen on, without a file: 127.0.0.1:8000.")] = None,
    to: Annotated[str | None, typer.Option(help="Where to send requests: ADDR[,ADDR...].")] = None,
    admin: Annotated[str | None, typer.Option(help="Admin address with --listen; default: a free port.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Metrics address with --listen; default: a free port.")] = None,
) -> None:
    """Run the data plane: from a bootstrap file (-c FILE), or as a one-command proxy (--listen ADDR --to ADDR)."""
    raise typer.Exit(_guarded(lambda: _run(config, listen, to, admin, metrics)))


@app.command()
def check(config: Annotated[Path, typer.Option("-c", "--config", help="Bootstrap file.")]) -> None:
    """Report every problem of a bootstrap file; opens no socket. Usable 0, unusable 1, unreadable 2, warnings 79."""
    raise typer.Exit(_guarded(lambda: _check(config)))


def main() -> None:
    """Entry point of the `sidecar` script."""
    app()


def _run(config: Path | None, listen: str | None, to: str | None, admin: str | None, metrics: str | None) -> int:
    from sidecar.app import life, quick

    if config is not None:
        if listen or to or admin or metrics:
            return _usage("-c FILE says it all; --listen, --to, --admin and --metrics are for running without a file")
        loaded = _from_file(config)
        return life.run(loaded.bootstrap, loaded.snapshot)
    if listen is None or to is None:
        return _usage("either -c FILE, or --listen ADDR with --to ADDR[,ADDR...]")
    return life.run(quick.bootstrap(listen, admin, metrics), quick.snapshot(to))


def _guarded(command: Callable[[], int]) -> int:
    """Run a command; its expected failures become lines on stderr and an exit status."""
    try:
        return command()
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return FAILED
    except UnreadableError as exc:
        print(exc, file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return FAILED


def _usage(sentence: str) -> int:
    print(f"sidecar run: {sentence} (sidecar run --help)", file=sys.stderr)
    return USAGE


def _from_file(config: Path) -> "Loaded":
    from sidecar.config.files import load

    loaded = load(config, os.environ)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded


def _check(config: Path) -> int:
    from sidecar.config import report

    status, answer, complaints = report.check(config, os.environ)
    for line in answer:
        print(line)
    for line in complaints:
        print(line, file=sys.stderr)
    return status
