"""`meshctl validate`: every problem in files of resources, offline, with the same code that the control plane uses."""

import sys
from typing import TYPE_CHECKING

import typer

from control_plane.cli.commands.options import FilesOption
from control_plane.cli.complaint import FINDINGS, Complaint
from control_plane.cli.files import Text, read

if TYPE_CHECKING:
    from sidecar.config.problems import Problems


def validate(files: FilesOption) -> None:
    """Say every problem in files of resources, offline.

    Status 1 for problems; 79 when all that was found are doubts, such as a route to a service that is in none of the
    files: sidecars may register it. `meshctl apply --dry-run` asks the control plane, which knows.
    """
    texts = read(files)
    names, problems = examine(texts)
    for line in problems.lines():
        print(line, file=sys.stderr)
    if problems.errors:
        count = len(problems.errors) + problems.left_out
        raise Complaint(f"{count} {'problem' if count == 1 else 'problems'}; nothing was sent anywhere")
    for line in problems.warning_lines():
        print(f"warning: {line}", file=sys.stderr)
    where = texts[0].name if len(texts) == 1 else f"{len(texts)} files"
    print(f"{where}: {len(names)} {'resource' if len(names) == 1 else 'resources'} ok")
    if problems.warnings:
        raise typer.Exit(FINDINGS)


def examine(texts: list[Text]) -> "tuple[list[str], Problems]":
    """Names of the good resources in `texts`, and what is wrong with the others or doubtful.

    A reference to a service that is in no file is a doubt: sidecars register services by themselves.
    """
    from sidecar.config.check import check_references
    from sidecar.config.problems import Problems
    from sidecar.config.resources import complain_of_repeats, read_documents

    problems = Problems()
    parsed = [document for text in texts for document in read_documents(text.content, text.name, problems)]
    complain_of_repeats(parsed)
    if not problems.errors:  # what a broken document names cannot be missed
        check_references(parsed, problems, complete=False)
    return [document.name for document in parsed], problems
