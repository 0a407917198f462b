"""`meshctl`: the mesh from a terminal. Puts the commands together; every failure ends here as a line and a status.

Starts quickly: httpx2, rich, PyYAML and cryptography are imported by the commands that need them, when they run.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import sidecar
from control_plane.cli.arguments import hoisted
from control_plane.cli.commands import certs, explain, health, resources, sim, tokens, traffic, validate
from control_plane.cli.complaint import run
from control_plane.cli.session import DEFAULT_SERVER, Session

EPILOG = (
    "Answers go to stdout, everything else to stderr. Status: 0 good, 1 failed, 2 wrong words (unknown names and two "
    "candidates included), 3 timed out, 79 findings."
)
# Options of meshctl itself; users write them after the command as often as before it. True: takes a value.
GLOBAL_OPTIONS = {"--server": True, "--token-file": True, "--debug": False}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def meshctl(
    context: typer.Context,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help=f"The control plane (MESHCTL_SERVER; {DEFAULT_SERVER}).")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its API token (MESHCTL_TOKEN_FILE; ./mesh-data/api.token)."),
    ] = None,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version of meshctl.")] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of failures.")] = False,
) -> None:
    """Look at and change a service mesh."""
    if show_version:
        print(f"meshctl {sidecar.__version__}")
        raise typer.Exit
    context.obj = Session(server, token_file)


app.command("check")(health.check)
app.command("status")(health.status)
app.command("apply")(resources.apply)
app.command("validate")(validate.validate)
app.command("sim")(sim.sim)
app.command("get")(resources.get)
app.command("delete")(resources.delete)
app.add_typer(traffic.app, name="traffic")
app.add_typer(explain.app, name="explain")
app.add_typer(certs.app, name="cert")
app.add_typer(tokens.app, name="token")
app.command("version")(health.version)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run meshctl; return the exit status."""
    given = hoisted(sys.argv[1:] if arguments is None else arguments, GLOBAL_OPTIONS)
    return run(lambda: app(given, prog_name="meshctl"), debug="--debug" in given)


if __name__ == "__main__":
    sys.exit(main())
