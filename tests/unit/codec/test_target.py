"""One path for the rules and for the upstream, or 400."""

import re
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.codec.target import canonical_target
from sidecar.errors import MALFORMED, ProxyError

SAME = [
    "/", "/a", "/a/b", "/a/b/", "/a.b", "/a..b", "/a.", "/a../b", "/.a", "/..a", "/.well-known/x", "/...", "/.../a",
    "//", "//a", "/a//b", "/a//", "///", "/A/b", "/ADMIN",
    "/a;x=y", "/a;x=y/b", "/;", "/;/a", "/a;", "/a;..", "/a:b@c", "/http://b/", "/a,b", "/a+b", "/~a", "/a=b&c",
    "/a%2Fb", "/a%5Cb", "/%2F", "/%2Fa", "/a%2F%2Fb", "/%5C", "/%20", "/%25", "/%252e%252e/a", "/%252Fa", "/%252E",
    "/%3B", "/%3Fa", "/%23", "/%C0%AE%C0%AE/a", "/%C0%AF", "/%FF", "/%E2%82%AC", "/%80", "/a%7Cb", "/[a]{b}|^`<>\"c",
    "/a%2F.b", "/a%2F..b", "/.a%2Fb", "/a.;b", "/a..;b",
    "/?", "/?a", "/?a=%zz", "/?a=%00", "/?a=/../b", "/?%2e%2e", "/?a\\b", "/a?b?c", "/a?/./", "//?a=%41", "/a?;..",
]  # fmt: skip

CHANGED = {
    # Dot segments
    "/.": "/", "/./": "/", "/..": "/", "/../": "/", "/../..": "/", "/../../a": "/a", "/./a": "/a", "/a/.": "/a/",
    "/a/./b": "/a/b", "/a/..": "/", "/a/../": "/", "/a/../b": "/b", "/a/b/..": "/a/", "/a/b/../..": "/",
    "/a/b/c/./../../g": "/a/g", "/a/../../b": "/b", "/public/../admin": "/admin", "/a/.//b": "/a//b",
    "/..//a": "//a", "/a//..": "/a/", "/a//../b": "/a/b", "/a//../../b": "/b", "/.//a": "//a", "//../a": "/a",
    # Written with escapes
    "/%2e": "/", "/%2E%2E": "/", "/%2e%2e/": "/", "/.%2e/a": "/a", "/%2e./a": "/a", "/a/%2e/b": "/a/b",
    "/a/%2e%2E/b": "/b", "/public/%2e%2e/admin": "/admin", "/a/%2e%2e%2e": "/a/...", "/a%2eb": "/a.b",
    # Unreserved characters, and the one case of the others
    "/%61dmin": "/admin", "/%41": "/A", "/%7Ea%2D%5F": "/~a-_", "/%30%39": "/09", "/a%2fb": "/a%2Fb",
    "/a%5cb": "/a%5Cb",
    "/%c3%a9": "/%C3%A9", "/%3b": "/%3B", "/%2541": "/%2541", "/%e2%82%ac%20": "/%E2%82%AC%20", "/%2f%2F": "/%2F%2F",
    # The query stays
    "/./?a=/./%2e%41": "/?a=/./%2e%41", "/%61?%61": "/a?%61", "/a/..?b": "/?b", "/..?": "/?", "/%2e%2e?%zz": "/?%zz",
    "/.%3Fa": "/.%3Fa",
}  # fmt: skip

REFUSED = [
    # Malformed escapes
    "/%", "/%4", "/%zz", "/%4z", "/%z4", "/a%", "/a%/b", "/%%41", "/%u002e", "/%-1", "/%+1", "/% 1", "/%0x", "/%2",
    "/%2?e",
    # Escaped control characters
    "/%00", "/a%00.html", "/%0a", "/%0D%0A", "/%09", "/%1f", "/%7f", "/%7F", "/admin%00/../x",
    # Backslashes
    "/\\", "/a\\b", "/..\\a", "\\", "/a/\\../b", "/\\..\\..\\a",
    # Dot segments that show later
    "/..;/a", "/public/..;/admin", "/.;/a", "/..;", "/a/..;x=y/b", "/%2e%2e;/a", "/..%2Fa", "/..%2fadmin", "/..%5Ca",
    "/..%5ca", "/a%2F../b", "/a%2F..", "/a%5C..%5Cb", "/%2e%2e%2fadmin", "/.%2Fa", "/a/.%2F", "/%2F..", "/a%2f.;b",
    "/%5C.", "/b/..%2F..%2Fadmin",
    # Not an origin-form target
    "", "*", "a", "http://a/", "?a", "%2Fa", "/a#b", "/#", "/?a#b", "/a b", "/a\x00", "/\x7f", "/\xe9", "/a?\xe9",
    "/a\n",
]  # fmt: skip


def test_there_are_enough_tricks() -> None:
    assert len(CHANGED) + len(REFUSED) >= 60


@pytest.mark.parametrize("target", SAME)
def test_a_target_with_one_meaning_stays(target: str) -> None:
    assert canonical_target(target.encode()) == target.encode()


@pytest.mark.parametrize("target", CHANGED)
def test_a_path_is_written_in_its_one_form(target: str) -> None:
    assert canonical_target(target.encode()) == CHANGED[target].encode()


@pytest.mark.parametrize("target", REFUSED)
def test_a_path_that_others_may_read_differently_is_refused(target: str) -> None:
    with pytest.raises(ProxyError) as caught:
        canonical_target(target.encode("latin-1"))

    assert caught.value.fault.saying("") == MALFORMED.saying("")
    assert caught.value.fault.sentence.isprintable()
    assert caught.value.fault.sentence != MALFORMED.sentence


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (b"/%4", "the path has the escape '%4'; a percent sign takes two hexadecimal digits after it"),
        (b"/a%0A", "the path has the escaped control character '%0A'"),
        (b"/a\\b", "the path '/a\\\\b' has a backslash, which some read as a slash; %5C is allowed"),
        (b"/..;/a", "the path '/..;/a' hides a dot segment behind an escape or a semicolon"),
    ],
)
def test_a_refusal_says_what_was_wrong(target: bytes, sentence: str) -> None:
    with pytest.raises(ProxyError) as caught:
        canonical_target(target)

    assert caught.value.fault.sentence == sentence


PARTS = st.sampled_from(["/", "/", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "%41", "%25", "%c3", ";", "a", "~",
                         "\\", "%", "%4", "%00", "?", "//", "%252e", ":", "%3B", "#"])  # fmt: skip
TARGETS = st.one_of(
    st.lists(PARTS, max_size=12).map(lambda parts: ("/" + "".join(parts)).encode()),
    st.binary(max_size=30).map(lambda rest: b"/" + rest),
)


@given(TARGETS)
@example(b"/%2541")
def test_a_canonical_target_is_its_own_canonical_form(target: bytes) -> None:
    try:
        once = canonical_target(target)
    except ProxyError:
        return

    assert canonical_target(once) == once
    assert once.startswith(b"/")
    assert once.partition(b"?")[1:] == target.partition(b"?")[1:]


@given(TARGETS)
def test_nothing_is_left_to_be_read_differently(target: bytes) -> None:
    try:
        path = canonical_target(target).partition(b"?")[0]
    except ProxyError:
        return

    for decoded in (path, unquote_to_bytes(path), re.sub(b";[^/]*", b"", path)):
        segments = re.split(rb"[/\\]", decoded)
        assert b"." not in segments
        assert b".." not in segments
    assert re.search(rb"%(?![0-9A-F]{2})|%[01]|%7F|%2E|%[46][1-9A-F]|\\|[^!-~]", path) is None


@given(st.lists(st.sampled_from(["a", "b", ".", "..", "a.", ""]), min_size=1, max_size=8))
def test_dots_go_as_rfc_3986_says(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    if "//" in path:
        return  # urljoin takes an empty segment away

    assert canonical_target(path.encode()).decode() == urljoin("http://h/", path).removeprefix("http://h")


def test_time_is_linear() -> None:
    for unit in (b"/..", b"/.", b"//", b"%2e", b"/a", b"%41/", b";", b"/..a%2F"):
        canonical_target(b"/" + unit * 100_000)  # a quadratic scan would take minutes
