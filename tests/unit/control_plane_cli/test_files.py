"""Files in, one text out, and problems back to their files."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.files import MOST_APPLIED_BYTES, MOST_BYTES, SOURCE, Bundle, Text, read
from sidecar.config.node import Source
from sidecar.config.problems import Problems
from sidecar.config.yaml_text import read_yaml


def test_one_file_keeps_its_name_and_its_lines() -> None:
    bundle = Bundle.of([Text("a.yaml", "kind: Service\n")])
    assert (bundle.source, bundle.text) == ("a.yaml", "kind: Service\n")
    assert bundle.translated("a.yaml:3:1: spec: wrong") == "a.yaml:3:1: spec: wrong"


def test_problems_of_several_files_are_told_by_file() -> None:
    bundle = Bundle.of([Text("a.yaml", "x: 1\ny: 2\n"), Text("b.yaml", "\ufeffz: 3"), Text("c.yaml", "")])
    lines = bundle.text.split("\n")
    for number, line in enumerate(lines, 1):
        if line in ("x: 1", "y: 2", "z: 3"):
            place = {"x: 1": "a.yaml:1", "y: 2": "a.yaml:2", "z: 3": "b.yaml:1"}[line]
            assert bundle.translated(f"{SOURCE}:{number}:4: p: m") == f"{place}:4: p: m"
    assert bundle.translated("... and 3 more problems") == "... and 3 more problems"


@given(st.lists(st.lists(st.sampled_from(["b: 1", "", "# c", "\r", "\x85", "\u2028", "\r\n"])), min_size=2, max_size=4))
def test_any_place_of_any_file_is_found_again(files: list[list[str]]) -> None:
    texts = [Text(f"{number}.yaml", "\n".join([*lines, f"mark{number}: 1"])) for number, lines in enumerate(files)]
    bundle = Bundle.of(texts)
    for number, text in enumerate(texts):
        alone, joined = (_place_of(content, f"mark{number}") for content in (text.content, bundle.text))
        assert bundle.translated(f"{SOURCE}:{joined}:1: x") == f"{text.name}:{alone}:1: x"


def _place_of(content: str, key: str) -> int:
    """The line that a YAML reader sees `key` in."""
    import yaml

    tokens: list[Any] = list(yaml.scan(content, Loader=yaml.SafeLoader))
    for token in tokens:
        if isinstance(token, yaml.ScalarToken) and key in token.value:
            before: str = token.value.partition(key)[0]
            return int(token.start_mark.line) + 1 + before.count("\n")
    raise AssertionError(content)


def test_folders_are_read_in_order_and_other_files_left_out(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", "notes.txt"):
        (tmp_path / name).write_text("kind: X")
    (tmp_path / "d.yaml").mkdir()
    assert [Path(text.name).name for text in read([tmp_path])] == ["a.yaml", "b.yml", "c.json"]
    assert [Path(text.name).name for text in read([tmp_path / "notes.txt"])] == ["notes.txt"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    (tmp_path / "empty").mkdir()
    (tmp_path / "huge.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    cases = {
        "nothing.yaml": r"cannot read .*nothing\.yaml: no such file or directory",
        "latin.yaml": r"latin\.yaml is not UTF-8 \(byte 9\)",
        "empty": r"empty holds no \.yaml, \.yml or \.json file",
        "huge.yaml": r"the files are larger than 4194304 bytes together",
    }
    for name, says in cases.items():
        with pytest.raises(Complaint, match=says) as refused:
            read([tmp_path / name])
        assert refused.value.status == USAGE


def test_a_joined_text_reads_as_the_documents_of_its_files() -> None:
    texts = [Text("a", "kind: A\n---\nkind: B"), Text("b", "---\nkind: C\n...\n"), Text("c", '{"kind":\n "D"}')]
    problems = Problems()
    documents = read_yaml(Bundle.of(texts).text, Source("x", problems))
    assert [document.at("kind").value for document in documents] == ["A", "B", "C", "D"]
    assert problems.lines() == []


def test_more_than_the_control_plane_takes_at_once_is_said_before_it_travels() -> None:
    half = "#" * (MOST_APPLIED_BYTES // 2 + 1)
    with pytest.raises(Complaint, match=r"1048578 bytes at once; the control plane takes 1048576") as refused:
        Bundle.of([Text("a.yaml", half), Text("b.yaml", half)])
    assert (refused.value.hint, refused.value.status) == ("give the files in parts", USAGE)
