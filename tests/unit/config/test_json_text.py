"""JSON of the wire and the store: strict where readers could disagree, bounded, never a traceback."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.json_text import MAX_JSON_CHARACTERS, node_of, read_json
from sidecar.config.node import Json, Node, Source
from sidecar.config.problems import Problems
from sidecar.config.yaml_text import MAX_DEPTH


def read(text: str) -> tuple[Node | None, list[str]]:
    problems = Problems()
    return read_json(text, Source("", problems)), problems.lines()


def test_a_repeated_name_is_refused_at_any_depth() -> None:
    assert read('{"a": {"b": 1, "c": 2, "b": 3}}') == (None, ["document: field 'b' is there twice in one object"])


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "document: is not valid JSON: "),
        ("{", "document: is not valid JSON: "),
        ("[1] x", "document: is not valid JSON: "),
        ("9" * 5000, "document: is not valid JSON: "),
        ("[" * 100_000, f"document: values are nested more than {MAX_DEPTH} deep"),
        ("[" * 50 + "]" * 50, f"document: values are nested more than {MAX_DEPTH} deep"),
        ('"' + "x" * MAX_JSON_CHARACTERS + '"', "document: the document is larger than"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, start: str) -> None:
    node, problems = read(text)
    assert node is None
    assert len(problems) == 1
    assert problems[0].startswith(start)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_pass_no_check(text: str) -> None:
    node, _ = read(text)
    assert node is not None
    node.number(0, 1)
    assert len(node.source.problems.lines()) == 1


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(st.text(), below, max_size=4)),
    max_leaves=20,
)


@given(values)
def test_any_value_becomes_a_tree_that_says_the_same(value: Json) -> None:
    node, problems = read(json.dumps(value))
    assert node is not None
    assert (node.plain(), problems) == (value, [])
    again = node_of(value, Source("", Problems()))
    assert again is not None
    assert again.plain() == value


@given(st.text(alphabet=st.sampled_from('{}[]",:0123456789.eE+-truefalsn \n\\u'), max_size=80))
def test_any_text_is_a_tree_or_one_line(text: str) -> None:
    node, problems = read(text)
    assert (node is None) == (len(problems) == 1)
