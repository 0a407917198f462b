"""`control-plane serve`: the process of the control plane, from its settings to its clean end.

Opens the API's port first, so that a port in use is said before anything is touched; then `facade.run` opens the store
and the sidecar streams. What a user did wrong is one line and a hint; a traceback is shown with `--debug` only.
"""

import ipaddress
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sidecar
from control_plane.cli.arguments import hoisted
from control_plane.cli.complaint import USAGE, Complaint, leaves, run
from control_plane.cli.serve_file import ServeFile, checked_address, checked_trust_domain, parse_serve_file
from control_plane.settings import ServeConfig, to_stderr
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    import socket

MOST_FILE_BYTES = 1024 * 1024

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What to serve: the file's values, with what the flags change."""

    file: ServeFile
    data: Path
    debug: bool = False


@app.callback(invoke_without_command=True)
def control_plane(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of failures.")] = False,
) -> None:
    """The control plane of a service mesh: registry, identities, configuration, API."""
    context.obj = debug
    if version:
        print(f"control-plane {sidecar.__version__}")
        raise typer.Exit


@app.command("serve")
def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", metavar="FILE", help="Settings; flags win over them.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Store, trust domain and API token (./mesh-data).")
    ] = None,
    api: Annotated[
        str | None, typer.Option(metavar="ADDR", help="The API (127.0.0.1:15010; port 0 picks one).")
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="ADDR", help="The sidecar streams (127.0.0.1:15012).")] = None,
    trust_domain: Annotated[
        str | None, typer.Option(metavar="TD", help="Made at the first start (mesh.local).")
    ] = None,
) -> None:
    """Run the control plane until SIGTERM or Ctrl-C.

    Prints `listening NAME ADDRESS` on stderr for each port. The data folder is made when it is missing; losing it
    means a new trust domain, so keep it. The API's token is in DIR/api.token.
    """
    settings = replace(chosen(config, data, api, listen, trust_domain), debug=bool(context.obj))
    with _bound(settings.file.api) as listener:
        _warn_of_clear_text(listener)
        try:
            _run(settings, listener)
        except (Exception, BaseExceptionGroup) as exc:
            complaint = explained(exc, settings.file.streams)
            if complaint is None:
                raise
            raise complaint from exc


def chosen(
    config: Path | None, data: Path | None, api: str | None, listen: str | None, trust_domain: str | None
) -> Settings:
    """The settings of a file and flags.

    Raises:
        Complaint: Status 2 for flags and a file that cannot be read; 1 for what stands in the file.
    """
    file = ServeFile() if config is None else _read(config)
    folder = Path(file.data) if config is None else config.parent / file.data
    if api is not None:
        file = replace(file, api=_flag("--api", api, checked_address))
    if listen is not None:
        file = replace(file, streams=_flag("--listen", listen, checked_address))
    if trust_domain is not None:
        file = replace(file, trust_domain=_flag("--trust-domain", trust_domain, checked_trust_domain))
    return Settings(file, data if data is not None else folder)


def _flag(name: str, text: str, check: Callable[[str], str]) -> str:
    try:
        return check(text)
    except ValueError as exc:
        raise Complaint(f"{name}: {exc}", status=USAGE) from exc


def _read(path: Path) -> ServeFile:
    try:
        with path.open("rb") as opened:
            text = opened.read(MOST_FILE_BYTES + 1).decode("utf-8")
        return parse_serve_file(text, str(path))
    except OSError as exc:
        raise Complaint(f"cannot read {path}: {(exc.strerror or '').lower()}", status=USAGE) from exc
    except UnicodeDecodeError as exc:
        raise Complaint(f"{path} is not UTF-8 (byte {exc.start})", status=USAGE) from exc
    except ConfigError as exc:
        raise Complaint(f"{path} cannot be used", details=exc.problems) from exc


def _bound(address: str) -> "socket.socket":
    from control_plane.api.listen import ListenError, bind

    try:
        return bind(address)
    except ListenError as exc:
        raise Complaint(str(exc), hint="choose another with --api HOST:PORT (port 0 picks one)") from exc


def _warn_of_clear_text(listener: "socket.socket") -> None:
    host = listener.getsockname()[0]
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        to_stderr(
            f"warning: the API on {host} is not encrypted, and neither is its token; put TLS or a tunnel before it"
        )


def _run(settings: Settings, listener: "socket.socket") -> None:
    import trio

    from control_plane.api.listen import address_of
    from sidecar.transport.listen import allow_open_files

    file = settings.file
    config = ServeConfig(
        data=settings.data,
        stream=file.streams,
        api=address_of(listener),
        trust_domain=file.trust_domain,
        certificate_s=file.certificate_life_s,
    )
    allow_open_files(2 * config.max_sessions)
    trio.run(_serve, config, settings, listener)


async def _serve(config: ServeConfig, settings: Settings, listener: "socket.socket") -> None:
    """Serve until a signal comes; the API ends before the streams, so that no answer is cut off."""
    import trio

    from control_plane import facade
    from control_plane.api import token
    from control_plane.api.guard import Guard, Limits
    from control_plane.api.listen import serve as serve_api
    from control_plane.api.routes import Routes

    stop = trio.Event()
    async with trio.open_nursery() as whole:
        async with trio.open_nursery() as door:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                plane = await whole.start(facade.run, config)
                guard = Guard(
                    Routes(plane, Limits()).application(),
                    token=token.load_or_create(config.data),
                    hosts=frozenset(settings.file.hosts),
                    open_paths=frozenset({"/metrics"} if settings.file.open_metrics else ()),
                    report=partial(_report, settings.debug),
                )
                await door.start(partial(serve_api, guard, listener, stop.wait))
                to_stderr(f"listening api {config.api}")
                to_stderr(f"ready: trust domain {config.trust_domain}, API token in {config.data / token.FILE_NAME}")
                await anext(aiter(signals))
            # From here a second signal ends the process at once, as signals do.
            to_stderr("stopping")
            stop.set()
        whole.cancel_scope.cancel()


def _report(debug: bool, request: str, exc: Exception) -> None:
    """One line for whoever runs the control plane; the client learns nothing of it."""
    frames = traceback.extract_tb(leaves(exc)[0].__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    to_stderr(f"error: {request} failed: {type(exc).__name__}: {exc}{place}")
    if debug:
        to_stderr("".join(traceback.format_exception(exc)).rstrip())


def explained(exc: BaseException, streams: str) -> Complaint | None:
    """What a user can mend, as a complaint; None for everything else, which is a bug.

    Args:
        streams: The address of the sidecar streams, which an OSError may be about.
    """
    from certs.ca import TrustDomainError
    from control_plane.api.token import TokenError
    from control_plane.store.contract import StoreError

    leaf = leaves(exc)[0]
    if isinstance(leaf, TrustDomainError | TokenError | StoreError):
        return Complaint(str(leaf))
    if isinstance(leaf, OSError) and leaf.strerror:
        hint = "choose another address with --listen HOST:PORT (port 0 picks one)" if leaf.filename == streams else ""
        where = f"{leaf.filename}: " if leaf.filename else ""
        return Complaint(f"{where}{leaf.strerror.lower()}", hint=hint)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run control-plane; return the exit status."""
    given = hoisted(sys.argv[1:] if arguments is None else arguments, {"--debug": False})
    return run(lambda: app(given, prog_name="control-plane"), debug="--debug" in given)


if __name__ == "__main__":
    sys.exit(main())
