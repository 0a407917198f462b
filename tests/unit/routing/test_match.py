"""Gateway API's precedence, against a plain reading of its text."""

import re
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.messages import RequestHead
from sidecar.model.routes import GrpcMatch, HeaderMatch, PathKind, PathMatch, QueryMatch, RouteMatch, ValueKind
from sidecar.routing.match import Matcher
from tests.unit.routing.builders import call, exact, head, match, prefix, query, regex


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
        (regex("/v[0-9]+/.*"), "/v12/a?b", True),
        (regex("/v[0-9]+/.*"), "/x/v12/a", False),
        (regex("/v[0-9]+"), "/v1/a", False),
        (regex("/a"), "/a?x", True),
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


def test_a_repeated_header_fulfils_joined_or_in_each_of_its_lines() -> None:
    def repeated(*values: bytes) -> RequestHead:
        return RequestHead(b"GET", b"/", b"orders", [(b"A" if n else b"a", value) for n, value in enumerate(values)])

    number = RouteMatch(headers=(HeaderMatch("a", "[0-9]+", ValueKind.REGEX),))
    assert find([match(a="1")], repeated(b"1", b"2")) is None
    assert find([match(a="2")], repeated(b"1", b"2")) is None
    assert find([match(a="1, 2")], repeated(b"1", b"2")) is not None
    assert find([match(a="1")], repeated(b"1", b"1")) is not None
    assert find([match(a="1")], repeated(b"1, 1")) is None
    assert find([number], repeated(b"1", b"2")) is number
    assert find([number], repeated(b"1", b"x")) is None


@pytest.mark.parametrize(
    ("wanted", "target", "taken"),
    [
        (query(a="1"), "/?a=1", True),
        (query(a="1"), "/?b=2&a=1", True),
        (query(a="1"), "/?a=2&a=1", False),
        (query(a="1"), "/?A=1", False),
        (query(a="1"), "/?a=11", False),
        (query(a="1"), "/?a", False),
        (query(a="1"), "/a=1", False),
        (query(a="1", b="2"), "/?b=2&a=1", True),
        (query(a="1", b="2"), "/?a=1", False),
        (query(a="b c"), "/?a=b+c", True),
        (query(a="b c"), "/?%61=b%20c", True),
        (query(a="%"), "/?a=%", True),
        (query(a="é"), "/?a=%c3%A9", True),
    ],
)
def test_the_first_of_a_query_parameter_must_hold_decoded(wanted: RouteMatch, target: str, taken: bool) -> None:
    assert (find([wanted], head(target)) is not None) == taken


def test_headers_and_parameters_may_be_compared_by_expression() -> None:
    wanted = RouteMatch(
        headers=(HeaderMatch("x-user", "ann|bob", ValueKind.REGEX),), query=(QueryMatch("v", "2.*", ValueKind.REGEX),)
    )
    assert find([wanted], head("/?v=21", x_user="ann")) is wanted
    assert find([wanted], head("/?v=1", x_user="ann")) is None
    assert find([wanted], head("/?v=21", x_user="anna")) is None


def test_calls_are_found_by_service_and_method() -> None:
    best_first = [
        call("shop.Orders", "Get", x="1"),
        call("shop.Orders", "Get"),
        call("shop.Orders", x="1"),
        call("shop.Orders"),
        call("shop\\.(Orders|Stock)", "[A-Z].*", ValueKind.REGEX),
        call(method="Get"),
        call(),
    ]
    request = head("/shop.Orders/Get", "POST", x="1")
    for left in range(len(best_first)):
        for order in permutations(best_first[left : left + 3]):
            assert Matcher((one, one) for one in order).find(request) is best_first[left]


@pytest.mark.parametrize(
    ("wanted", "path", "taken"),
    [
        (call("a.B", "C"), "/a.B/C", True),
        (call("a.B", "C"), "/a.B/c", False),
        (call("a.B", "C"), "/a.B/C/d", False),
        (call("a.B"), "/a.B/C", True),
        (call("a.B"), "/a.Bc/C", False),
        (call(method="C"), "/x.Y/C", True),
        (call(method="C"), "/C", False),
        (call(method="C"), "/x/y/C", False),
        (call("a\\..*", "", ValueKind.REGEX), "/a.B/C", True),
        (call("a\\..*", "D", ValueKind.REGEX), "/a.B/C", False),
        (call(), "/anything", True),
    ],
)
def test_a_call_is_its_path(wanted: GrpcMatch, path: str, taken: bool) -> None:
    other = call("z.Z", "Z")
    found = Matcher([(wanted, wanted), (other, other)]).find(head(path, "POST"))
    assert (found is wanted) == taken


def test_the_more_special_match_wins_in_whatever_order_they_are_written() -> None:
    best_first = [
        match(exact("/a/b"), "GET"),
        match(exact("/a/b")),
        match(regex("/a/b|/longer")),
        match(regex("/[a]/b"), "GET"),
        match(regex("/./b")),
        match(prefix("/a/b"), "GET", x="1", y="1"),
        match(prefix("/a/b"), "GET"),
        match(prefix("/a/b"), x="1", y="1"),
        match(prefix("/a/b"), x="1"),
        RouteMatch(prefix("/a/b"), query=(QueryMatch("q", "1"), QueryMatch("r", "1"))),
        query(prefix("/a/b"), q="1"),
        match(prefix("/a/b")),
        match(prefix("/a"), "GET", x="1", y="1"),
        match(prefix("/")),
    ]
    request = head("/a/b?q=1&r=1", x="1", y="1")
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
    elif wanted.path.kind is PathKind.REGEX:
        path_holds = re.fullmatch(value, path) is not None
    else:
        path_holds = (path + "/").startswith(value.rstrip("/") + "/")
    return (
        path_holds
        and wanted.method in (None, method)
        and all(headers.get(one.name) == one.value for one in wanted.headers)
    )


def precedence(wanted: RouteMatch) -> tuple[int, int, bool, int]:
    """What wins is largest; the characters of an exact path are equal among those that hold."""
    kind = {PathKind.EXACT: 2, PathKind.REGEX: 1, PathKind.PREFIX: 0}[wanted.path.kind]
    value = wanted.path.value
    length = (len(value.rstrip("/")), len(value), 0)[kind]
    return kind, length, wanted.method is not None, len(wanted.headers)


@given(matches=st.lists(MATCHES, max_size=12), path=PATHS, method=METHODS, headers=HEADERS)
def test_the_compiled_matcher_agrees_with_reading_every_match(
    matches: list[RouteMatch], path: str, method: str, headers: dict[str, str]
) -> None:
    holding = [one for one in matches if holds(one, path, method, headers)]
    expected = max(holding, key=precedence, default=None)  # max returns the first of equals
    found = find(matches, head(path + "?q=/a", method, **headers))
    assert found is expected
