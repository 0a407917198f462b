"""Answers as people and programs see them."""

import io
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.output import Column, Output, clean, coloured, show, span

COLUMNS = (Column("NODE"), Column("N", right=True), Column("SECRET", wide=True), Column("WHY", fold=True))
ROWS = [["shop/orders-1", "7", "deep", "a \x1b[31mred\x1b[0m lie"], ["a", "12345", "-", ""]]


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(capsys: pytest.CaptureFixture[str], output: Output) -> str:
    show(output, COLUMNS, ROWS, document={"rows": ROWS}, names=["shop/orders-1", "a"])
    return capsys.readouterr().out


def test_a_table_in_a_pipe_has_no_colours_no_trailing_blanks_and_no_folds(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, Output.TABLE) == (
        "NODE               N  WHY\nshop/orders-1      7  a \ufffd[31mred\ufffd[0m lie\na              12345\n"
    )


def test_wide_adds_columns_and_names_are_bare(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, Output.WIDE).splitlines()[0].split() == ["NODE", "N", "SECRET", "WHY"]
    assert printed(capsys, Output.NAME) == "shop/orders-1\na\n"


def test_json_and_yaml_carry_the_whole_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, Output.JSON)) == {"rows": ROWS}
    assert yaml.safe_load(printed(capsys, Output.YAML)) == {"rows": ROWS}


def test_nothing_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show(Output.TABLE, COLUMNS, [], document={}, names=[], empty="there is nothing")
    got = capsys.readouterr()
    assert (got.out, got.err) == ("", "there is nothing\n")


def test_a_terminal_gets_its_width_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    columns = (Column("STATE", style=lambda _: "green"), Column("WHY", fold=True))
    show(Output.TABLE, columns, [["SYNCED", "word " * 20]], document={}, names=[])
    text = terminal.getvalue()
    assert "\x1b[32mSYNCED" in text
    assert len(text.splitlines()) > 3
    assert coloured("x", "bold") == "\x1b[1mx\x1b[0m"


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[3" not in coloured("x", "red")


@given(st.text())
def test_cleaned_text_is_printable_and_as_long(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) == len(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-3, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d")],
)
def test_spans_take_their_largest_sensible_unit(seconds: float | None, text: str) -> None:
    assert span(seconds) == text
