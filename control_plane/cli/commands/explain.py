"""`meshctl explain flag UH`, `meshctl explain policy retries`: the manuals of flags and of policies, offline."""

import shutil
import textwrap
from typing import Annotated

import typer

from control_plane.cli.flags import PAGES, FlagPage, facts_of, page_of
from control_plane.cli.output import Column, Json, Output, OutputOption, coloured, print_json, print_yaml, show
from control_plane.cli.policies import Field, default_of, fields_below

WIDEST_TEXT = 100  # longer lines are hard to read, however wide the terminal

app = typer.Typer(no_args_is_help=True, help="Say what a word in a log, an answer or a policy means.")


@app.command("flag")
def flag(
    name: Annotated[str | None, typer.Argument(metavar="[FLAG]", help="UH, UF, UT, ... ; none: all of them.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Explain a flag of logs, metrics and x-mesh-flags.

    What it means, usual causes, what to do. Without a name: list all. Works offline.
    """
    if name is None:
        _list_all(output)
        return
    page = page_of(name)
    if output is Output.JSON:
        print_json(as_json(page))
    elif output is Output.YAML:
        print_yaml([as_json(page)])
    elif output is Output.NAME:
        print(page.flag)
    else:
        _print_page(page)


@app.command("policy")
def policy(
    name: Annotated[
        str | None, typer.Argument(metavar="[FIELD]", help="retries, ejection.base, ...; none: all of them.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Explain the fields of a TrafficPolicy.

    What each does, its default and why, the metric that counts it, the flag that a log shows. Works offline.
    """
    columns = (
        Column("FIELD", style=lambda _: "bold"),
        Column("DEFAULT", fold=True),
        Column("WHAT", fold=True),
        Column("BECAUSE", fold=True),
        Column("SEEN AS", fold=True),
    )
    fields = fields_below(name or "")
    rows = [
        (each.name, default_of(each), each.means, each.source, f"{each.metric} {each.flag}".strip()) for each in fields
    ]
    documents = [_field_as_json(each) for each in fields]
    show(output, columns, rows, document={"fields": documents}, names=[each.name for each in fields])


def _field_as_json(field: Field) -> Json:
    return {
        "field": field.name,
        "default": default_of(field),
        "means": field.means,
        "because": field.source,
        "metric": field.metric,
        "flag": field.flag,
    }


def as_json(page: FlagPage) -> Json:
    """A page for programs."""
    facts = facts_of(page.flag)
    return {
        "flag": page.flag,
        "title": page.title,
        "statuses": list(facts.statuses),
        "blame": list(facts.sides),
        "means": page.means,
        "causes": list(page.causes),
        "do": list(page.remedies),
    }


def statuses_of(page: FlagPage) -> str:
    """The statuses that a client sees with this flag, as text."""
    seen = [str(status) for status in facts_of(page.flag).statuses if status]
    if page.flag == "URX":
        return "the last try's"
    return ", ".join(seen) or ("none" if page.flag == "DC" else "as set")


def _list_all(output: Output) -> None:
    columns = (Column("FLAG", style=lambda _: "bold"), Column("STATUS"), Column("MEANS", fold=True))
    rows = [(page.flag, statuses_of(page), page.title) for page in PAGES]
    document = [as_json(page) for page in PAGES]
    show(output, columns, rows, document={"flags": document}, names=[page.flag for page in PAGES])


def _print_page(page: FlagPage) -> None:
    facts = facts_of(page.flag)
    width = min(shutil.get_terminal_size().columns, WIDEST_TEXT)
    print(coloured(f"{page.flag}: {page.title}", "bold"))
    print(f"status: {statuses_of(page)}" + (f"; side: {', '.join(facts.sides)}" if facts.sides else ""))
    print()
    print(textwrap.fill(page.means, width))
    if facts.untouched:
        print(textwrap.fill("The service did not take the request: repeating it cannot do anything twice.", width))
    for title, lines in (("usual causes", page.causes), ("what to do", page.remedies)):
        print(f"\n{coloured(title, 'bold')}")
        for line in lines:
            print(textwrap.fill(line, width, initial_indent="  - ", subsequent_indent="    "))
