"""The `sidecar` command: run the data plane, check a bootstrap file.

Every command returns its exit status; data goes to stdout, complaints to stderr, no traceback reaches a user. What is
heavy is imported inside the commands, so that `--help` is quick. click, not typer as in meshctl: typer brings pydantic
into the running process, 8 MiB that the data plane never uses.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar import __version__, cli_capture
from sidecar.errors import ConfigError, UnreadableError

if TYPE_CHECKING:
    from sidecar.config.files import Loaded

FAILED, USAGE = 1, 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sidecar", message="%(prog)s %(version)s")
def main() -> None:
    """A proxy beside one service: retries, balancing, mutual TLS and metrics without a client library.

    Try it: sidecar run --listen 127.0.0.1:8000 --to 127.0.0.1:8080
    """


@main.command(context_settings={"allow_interspersed_args": False})
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Bootstrap file.")
@click.option("--listen", metavar="ADDR", help="Listen here, without a file: 127.0.0.1:8000 or :8000.")
@click.option("--to", metavar="ADDR[,ADDR...]", help="Send requests there.")
@click.option("--admin", metavar="ADDR", help="Admin address with --listen; default: a free port on loopback.")
@click.option("--metrics", metavar="ADDR", help="Metrics address with --listen; default: a free port on loopback.")
@click.option("--take-over", is_flag=True, help="Listen beside the sidecar that has these addresses, which is to end.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    config: Path | None,
    listen: str | None,
    to: str | None,
    admin: str | None,
    metrics: str | None,
    take_over: bool,
    command: tuple[str, ...],
) -> None:
    """Run the data plane: from a file (-c FILE), or as a one-command proxy (--listen ADDR --to ADDR).

    With a command (sidecar run -c FILE -- python app.py) that service is started once the sidecar is ready, gets the
    signals after its callers were led away, and gives the exit status.

    To replace a running sidecar without losing a request: start its successor with --take-over and the same addresses,
    and send SIGTERM to the old one when the new one says that it listens. Both must be the same user's.
    """
    _end(lambda: _run(config, listen, to, admin, metrics, take_over, command))


@main.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), required=True, help="Bootstrap file.")
def check(config: Path) -> None:
    """Report every problem of a bootstrap file and its static folder; opens no socket.

    Exit status: usable 0, unusable 1, unreadable 2, usable with warnings 79.
    """
    _end(lambda: _check(config))


def _end(command: Callable[[], int]) -> None:
    """Run a command and exit with its status; its expected failures become lines on stderr."""
    try:
        status = command()
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        status = FAILED
    except UnreadableError as exc:
        print(exc, file=sys.stderr)
        status = USAGE
    except KeyboardInterrupt:
        status = FAILED
    except Exception as exc:
        # The end of the line for a bug: a user gets one sentence and a way to more, never a traceback.
        if os.environ.get("SIDECAR_DEBUG"):
            raise
        print(f"sidecar: a bug: {exc!r:.300} (SIDECAR_DEBUG=1 shows where)", file=sys.stderr)
        status = FAILED
    sys.exit(status)


cli_capture.add_to(main, _end)


def _run(
    config: Path | None,
    listen: str | None,
    to: str | None,
    admin: str | None,
    metrics: str | None,
    take_over: bool,
    command: tuple[str, ...],
) -> int:
    from dataclasses import replace

    from sidecar.app import life, quick

    if config is not None:
        if listen or to or admin or metrics:
            return _usage("-c FILE says it all; --listen, --to, --admin and --metrics are for running without a file")
        loaded = _from_file(config)
        return life.run(replace(loaded.bootstrap, take_over=take_over), loaded.snapshot, command=command)
    if listen is None or to is None:
        return _usage("either -c FILE, or --listen ADDR with --to ADDR[,ADDR...]")
    fast_path = os.environ.get("SIDECAR_FAST_PATH") != "false"  # as with a file, whose other settings have flags here
    bootstrap = replace(quick.bootstrap(listen, admin, metrics), take_over=take_over, fast_path=fast_path)
    return life.run(bootstrap, quick.snapshot(to), command=command)


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


def _usage(sentence: str) -> int:
    print(f"sidecar run: {sentence} (sidecar run --help)", file=sys.stderr)
    return USAGE
