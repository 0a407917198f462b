"""Expressions mean what `re` takes them for, are refused with a reason, and take linear time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.pattern import MAX_VALUE_BYTES, Pattern


@pytest.mark.parametrize(
    ("text", "takes", "refuses"),
    [
        ("/api/v[0-9]+/.*", ["/api/v1/", "/api/v12/a/b"], ["/api/v/", "/api/v1", "x/api/v1/"]),
        ("^/a$", ["/a"], ["/a/", "^/a$"]),
        ("a|b|", ["a", "b", ""], ["ab"]),
        ("", [""], ["a"]),
        ("(?:ab){2,3}", ["abab", "ababab"], ["ab", "abababab"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{0}b", ["b"], ["ab"]),
        (r"\d\w\s\.\$", ["1_ .$"], ["a_ .$"]),
        (r"[^/\d]+", ["abc"], ["a/b", "a1"]),
        ("[]a-]+", ["]a-"], ["b"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[a-c-]+", ["abc-"], ["d"]),
        ("(?i)Canary[A-C]", ["CANARYb", "canaryC"], ["canaryd"]),
        ("é+", ["é"], ["e"]),
        ("a*?b+?", ["aab", "b"], ["aa"]),
        (r"a\$", ["a$"], ["a"]),
        (r"a\\$", ["a\\"], ["a"]),
    ],
)
def test_all_of_a_value_is_compared(text: str, takes: list[str], refuses: list[str]) -> None:
    pattern = Pattern(text)
    assert [value for value in takes if not pattern.matches(value.encode())] == []
    assert [value for value in refuses if pattern.matches(value.encode())] == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(a", "has no ')'"),
        ("a)", "has no '('"),
        ("[a", "has no ']'"),
        ("*a", "nothing before it"),
        ("a**", "follows a quantifier"),
        ("a*+", "follows a quantifier"),
        ("a{3,2}", "does not count"),
        ("a{999}", "does not count"),
        ("{", "nothing before it"),
        (r"(a)\1", "is not supported"),
        (r"\bword", "is not supported"),
        ("(?=a)", "no lookaround"),
        ("(?P<n>a)", "no lookaround"),
        ("[z-a]", "lower to a higher"),
        (r"[\d-z]", "lower to a higher"),
        ("[[:alpha:]]", "are not supported"),
        ("[é]", "not ASCII"),
        ("a^b", "at the begin only"),
        ("a$b", "at the end only"),
        ("\\", "is not supported"),
        ("((a{200}){200}){200}", "too large"),
        ("((){200}){200}", "too large"),
        ("(" * 30 + ")" * 30, "more than 20 deep"),
        ("a" * 1025, "1025 characters"),
        ("a" * 300, "too large"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Pattern(text)


def test_a_value_that_is_too_long_does_not_match() -> None:
    pattern = Pattern("a*")
    assert pattern.matches(b"a" * MAX_VALUE_BYTES)
    assert not pattern.matches(b"a" * (MAX_VALUE_BYTES + 1))


@pytest.mark.parametrize("text", ["(a+)+b", "(a|a)*b", ".*a.*a.*a.*a.*b", "(a*)*b", "(.*.*)*b"])
def test_what_makes_a_backtracking_matcher_run_for_years_costs_a_step_a_byte(text: str) -> None:
    pattern = Pattern(text)
    assert not pattern.matches(b"a" * MAX_VALUE_BYTES)
    assert len(pattern._reach) < 20


def test_what_is_remembered_is_bounded() -> None:
    pattern = Pattern("(?:a|b)*a(?:a|b){20}")
    for number in range(5000):
        value = f"{number * 7919:050b}".replace("0", "a").replace("1", "b")
        assert pattern.matches(value.encode()) == (value[-21] == "a")
        assert len(pattern._reach) <= 2048


parts = st.recursive(
    st.sampled_from(["a", "b", "/", ".", "[ab]", "[^a]", r"\d", r"\w", "1", ""]),
    lambda below: st.one_of(
        st.tuples(below, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.lists(below, min_size=1, max_size=3).map("".join),
        st.lists(below, min_size=1, max_size=3).map(lambda some: f"({'|'.join(some)})"),
    ),
    max_leaves=8,
)


@given(text=parts, values=st.lists(st.text("ab/1", max_size=8), min_size=1, max_size=8), folds=st.booleans())
def test_re_agrees(text: str, values: list[str], folds: bool) -> None:
    text = f"(?i){text}" if folds else text
    pattern, oracle = Pattern(text), re.compile(text.encode())
    for value in values:
        assert pattern.matches(value.encode()) == (oracle.fullmatch(value.encode()) is not None)


@given(st.text("ab()[]{}|*+?\\^$-.,2:i", max_size=12))
def test_any_text_is_taken_as_re_takes_it_or_refused(text: str) -> None:
    try:
        pattern = Pattern(text)
    except ValueError:
        return
    oracle = re.compile(text.encode())
    for value in (b"", b"a", b"ab", b"2", b"a2b"):
        assert pattern.matches(value) == (oracle.fullmatch(value) is not None)
