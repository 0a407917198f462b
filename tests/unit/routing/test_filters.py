"""What filters make of heads: Gateway API's tables, and nothing that was not asked for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.messages import RequestHead
from sidecar.model.routes import Filters, HeaderModifier, PathModifier, PathModifierKind, Redirect, Rewrite
from sidecar.routing.filters import RuleFilters

FULL, PREFIX = PathModifierKind.FULL, PathModifierKind.PREFIX


def request(target: bytes = b"/foo/bar?q=1", authority: bytes = b"orders:8080") -> RequestHead:
    fields = [(b"Host", authority), (b"X-A", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]
    return RequestHead(
        b"POST", target, authority, fields, content_length=None, chunked=True, keep_alive=False, version=b"2"
    )


def rewritten(target: bytes, modifier: PathModifier, prefix: str = "/") -> bytes:
    return RuleFilters(Filters(rewrite=Rewrite(path=modifier)), prefix).apply_request(request(target)).target


def located(target: bytes = b"/foo/bar?q=1", authority: bytes = b"orders:8080", **redirect: Any) -> bytes:
    made = RuleFilters(Filters(redirect=Redirect(**redirect)), "/foo")
    answer = made.redirect(request(target, authority))
    assert answer is not None
    return answer[1]


def test_fields_are_replaced_added_and_removed_whatever_their_case() -> None:
    modifier = HeaderModifier(set=(("x-A", "9"), ("New", "n")), add=(("X-B", "5"),), remove=("HOST-not", "x-C"))
    made = RuleFilters(Filters(request=modifier, response=modifier))
    before = request()
    after = made.apply_request(before)
    expected = [(b"Host", b"orders:8080"), (b"x-b", b"2"), (b"x-A", b"9"), (b"New", b"n"), (b"X-B", b"5")]
    assert after.fields == expected
    assert after.get(b"x-b") == b"2, 5"
    assert before.get(b"x-a") == b"1, 3"
    answer = [(b"Server", b"a"), (b"X-a", b"1"), (b"x-c", b"2")]
    assert made.apply_response(answer) == [(b"Server", b"a"), *expected[2:]]
    assert len(answer) == 3


def test_a_set_field_comes_once_and_a_removed_one_not_at_all() -> None:
    made = RuleFilters(Filters(request=HeaderModifier(set=(("x-a", "9"),), remove=("X-B",))))
    assert made.apply_request(request()).fields == [(b"Host", b"orders:8080"), (b"x-a", b"9")]


def test_what_is_not_filtered_is_the_same_object() -> None:
    made = RuleFilters(Filters(redirect=Redirect(hostname="a")))
    head, fields = request(), [(b"a", b"b")]
    assert made.apply_request(head) is head
    assert made.apply_response(fields) is fields
    assert RuleFilters(Filters(rewrite=Rewrite("a"))).redirect(head) is None


def test_framing_and_version_stay_as_they_are() -> None:
    after = RuleFilters(Filters(rewrite=Rewrite("a"))).apply_request(request())
    assert (after.method, after.content_length, after.chunked, after.keep_alive, after.version, after.upgrade) == (
        b"POST",
        None,
        True,
        False,
        b"2",
        b"",
    )


def test_a_rewritten_host_is_the_authority_and_the_host_field() -> None:
    after = RuleFilters(Filters(rewrite=Rewrite("new.example"))).apply_request(request())
    assert (after.authority, after.get(b"host"), after.target) == (b"new.example", b"new.example", b"/foo/bar?q=1")


@pytest.mark.parametrize(
    ("path", "prefix", "replacement", "new"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
        ("/foo//evil.example", "/foo", "", "/evil.example"),
    ],
)
def test_a_prefix_is_replaced_as_gateway_apis_table_says(path: str, prefix: str, replacement: str, new: str) -> None:
    modifier = PathModifier(PREFIX, replacement)
    assert rewritten(path.encode(), modifier, prefix) == new.encode()
    assert rewritten(path.encode() + b"?a=/foo", modifier, prefix) == new.encode() + b"?a=/foo"


def test_a_full_path_replaces_all_but_the_query() -> None:
    assert rewritten(b"/a/b?c=d", PathModifier(FULL, "/x")) == b"/x?c=d"


def test_a_target_that_is_no_path_is_left_alone() -> None:
    assert rewritten(b"*", PathModifier(FULL, "/x")) == b"*"
    assert rewritten(b"db:5432", PathModifier(FULL, "/x")) == b"db:5432"


@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        ({"hostname": "example.org"}, b"http://example.org:8080/foo/bar?q=1"),
        ({"port": 9090}, b"http://orders:9090/foo/bar?q=1"),
        ({"port": 80}, b"http://orders/foo/bar?q=1"),
        ({"scheme": "https"}, b"https://orders/foo/bar?q=1"),
        ({"scheme": "http"}, b"http://orders/foo/bar?q=1"),
        ({"scheme": "https", "port": 443}, b"https://orders/foo/bar?q=1"),
        ({"scheme": "https", "port": 8443}, b"https://orders:8443/foo/bar?q=1"),
        ({"scheme": "http", "port": 443}, b"http://orders:443/foo/bar?q=1"),
        ({"path": PathModifier(FULL, "/x")}, b"http://orders:8080/x?q=1"),
        ({"path": PathModifier(PREFIX, "/x")}, b"http://orders:8080/x/bar?q=1"),
    ],
)
def test_a_location_is_absolute_and_has_a_port_only_where_it_says_something(
    redirect: dict[str, Any], location: bytes
) -> None:
    assert located(**redirect) == location


def test_a_location_of_hosts_without_port_and_of_addresses() -> None:
    assert located(authority=b"orders.shop", path=PathModifier(FULL, "/")) == b"http://orders.shop/?q=1"
    assert located(authority=b"[::1]", port=81) == b"http://[::1]:81/foo/bar?q=1"
    assert located(authority=b"[::1]:80", path=PathModifier(FULL, "/")) == b"http://[::1]/?q=1"
    assert located(b"*", hostname="a") == b"http://a:8080/"


def test_the_status_is_the_rules_own() -> None:
    made = RuleFilters(Filters(redirect=Redirect(hostname="a", status=308)))
    assert made.redirect(request()) == (308, b"http://a:8080/foo/bar?q=1")


def test_equal_filters_of_equal_prefixes_are_equal() -> None:
    one, other = Filters(rewrite=Rewrite("a")), Filters(rewrite=Rewrite("b"))
    assert RuleFilters(one, "/a") == RuleFilters(Filters(rewrite=Rewrite("a")), "/a/")
    assert hash(RuleFilters(one)) == hash(RuleFilters(one))
    assert RuleFilters(one) != RuleFilters(other)
    assert RuleFilters(one, "/a") != RuleFilters(one, "/b")
    assert RuleFilters(one) != one


@given(
    rest=st.text("/ab.", max_size=8),
    replacement=st.sampled_from(["", "/", "/x", "/x/", "/x/y"]),
    prefix=st.sampled_from(["/", "/foo", "/foo/"]),
    query=st.sampled_from(["", "?", "?a=b"]),
)
def test_a_replaced_prefix_leaves_one_slash_in_front_and_the_rest_alone(
    rest: str, replacement: str, prefix: str, query: str
) -> None:
    path = prefix.rstrip("/") + "/" + rest
    made = rewritten(f"{path}{query}".encode(), PathModifier(PREFIX, replacement), prefix).decode()
    assert made.startswith("/")
    assert not made.startswith("//")
    assert made.endswith(rest.lstrip("/") + query)
