"""YAML is read with places, without surprises, within bounds, and never with a traceback."""

import re

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.config import yaml_text
from sidecar.config.node import Doubtful, Node, Source, Value
from sidecar.config.problems import Problems
from sidecar.config.scalars import plain_scalar
from sidecar.config.yaml_text import MAX_DEPTH, MAX_TEXT_BYTES, read_yaml

LINE = re.compile(r"f\.yaml:[1-9][0-9]*:[1-9][0-9]*: .+", re.DOTALL)


def read(text: str) -> tuple[list[Node], list[str]]:
    problems = Problems()
    return read_yaml(text, Source("f.yaml", problems)), problems.lines()


def test_values_know_their_places() -> None:
    (document,), problems = read("a: 1\nb:\n- x\n-   {c: true}\n")
    assert problems == []
    assert document.plain() == {"a": 1, "b": ["x", {"c": True}]}
    c = document.at("b", 1, "c")
    assert (c.line, c.column, c.key_line, c.key_column) == (4, 9, 4, 6)


def test_each_document_is_a_tree_and_empty_ones_are_left_out() -> None:
    documents, problems = read("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")
    assert [document.plain() for document in documents] == [{"a": 1}, {"b": 2}]
    assert problems == []


def test_documents_before_bad_syntax_are_kept_and_half_a_document_is_not() -> None:
    documents, problems = read("a: 1\n---\nb: 2\nc: [\n")
    assert [document.plain() for document in documents] == [{"a": 1}]
    assert len(problems) == 1


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    (document,), problems = read("\ufeffa: 1\n")
    assert (document.plain(), problems) == ({"a": 1}, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("", None), ("~", None), ("null", None), ("true", True), ("false", False), ("0", 0), ("-5", -5), ("80", 80)),
        *(
            ("0.5", 0.5),
            ("-1.25", -1.25),
            ("v1", "v1"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("8080:8080", "8080:8080"),
        ),
        *(
            ("1.2.3", "1.2.3"),
            ("10s", "10s"),
            ("y", "y"),
            ("64Ki", "64Ki"),
            ("a_b", "a_b"),
            ("-", "-"),
            ("None", "None"),
        ),
    ],
)
def test_plain_scalars_follow_json(text: str, value: Value) -> None:
    made = plain_scalar(text)
    assert (made, type(made)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "yes",
            "No",
            "ON",
            "off",
            "True",
            "FALSE",
            "012",
            "-017",
            "00",
            "0o17",
            "0x1F",
            "0b11",
            "1_000",
            "+5",
            "1" * 30,
        ),
        *("22:30", "1:2:3", "1e3", "1.5e+3", ".5", "5.", ".inf", "-.INF", ".nan", "2026-01-02", "2026-01-02T03:04:05Z"),
    ],
)
def test_what_readers_take_differently_is_doubtful(text: str) -> None:
    assert isinstance(plain_scalar(text), Doubtful)


@pytest.mark.parametrize("text", ["1" * 100_000 + "x", "1_" * 50_000 + ".x", "1:1" * 30_000 + "x", "." * 100_000])
def test_long_scalars_cost_little(text: str) -> None:
    assert plain_scalar(text) == text  # quadratic patterns would take minutes


def test_a_doubtful_word_is_fine_where_that_word_is_asked_for() -> None:
    (document,), problems = read("mtls: off\n")
    assert document.at("mtls").one_of(("strict", "off")) == "off"
    assert problems == []
    assert document.plain() == {"mtls": "off"}


def test_field_names_are_text_whatever_they_look_like() -> None:
    (document,), problems = read("on: 1\n8080: 2\nnull: 3\n")
    assert (document.plain(), problems) == ({"on": 1, "8080": 2, "null": 3}, [])


def test_aliases_are_copies_with_their_own_path_and_the_originals_place() -> None:
    (document,), problems = read("a: &x {b: [1, two]}\nc: *x\n")
    assert problems == []
    copy = document.at("c", "b", 1)
    assert (copy.text(), copy.path, copy.line, copy.column) == ("two", "c.b[1]", 1, 15)


def test_nesting_through_aliases_is_bounded_like_nesting() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH + 5))]
    _, problems = read("\n".join(lines))
    assert len(problems) == 1
    assert f"nested more than {MAX_DEPTH} deep" in problems[0]


def test_an_anchor_ends_with_its_document() -> None:
    _, problems = read("a: &x 1\n---\nb: *x\n")
    assert problems == ["f.yaml:3:4: document: alias '*x' has no complete anchor before it"]


def test_a_text_that_is_too_large_is_refused_unread() -> None:
    documents, problems = read("#" * (MAX_TEXT_BYTES + 1))
    assert documents == []
    assert problems == [
        "f.yaml:1:1: document: the text is larger than 1048576 bytes (1 MiB); split it into several files"
    ]
    assert read("# é" + "é" * (MAX_TEXT_BYTES // 2))[1] == problems


@pytest.mark.parametrize(("text", "place"), [("a: \x00", "1:4"), ("a: 1\nb: x\x07", "2:5"), ("a: \ud800", "1:4")])
def test_characters_that_yaml_forbids_are_named(text: str, place: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1
    assert problems[0].startswith(f"f.yaml:{place}: document: character U+")


def test_messages_do_not_depend_on_how_pyyaml_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "a: [1, 2\nb: 3\n",
        "a:\n\t- b\n",
        "a: b: c\n",
        'a: "x\n',
        "a: 1\n b: 2\n",
        "{a: 1",
        "- a\nb: 1\n",
        "a: @x\n",
    ]
    fast = [read(text)[1] for text in texts]
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert [read(text)[1] for text in texts] == fast


yamlish = st.text(alphabet=st.sampled_from("ab01:-?[]{},&*!|>'\"%@`#~<= \n\t\\.xe+_é\x85\u2028"), max_size=60)


@given(st.one_of(st.text(max_size=100), yamlish))
@settings(max_examples=200)
@example('"\\U99999999"')
@example("%YAML 9.9\n---\na")
@example('"\\ud800": 1')
@example("? - a\n  - b\n: c")
@example("a: &b\n*b : c")
def test_any_text_is_documents_or_lines_never_a_traceback(text: str) -> None:
    documents, problems = read(text)
    for document in documents:
        document.plain()
    assert all(LINE.fullmatch(line) for line in problems)


def tree(node: Node) -> object:
    below = node.value
    if isinstance(below, dict):
        return [(name, node.key_line, tree(member)) for name, member in below.items()]
    if isinstance(below, list):
        return [tree(member) for member in below]
    return (node.plain(), node.line, node.column)


@given(yamlish)
@settings(max_examples=200)
def test_libyaml_and_pyyaml_give_the_same_values(text: str) -> None:
    """Where both accept a text; libyaml is laxer in corners, and what it accepts is what counts."""
    documents, problems = read(text)
    problems_of_slow = Problems()
    slow = yaml_text._Builder(Source("f.yaml", problems_of_slow))
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            slow.take(event)
    except (yaml.YAMLError, ValueError, OverflowError, yaml_text._UnusableTextError):
        return
    if not problems and not problems_of_slow.errors:
        kept = [document for document in slow.documents if document.value is not None]
        assert [document.plain() for document in documents] == [document.plain() for document in kept]
