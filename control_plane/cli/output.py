"""Answers on stdout: tables for people, JSON, YAML and names for programs. Progress never comes here.

A table fits the terminal and folds long names; `-o wide`, and every table into a pipe, is as wide as it needs, so that
`grep` and `awk` see whole lines; into a pipe there are no colours and no trailing blanks. Text that came from elsewhere
is shown without control characters: a sidecar's rejection must not paint an operator's terminal.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

WIDEST = 10_000  # columns of a table that goes into a pipe


class Output(StrEnum):
    """Forms of an answer."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.", show_choices=True)]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        wide: Shown with `-o wide` only.
        right: Numbers stand to the right.
        style: Cell text -> rich style ("red", "bold green", "").
        fold: May be broken into several lines where the terminal is narrow. A table has at least one such column.
    """

    title: str
    wide: bool = False
    right: bool = False
    style: Callable[[str], str] | None = None
    fold: bool = False


def show(
    output: Output,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    document: object,
    names: Sequence[str],
    empty: str = "",
) -> None:
    """Print one answer in the form that was asked for.

    Args:
        rows: Cells in the order of `columns`, wide ones included.
        document: What JSON and YAML show.
        names: What `-o name` shows, one a line.
        empty: What a person reads (on stderr) when there are no rows.
    """
    if output is Output.JSON:
        print_json(document)
    elif output is Output.YAML:
        print_yaml([document])
    elif output is Output.NAME:
        for name in names:
            print(clean(name))
    elif rows:
        print_table(columns, rows, wide=output is Output.WIDE)
    elif empty:
        print(empty, file=sys.stderr)


def print_json(document: object) -> None:
    """`document` as indented JSON."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_yaml(documents: Sequence[object]) -> None:
    """Each of `documents` as a YAML document; what comes out can be applied again."""
    import yaml

    print(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=WIDEST), end="")


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, wide: bool = False) -> None:
    """Rows under titles, columns aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [place for place, column in enumerate(columns) if wide or not column.wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in (columns[place] for place in shown):
        table.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold", no_wrap=not column.fold
        )
    for row in rows:
        cells = []
        for place in shown:
            text, style = clean(row[place]), columns[place].style
            cells.append(Text(text, style=style(text) if style else ""))
        table.add_row(*cells)
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False, width=WIDEST if wide else None).print(table)
        return
    console = Console(file=sys.stdout, width=WIDEST, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def coloured(text: str, style: str) -> str:
    """`text` with the terminal's codes for `style`; unchanged where stdout is no terminal or NO_COLOR is set."""
    if not sys.stdout.isatty():
        return text
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as captured:
        console.print(Text(text, style=style), end="", soft_wrap=True)
    return captured.get()


def clean(text: str) -> str:
    """`text` without control characters and what else is not meant to be printed."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def span(seconds: float | None) -> str:
    """A length of time in its largest sensible unit: `45s`, `12m`, `30h`, `9d`; `-` for None."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for unit, size, until in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if whole < until:
            return f"{whole // size}{unit}"
    return f"{whole // 86_400}d"


def state_style(text: str) -> str:
    """Colour of a word that says how something is."""
    return _STATES.get(text, "")


_STATES: Mapping[str, str] = {
    "SYNCED": "green",
    "ok": "green",
    "STALE": "yellow",
    "HELD": "yellow",
    "REJECTED": "bold red",
    "failed": "bold red",
    "EXPIRED": "bold red",
    "GONE": "red",
}

Json = dict[str, Any]
