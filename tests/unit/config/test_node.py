"""Nodes say what is wrong once, where it is, and let the parser go on."""

from enum import StrEnum

import pytest

from sidecar.config.json_text import node_of
from sidecar.config.node import Json, Node, Source
from sidecar.config.problems import MAX_PROBLEMS, Problem, Problems
from sidecar.errors import ConfigError


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


def node(value: Json, *, strict: bool = True, spoken: bool = False) -> Node:
    made = node_of(value, Source("", Problems(), strict=strict, spoken=spoken))
    assert made is not None
    return made


def said(made: Node) -> list[str]:
    return made.source.problems.lines()


def test_a_path_names_fields_and_places() -> None:
    made = node({"spec": {"rules": [{"weight": 1}], "app.kubernetes.io/name": "x"}})
    assert made.at("spec", "rules", 0, "weight").path == "spec.rules[0].weight"
    assert made.at("spec", "app.kubernetes.io/name").path == "spec['app.kubernetes.io/name']"
    assert made.path == ""


def test_at_stops_where_the_way_ends_and_find_does_not() -> None:
    made = node({"a": [1]})
    assert made.at("a", 3, "b").path == "a"
    assert made.find("a", 3) is None
    assert made.find("a", 0, "b") is None
    assert made.find("a", 0) is made.at("a", 0)


def test_an_unknown_field_is_an_error_only_when_strict() -> None:
    assert said_after_fields(node({"conect": "1s", "zzz": 1})) == [
        "conect: unknown field 'conect' (did you mean 'connect'? known: connect, request)",
        "zzz: unknown field 'zzz' (known: connect, request)",
    ]
    assert said_after_fields(node({"conect": "1s"}, strict=False)) == []


def said_after_fields(made: Node) -> list[str]:
    made.fields("connect", "request")
    return said(made)


def test_an_unsupported_field_is_an_error_on_the_wire_too() -> None:
    made = node({"filters": []}, strict=False)
    assert "filters" not in made.fields("name", unsupported=("filters",))
    assert said(made) == ["filters: is not supported in this version (supported here: name)"]


def test_null_is_an_error_in_files_and_absent_on_the_wire() -> None:
    strict, wire = node({"a": None}), node({"a": None}, strict=False)
    assert strict.fields("a").maybe("a", Node.boolean, True) is False
    assert said(strict) == ["a: is empty; give true or false, or leave the field out"]
    assert wire.fields("a").maybe("a", Node.boolean, True) is True
    assert said(wire) == []


def test_a_missing_field_is_told_once_and_its_stand_in_is_silent() -> None:
    made = node({})
    missing = made.fields("a").need("a", "some text")
    missing.text()
    missing.seconds()
    missing.quantity_bytes(1, 2)
    missing.integer(1, 2)
    missing.choice(Colour)
    missing.items(at_least=1)
    missing.entries()
    missing.fields("b").need("b", "more")
    missing.warn("quiet")
    assert said(made) == ["document: field 'a' is missing (some text)"]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (1, 'document: 1 is not text here; put it in quotes: "1"'),
        (True, 'document: true is not text here; put it in quotes: "true"'),
        ("", "document: is empty text; give a value, or leave the field out"),
        ("a\nb", r"document: 'a\nb' has control characters; printable text only"),
        ("\ud800", r"document: '\ud800' has control characters; printable text only"),
        ("x" * 11, "document: is 11 characters long; at most 10 are allowed"),
        ([], "document: is a list; text is needed"),
        ({}, "document: is a mapping of fields; text is needed"),
    ],
)
def test_text_is_text(value: Json, line: str) -> None:
    made = node(value)
    assert made.text(at_most=10) == ""
    assert said(made) == [line]


@pytest.mark.parametrize("value", ["1", 1.0, True, None, 0, 11, [1], "x"])
def test_integers_are_whole_numbers_in_range(value: Json) -> None:
    made = node(value)
    assert made.integer(1, 10) == 1
    assert len(said(made)) == 1


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (0.5, 0.5), (0, 0.0)])
def test_numbers_may_be_whole(value: Json, expected: float) -> None:
    assert node(value).number(0, 1) == expected


@pytest.mark.parametrize("value", ["x", "0.5", True, 2, -1])
def test_numbers_out_of_range_are_refused(value: Json) -> None:
    made = node(value)
    made.number(0, 1)
    assert len(said(made)) == 1


def test_spoken_values_take_the_type_that_is_asked_for() -> None:
    assert node("5", spoken=True).integer(1, 10) == 5
    assert node("0.5", spoken=True).number(0, 1) == 0.5
    assert node("true", spoken=True).boolean() is True
    assert node("5", spoken=True).text() == "5"
    wrong = node("yes", spoken=True)
    assert wrong.boolean() is False
    assert said(wrong) == ["document: 'yes' is not true or false"]


def test_a_choice_is_one_of_the_known_words() -> None:
    assert node("green").choice(Colour) is Colour.GREEN
    wrong = node("grean")
    assert wrong.choice(Colour) is Colour.RED
    assert said(wrong) == ["document: 'grean' is not known (did you mean 'green'? known: red, green)"]


def test_seconds_take_any_bound() -> None:
    assert node("1m30s").seconds() == 90.0
    assert node("0s").seconds(at_least=0.0) == 0.0


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (5, "document: 5 has no unit; write a duration such as 250ms, 3s or 1m30s"),
        ("0s", "document: '0s' is too short; at least 1ms is needed"),
    ],
)
def test_seconds_need_a_unit_and_a_least_value(value: Json, line: str) -> None:
    wrong = node(value)
    wrong.seconds()
    assert said(wrong) == [line]


def test_sizes_may_be_numbers_and_have_bounds() -> None:
    assert node(65_536).quantity_bytes(0, 2**20) == 65_536
    assert node("64Ki").quantity_bytes(0, 2**20) == 65_536
    wrong = node("2Mi")
    assert wrong.quantity_bytes(1024, 2**20) == 1024
    assert said(wrong) == ["document: 2Mi is out of range: 1Ki to 1Mi"]


def test_labels_may_be_empty_but_not_anything() -> None:
    made = node({"a": "x", "b": "", "c": "no blanks"})
    assert made.labels() == {"a": "x", "b": "", "c": ""}
    assert len(said(made)) == 1


def test_problems_come_in_order_of_place_and_each_once() -> None:
    problems = Problems()
    for line in (9, 10, 2, 2):
        problems.add(Problem("a.yaml", line, 1, "x", "is wrong"))
    assert problems.lines() == [
        "a.yaml:2:1: x: is wrong",
        "a.yaml:9:1: x: is wrong",
        "a.yaml:10:1: x: is wrong",
    ]
    assert problems.count == 3


def test_a_flood_of_problems_is_counted_not_kept() -> None:
    problems = Problems()
    for line in range(1, MAX_PROBLEMS + 51):
        problems.add(Problem("a.yaml", line, 1, "x", "is wrong"))
        problems.warn(Problem("a.yaml", line, 1, "x", "is odd"))
    assert len(problems.lines()) == MAX_PROBLEMS + 1
    assert problems.lines()[-1] == "... and 50 more problems"
    assert len(problems.warning_lines()) == MAX_PROBLEMS
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert caught.value.problems == problems.lines()
