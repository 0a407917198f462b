"""Gateway API's precedence, against a plain reading of its text."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.messages import RequestHead
from sidecar.model.routes import HeaderMatch, PathKind, PathMatch, RouteMatch
from sidecar.routing.match import Matcher
from tests.unit.routing.builders import exact, head, match, prefix


def find(matches: list[RouteMatch], request: RequestHead) -> RouteMatch | None:
    return Matcher((one, one) for one in matches).find(request)


@pytest.mark.parametrize(
    ("path", "target", "taken"),
    [
        (exact("/a"), "/a", True),
        (exact("/a"), "/a?x=1", True),
        (exact("/a"), "/a/", False),
        (exact("/a"), "/A", False),
        (exact("/a"), "/a/b", False),
        (exact("/"), "/", True),
        (exact("/"), "/a", False),
        (prefix("/a"), "/a", True),
        (prefix("/a"), "/a/", True),
        (prefix("/a"), "/a/b?c", True),
        (prefix("/a"), "/a?b", True),
        (prefix("/a"), "/ab", False),
        (prefix("/a"), "/", False),
        (prefix("/a"), "/b", False),
        (prefix("/a/"), "/a", True),
        (prefix("/a/"), "/a/b", True),
        (prefix("/a/"), "/ab", False),
        (prefix("/a/b"), "/a", False),
        (prefix("/"), "/", True),
        (prefix("/"), "/anything/at/all", True),
        (prefix("/"), "*", True),
        (prefix("/é"), "/é/x", True),
    ],
)
def test_paths_match_as_gateway_api_says(path: PathMatch, target: str, taken: bool) -> None:
    # Beside a match for something else, so that the short cut for a single match is not what is tested.
    other = match(exact("/other"))
    assert (find([match(path), other], head(target)) is not None) == taken


@pytest.mark.parametrize(
    ("wanted", "request_head", "taken"),
    [
        (match(method="POST"), head(method="POST"), True),
        (match(method="POST"), head(method="GET"), False),
        (match(method="POST"), head(method="post"), False),
        (match(x_user="a"), head(X_User="a"), True),
        (match(X_User="a"), head(x_user="a"), True),
        (match(x_user="a"), head(x_user="A"), False),
        (match(x_user="a"), head(x_user="ab"), False),
        (match(x_user="a"), head(), False),
        (match(a="1", b="2"), head(a="1", b="2"), True),
        (match(a="1", b="2"), head(a="1"), False),
        (match(method="GET", a="1"), head(method="POST", a="1"), False),
    ],
)
def test_method_and_every_header_must_hold(wanted: RouteMatch, request_head: RequestHead, taken: bool) -> None:
    assert (find([wanted], request_head) is not None) == taken


def test_of_two_matches_for_one_header_the_first_counts() -> None:
    twice = RouteMatch(headers=(HeaderMatch("a", "1"), HeaderMatch("A", "2")))
    assert find([twice], head(a="1")) is twice
    assert find([twice], head(a="2")) is None


def test_a_repeated_header_matches_as_its_joined_value_only() -> None:
    request = RequestHead(b"GET", b"/", b"orders", [(b"a", b"1"), (b"A", b"2")])
    assert find([match(a="1")], request) is None
    assert find([match(a="1, 2")], request) is not None


def test_the_more_special_match_wins_in_whatever_order_they_are_written() -> None:
    best_first = [
        match(exact("/a/b"), "GET"),
        match(exact("/a/b")),
        match(prefix("/a/b"), "GET", x="1", y="1"),
        match(prefix("/a/b"), "GET"),
        match(prefix("/a/b"), x="1", y="1"),
        match(prefix("/a/b"), x="1"),
        match(prefix("/a/b")),
        match(prefix("/a"), "GET", x="1", y="1"),
        match(prefix("/")),
    ]
    request = head("/a/b", x="1", y="1")
    for left in range(len(best_first)):
        for order in permutations(best_first[left : left + 3]):
            assert find(list(order), request) is best_first[left]


def test_among_equals_the_first_given_wins() -> None:
    one, other = match(prefix("/a"), x="1"), match(prefix("/a"), y="1")
    assert find([one, other], head("/a", x="1", y="1")) is one
    assert find([other, one], head("/a", x="1", y="1")) is other


def test_an_exact_path_whose_headers_do_not_hold_leaves_the_request_to_a_prefix() -> None:
    wide = match(prefix("/"))
    assert find([match(exact("/a"), x="1"), match(prefix("/a"), x="1"), wide], head("/a")) is wide


def test_a_single_match_for_everything_needs_no_look_at_the_request() -> None:
    class Unread(RequestHead):
        @property
        def path(self) -> bytes:
            raise AssertionError("looked at the path")

    everything = match()
    matcher = Matcher([(everything, everything), (match(), match())])
    assert matcher.find(Unread(b"GET", b"/x", b"orders", [])) is everything


def test_no_matches_match_nothing() -> None:
    assert find([], head()) is None


def test_a_path_of_ten_thousand_slashes_costs_one_look_up_a_length() -> None:
    matcher = Matcher((match(prefix("/a" * n)), n) for n in range(1, 50))
    assert matcher.find(head("/" * 10_000)) is None


PATHS = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=3).map(lambda parts: "/" + "/".join(parts))
HEADERS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"), max_size=3)
METHODS = st.sampled_from(["GET", "POST"])
MATCHES = st.builds(
    lambda path, method, headers: match(path, method, **headers),
    st.builds(PathMatch, st.sampled_from(PathKind), PATHS),
    st.none() | METHODS,
    HEADERS,
)


def holds(wanted: RouteMatch, path: str, method: str, headers: dict[str, str]) -> bool:
    value = wanted.path.value
    if wanted.path.kind is PathKind.EXACT:
        path_holds = path == value
    else:
        path_holds = (path + "/").startswith(value.rstrip("/") + "/")
    return (
        path_holds
        and wanted.method in (None, method)
        and all(headers.get(one.name) == one.value for one in wanted.headers)
    )


def precedence(wanted: RouteMatch) -> tuple[bool, int, bool, int]:
    """What wins is largest; the characters of an exact path are equal among those that hold."""
    is_exact = wanted.path.kind is PathKind.EXACT
    length = 0 if is_exact else len(wanted.path.value.rstrip("/"))
    return is_exact, length, wanted.method is not None, len(wanted.headers)


@given(matches=st.lists(MATCHES, max_size=12), path=PATHS, method=METHODS, headers=HEADERS)
def test_the_compiled_matcher_agrees_with_reading_every_match(
    matches: list[RouteMatch], path: str, method: str, headers: dict[str, str]
) -> None:
    holding = [one for one in matches if holds(one, path, method, headers)]
    expected = max(holding, key=precedence, default=None)  # max returns the first of equals
    found = find(matches, head(path + "?q=/a", method, **headers))
    assert found is expected
