"""A message leaves with one framing, its own, and nothing in a field can add a line."""

import pytest

from sidecar.codec.h1_write import BodyWriter, request_line, status_line, write_head


def test_a_head_keeps_fields_as_given_but_for_framing_and_connection() -> None:
    fields = [(b"X-A", b"1"), (b"cOnTent-length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close"),
              (b"Keep-Alive", b"timeout=5"), (b"TE", b"trailers"), (b"x-b", b"")]  # fmt: skip

    head = write_head(b"HTTP/1.1 200 OK", fields, [b"Content-Length: 3"])

    assert head == b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-b: \r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_a_field_with_a_line_break_is_not_written(bad: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        write_head(b"HTTP/1.1 200 OK", [(b"X", bad)], [])
    with pytest.raises(ValueError, match="line break"):
        write_head(b"HTTP/1.1 200 OK", [(bad, b"x")], [])
    with pytest.raises(ValueError, match="line break"):
        write_head(status_line(200, bad), [], [])


def test_first_lines() -> None:
    assert request_line(b"GET", b"/a") == b"GET /a HTTP/1.1"
    assert status_line(404, b"") == b"HTTP/1.1 404 Not Found"
    assert status_line(404, b"Nope") == b"HTTP/1.1 404 Nope"
    assert status_line(599, b"") == b"HTTP/1.1 599 "


def test_a_counted_body_is_written_as_it_is_and_no_longer_than_announced() -> None:
    writer = BodyWriter(3)

    assert (writer.chunk(b"ab"), writer.chunk(b""), writer.done) == (b"ab", b"", False)
    assert (writer.chunk(b"c"), writer.done, writer.end()) == (b"c", True, b"")
    with pytest.raises(ValueError, match="only 0 of the announced"):
        writer.chunk(b"d")


def test_a_counted_body_that_is_too_short_has_no_end() -> None:
    writer = BodyWriter(3)
    writer.chunk(b"ab")

    with pytest.raises(ValueError, match="1 bytes of the announced length are owed"):
        writer.end()
    assert not writer.done


def test_a_chunked_body_ends_once() -> None:
    writer = BodyWriter(None, chunked=True)

    assert writer.chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert writer.chunk(b"") == b""
    assert writer.end([(b"A", b"1"), (b"B", b"2")]) == b"0\r\nA: 1\r\nB: 2\r\n\r\n"
    assert writer.end() == b""
    with pytest.raises(ValueError, match="after the end"):
        writer.chunk(b"x")


def test_a_chunked_body_without_trailers() -> None:
    assert BodyWriter(None, chunked=True).end() == b"0\r\n\r\n"


def test_a_trailer_with_a_line_break_is_not_written() -> None:
    with pytest.raises(ValueError, match="line break"):
        BodyWriter(None, chunked=True).end([(b"A", b"1\r\n\r\nHTTP/1.1 200 OK")])


def test_a_body_until_close_is_written_as_it_is() -> None:
    writer = BodyWriter(None)

    assert (writer.chunk(b"ab"), writer.done, writer.end([(b"A", b"1")]), writer.done) == (b"ab", False, b"", True)


def test_a_message_that_has_no_body_writes_none() -> None:
    writer = BodyWriter(0, muted=True)

    assert (writer.chunk(b"ab"), writer.end(), writer.done) == (b"", b"", True)
