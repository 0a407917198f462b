"""The head-level table of HTTP/1.1: each way to write a head that others understand differently, and our answer.

Every vector is judged by the server codec alone, whole and byte by byte. That nothing of it reaches an upstream is
shown where the proxy is: no `Head` event, nothing to forward.
"""

import pytest

from tests.support.http1 import every, serve

WS_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
BODY = b"3\r\nabc\r\n0\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *lines, b"", b""]) + body


def get(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: x\r\n") -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


REFUSED = {
    # How long is the body?
    "CL and TE": (400, post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=BODY)),
    "TE and CL": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=BODY)),
    "CL and unknown TE": (400, post(b"Content-Length: 3", b"Transfer-Encoding: xchunked", body=BODY)),
    "TE xchunked": (501, post(b"Transfer-Encoding: xchunked", body=BODY)),
    "TE gzip": (501, post(b"Transfer-Encoding: gzip", body=BODY)),
    "TE gzip, chunked": (501, post(b"Transfer-Encoding: gzip, chunked", body=BODY)),
    "TE chunked with a parameter": (501, post(b"Transfer-Encoding: chunked;q=1", body=BODY)),
    "TE quoted": (501, post(b'Transfer-Encoding: "chunked"', body=BODY)),
    "TE chunked, identity": (400, post(b"Transfer-Encoding: chunked, identity", body=BODY)),
    "TE identity": (400, post(b"Transfer-Encoding: identity", body=BODY)),
    "TE chunked, chunked": (400, post(b"Transfer-Encoding: chunked, chunked", body=BODY)),
    "TE twice": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=BODY)),
    "TE twice, second unknown": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow", body=BODY)),
    "TE twice, first unknown": (400, post(b"Transfer-Encoding: cow", b"Transfer-Encoding: chunked", body=BODY)),
    "TE empty": (400, post(b"Transfer-Encoding:", body=BODY)),
    "TE list with an empty element": (400, post(b"Transfer-Encoding: , chunked", body=BODY)),
    "TE VT chunked": (400, post(b"Transfer-Encoding: \x0bchunked", body=BODY)),
    "TE FF chunked": (400, post(b"Transfer-Encoding: \x0cchunked", body=BODY)),
    "TE chunked NUL": (400, post(b"Transfer-Encoding: chunked\x00", body=BODY)),
    "TE on HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY),
    "TE name with space before colon": (400, post(b"Transfer-Encoding : chunked", body=BODY)),
    "TE folded": (400, post(b"Transfer-Encoding:", b" chunked", body=BODY)),
    "TE folded with tab": (400, post(b"Transfer-Encoding: ", b"\tchunked", body=BODY)),
    "TE hidden after bare CR": (400, post(b"X: y\rTransfer-Encoding: chunked", body=BODY)),
    "TE hidden after bare LF": (400, post(b"X: y\nTransfer-Encoding: chunked", body=BODY)),
    "CL twice, different": (400, post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd")),
    "CL twice, same": (400, post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc")),
    "CL list, same": (400, post(b"Content-Length: 3, 3", body=b"abc")),
    "CL list, different": (400, post(b"Content-Length: 3,4", body=b"abcd")),
    "CL twice, one empty": (400, post(b"Content-Length:", b"Content-Length: 3", body=b"abc")),
    "CL plus sign": (400, post(b"Content-Length: +3", body=b"abc")),
    "CL hexadecimal": (400, post(b"Content-Length: 0x3", body=b"abc")),
    "CL negative": (400, post(b"Content-Length: -1", body=b"abc")),
    "CL underscore": (400, post(b"Content-Length: 1_0", body=b"abc")),
    "CL fraction": (400, post(b"Content-Length: 3.0", body=b"abc")),
    "CL space inside": (400, post(b"Content-Length: 3 3", body=b"abc")),
    "CL other digits": (400, post("Content-Length: \u0663".encode(), body=b"abc")),
    "CL empty": (400, post(b"Content-Length:", body=b"abc")),
    "CL quoted": (400, post(b'Content-Length: "3"', body=b"abc")),
    "CL with space before colon": (400, post(b"Content-Length : 3", body=b"abc")),
    "CL with tab before colon": (400, post(b"Content-Length\t: 3", body=b"abc")),
    "CL of 19 digits": (413, post(b"Content-Length: " + b"9" * 19)),
    # Where does a line end, what may be in it?
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    "bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    "bare LF after a field": (400, b"GET / HTTP/1.1\r\nHost: x\n\r\n"),
    "bare LF as the empty line": (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    "bare LF before the request line": (400, b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "bare CR in a value": (400, get(b"X: a\rb")),
    "bare CR at the end of a value": (400, get(b"X: a\r")),
    "bare CR in a name": (400, get(b"X\rY: a")),
    "bare CR in the request line": (400, get(first=b"GET /\r HTTP/1.1")),
    "bare CR first": (400, b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "NUL in a value": (400, get(b"X: a\x00b")),
    "NUL in a name": (400, get(b"X\x00: a")),
    "BEL in a value": (400, get(b"X: a\x07b")),
    "DEL in a value": (400, get(b"X: a\x7fb")),
    "ESC in a value": (400, get(b"X: \x1b[31m")),
    "folded line": (400, get(b"X: a", b" b")),
    "folded line, tab": (400, get(b"X: a", b"\tb")),
    "folded line of blanks": (400, get(b"X: a", b" ")),
    "white space before the first field": (400, get(host=b" Host: x\r\n")),
    "white space before the request line": (400, get(first=b" GET / HTTP/1.1")),
    "two empty lines before the request line": (400, b"\r\n\r\n" + get()),
    "empty name": (400, get(b": a")),
    "no colon": (400, get(b"X")),
    "space before colon": (400, get(b"X : a")),
    "space in a name": (400, get(b"X Y: a")),
    "non-ASCII name": (400, get(b"X\xe9: a")),
    "bracket in a name": (400, get(b"X[0]: a")),
    # The request line
    "no version": (400, b"GET /\r\nHost: x\r\n\r\n"),
    "lower-case version": (400, get(first=b"GET / http/1.1")),
    "version with two digits": (400, get(first=b"GET / HTTP/1.10")),
    "version without minor": (400, get(first=b"GET / HTTP/1")),
    "HTTP/1.2": (505, get(first=b"GET / HTTP/1.2")),
    "HTTP/9.9": (505, get(first=b"GET / HTTP/9.9")),
    "HTTP/0.9": (505, get(first=b"GET / HTTP/0.9")),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "two spaces before the target": (400, get(first=b"GET  / HTTP/1.1")),
    "two spaces after the target": (400, get(first=b"GET /  HTTP/1.1")),
    "tab as separator": (400, get(first=b"GET\t/ HTTP/1.1")),
    "white space after the version": (400, get(first=b"GET / HTTP/1.1 ")),
    "space in the target": (400, get(first=b"GET /a b HTTP/1.1")),
    "control character in the target": (400, get(first=b"GET /a\x01 HTTP/1.1")),
    "DEL in the target": (400, get(first=b"GET /a\x7f HTTP/1.1")),
    "non-ASCII target": (400, get(first="GET /\u00e9 HTTP/1.1".encode())),
    "fragment in the target": (400, get(first=b"GET /a#b HTTP/1.1")),
    "fragment in an absolute target": (400, get(first=b"GET http://x/a#b HTTP/1.1")),
    "escaped NUL in the path": (400, get(first=b"GET /a%00 HTTP/1.1")),
    "escaped line break in the path": (400, get(first=b"GET /a%0d%0aX:1 HTTP/1.1")),
    "malformed escape in the path": (400, get(first=b"GET /a%2 HTTP/1.1")),
    "escape of no hexadecimal digits": (400, get(first=b"GET /%zz HTTP/1.1")),
    "backslash in the path": (400, get(first=b"GET /..\\admin HTTP/1.1")),
    "dot segment with a parameter": (400, get(first=b"GET /public/..;/admin HTTP/1.1")),
    "dot segment before an escaped slash": (400, get(first=b"GET /public/..%2Fadmin HTTP/1.1")),
    "relative target": (400, get(first=b"GET a HTTP/1.1")),
    "asterisk target of GET": (400, get(first=b"GET * HTTP/1.1")),
    "host:port target of GET": (400, get(first=b"GET x:80 HTTP/1.1")),
    "absolute target with unknown scheme": (400, get(first=b"GET ftp://x/ HTTP/1.1")),
    "method with a separator": (400, get(first=b"GE(T / HTTP/1.1")),
    "empty method": (400, get(first=b" / HTTP/1.1")),
    "non-ASCII method": (400, get(first=b"G\xc9T / HTTP/1.1")),
    "method of 33 bytes": (501, get(first=b"M" * 33 + b" / HTTP/1.1")),
    "CONNECT without port": (400, get(first=b"CONNECT x HTTP/1.1")),
    "CONNECT with an empty port": (400, get(first=b"CONNECT x: HTTP/1.1")),
    "CONNECT to port 0": (400, get(first=b"CONNECT x:0 HTTP/1.1")),
    "CONNECT to port 65536": (400, get(first=b"CONNECT x:65536 HTTP/1.1")),
    "CONNECT to a path": (400, get(first=b"CONNECT /a HTTP/1.1")),
    "CONNECT to an address": (400, get(first=b"CONNECT http://x:80 HTTP/1.1")),
    "CONNECT with user": (400, get(first=b"CONNECT me@x:80 HTTP/1.1")),
    "CONNECT to nothing": (400, get(first=b"CONNECT :80 HTTP/1.1")),
    "CONNECT to IPv6 without brackets": (400, get(first=b"CONNECT ::1:80 HTTP/1.1")),
    "CONNECT without Host": (400, get(first=b"CONNECT x:80 HTTP/1.1", host=b"")),
    "CONNECT with a body": (400, get(b"Content-Length: 3", first=b"CONNECT x:80 HTTP/1.1") + b"abc"),
    "CONNECT with a chunked body": (400, get(b"Transfer-Encoding: chunked", first=b"CONNECT x:80 HTTP/1.1") + BODY),
    "websocket without key": (400, get(b"Connection: Upgrade", b"Upgrade: websocket")),
    "websocket with a short key": (400, get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: YQ==")),
    "websocket with two keys": (400, get(b"Connection: Upgrade", b"Upgrade: websocket", *[WS_KEY] * 2)),
    "TLS on a plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Which host?
    "no Host": (400, get(host=b"")),
    "no Host beside an absolute target": (400, get(first=b"GET http://x/ HTTP/1.1", host=b"")),
    "two Hosts": (400, get(b"Host: y")),
    "two Hosts, same": (400, get(b"Host: x")),
    "two Hosts, one empty": (400, get(b"Host:")),
    "two Hosts on HTTP/1.0": (400, get(b"Host: y", first=b"GET / HTTP/1.0")),
    "Host empty": (400, get(host=b"Host:\r\n")),
    "Host list": (400, get(host=b"Host: x, y\r\n")),
    "Host with a path": (400, get(host=b"Host: x/y\r\n")),
    "Host with user": (400, get(host=b"Host: me@x\r\n")),
    "Host with space": (400, get(host=b"Host: x y\r\n")),
    "Host with backslash": (400, get(host=b"Host: x\\y\r\n")),
    "Host with question mark": (400, get(host=b"Host: x?y\r\n")),
    "Host non-ASCII": (400, get(host=b"Host: \xe9\r\n")),
    "Host with a word as port": (400, get(host=b"Host: x:http\r\n")),
    "Host with port 65536": (400, get(host=b"Host: x:65536\r\n")),
    "Host with two ports": (400, get(host=b"Host: x:1:2\r\n")),
    "Host with an open bracket": (400, get(host=b"Host: [::1\r\n")),
    "Host with IPv6 and no brackets": (400, get(host=b"Host: ::1\r\n")),
    "absolute target with user": (400, get(first=b"GET http://me@x/ HTTP/1.1")),
    "absolute target without host": (400, get(first=b"GET http:///a HTTP/1.1")),
    "absolute target, Host invalid": (400, get(first=b"GET http://x/ HTTP/1.1", host=b"Host: x y\r\n")),
    # What may Connection take from the message?
    "Connection names Host": (400, get(b"Connection: close, Host")),
    "Connection names Content-Length": (400, post(b"Connection: content-length", b"Content-Length: 3", body=b"abc")),
    "Connection names Transfer-Encoding": (400, get(b"Connection: Transfer-Encoding")),
    "Connection names traceparent": (400, get(b"Connection: keep-alive", b"Connection: TraceParent")),
    "Connection names Authorization": (400, get(b"Connection: authorization,close")),
    # How much?
    "101 fields": (431, get(*[b"X-%d: 1" % n for n in range(100)])),
    "200 fields": (431, get(*[b"X: 1"] * 200)),
    "field of 70 KiB": (431, get(b"X: " + b"a" * 70 * 1024)),
    "61 KiB of fields": (431, get(*[b"X: " + b"a" * 1000] * 62)),
    "70 KiB without an end": (431, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70 * 1024),
    "target of 8 KiB + 1": (414, get(first=b"GET /" + b"a" * 8192 + b" HTTP/1.1")),
    "target of 9 KiB": (414, get(first=b"GET /" + b"a" * 9 * 1024 + b" HTTP/1.1")),
    "first line of 9 KiB without an end": (414, b"GET /" + b"a" * 9 * 1024),
    "method of 9 KiB": (414, b"G" * 9 * 1024),
}  # fmt: skip

ACCEPTED = {
    "plain": get(),
    "HTTP/1.0 without Host": b"GET / HTTP/1.0\r\n\r\n",
    "one empty line before the request line": b"\r\n" + get(),
    "no space after colon": get(b"X:a"),
    "white space around a value": get(b"X: \t a \t "),
    "empty value": get(b"X:"),
    "tab inside a value": get(b"X: a\tb"),
    "obs-text in a value": get(b"X: \xe9\xff"),
    "TE Chunked": post(b"Transfer-Encoding: Chunked", body=BODY),
    "TE with white space": post(b"transfer-encoding: \t chunked \t", body=BODY),
    "CL with leading zeros": post(b"Content-Length: 003", body=b"abc"),
    "CL 0": post(b"Content-Length: 0"),
    "GET with a body": get(b"Content-Length: 3") + b"abc",
    "100 fields": get(*[b"X: 1"] * 99),
    "59 KiB of fields": get(*[b"X: " + b"a" * 1000] * 59),
    "target of 8 KiB": get(first=b"GET /" + b"a" * 8191 + b" HTTP/1.1"),
    "OPTIONS *": get(first=b"OPTIONS * HTTP/1.1"),
    "unknown method": get(first=b"M-SEARCH / HTTP/1.1"),
    "percent, semicolon, brackets in the target": get(first=b"GET /%2F;a=[b]{c}|d?e=^f HTTP/1.1"),
    "Host with port": get(host=b"Host: x:8080\r\n"),
    "Host with empty port": get(host=b"Host: x:\r\n"),
    "Host IPv6": get(host=b"Host: [2001:db8::1]:8080\r\n"),
    "Host IPv4": get(host=b"Host: 127.0.0.1:1\r\n"),
    "Host with underscore": get(host=b"Host: my_service\r\n"),
    "Upgrade: h2c": get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    "Upgrade: websocket": get(b"Connection: Upgrade", b"Upgrade: websocket", WS_KEY),
    "Upgrade that Connection does not name": get(b"Upgrade: websocket"),
    "Upgrade with a body": post(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 3", body=b"abc"),
    "CONNECT": get(first=b"CONNECT x:443 HTTP/1.1"),
    "CONNECT with a length of 0": get(b"Content-Length: 0", first=b"CONNECT [::1]:1 HTTP/1.1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_that_could_be_misread_is_refused(name: str) -> None:
    status, stream = REFUSED[name]

    got = serve(stream, close=False)

    assert not got.messages
    assert got.fault is not None
    assert (got.fault.status, got.fault.flag) == (status, "DPE")
    assert got.fault.upstream_untouched
    assert got.fault.sentence.isprintable()
    assert len(got.fault.sentence) < 250


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusal_does_not_depend_on_how_the_bytes_arrive(name: str) -> None:
    _, stream = REFUSED[name]

    step = 1 if len(stream) < 2000 else 977
    assert serve(stream, every(step, stream), close=False).fault == serve(stream, close=False).fault


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_head_that_has_one_meaning_is_accepted(name: str) -> None:
    stream = ACCEPTED[name]

    got = serve(stream)

    assert got.fault is None
    assert [message.complete for message in got.messages] == [True]
    step = 1 if len(stream) < 2000 else 977
    assert [m.facts for m in serve(stream, every(step, stream)).messages] == [m.facts for m in got.messages]


@pytest.mark.parametrize("name", REFUSED)
def test_a_good_request_before_a_bad_one_is_served(name: str) -> None:
    status, stream = REFUSED[name]

    got = serve(get() + stream, close=False)

    assert [message.complete for message in got.messages] == [True]
    assert got.fault is not None
    assert got.fault.status == status
