"""The name that a TLS client asks for, read from the hellos of real clients and from made ones."""

import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.client_hello import ClientHello, HelloReader, NotTls


def python_hello(name: str | None, alpn: list[str] | None = None) -> bytes:
    """What Python's own client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def u16(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + u16(content)


def sni(name: bytes, kind: int = 0) -> bytes:
    return extension(0, u16(bytes((kind,)) + u16(name)))


def message(extensions: bytes, after: bytes = b"", session: bytes = b"s" * 32) -> bytes:
    """A ClientHello as a handshake message."""
    body = b"\x03\x03" + b"r" * 32 + bytes((len(session),)) + session + u16(b"\x13\x01") + b"\x01\x00"
    body += u16(extensions) + after
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(handshake: bytes, size: int = 16_384) -> bytes:
    return b"".join(b"\x16\x03\x01" + u16(handshake[start : start + size]) for start in range(0, len(handshake), size))


def read(data: bytes, step: int = 1 << 20) -> ClientHello | None:
    """Feed `data` in pieces of `step` bytes."""
    reader = HelloReader()
    for start in range(0, len(data), step):
        hello = reader.feed(data[start : start + step])
        if hello is not None:
            return hello
    return None


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])
def test_pythons_hello_is_read_whatever_the_cut(step: int) -> None:
    hello = read(python_hello("Stock.Shop.example", ["h2", "http/1.1"]), step)

    assert hello == ClientHello(b"stock.shop.example", (b"h2", b"http/1.1"))


def test_a_hello_need_not_have_a_name() -> None:
    assert read(python_hello(None)) == ClientHello(b"", ())


@pytest.mark.needs("openssl")
def test_openssls_hello_is_read() -> None:
    sent = first_bytes_of("openssl", "s_client", "-servername", "a.example", "-alpn", "h2", "-connect")

    assert read(sent) == ClientHello(b"a.example", (b"h2",))


@pytest.mark.needs("curl")
def test_curls_hello_is_read() -> None:
    sent = first_bytes_of("curl", "-sk", "--connect-to", "b.example:443:{}", "https://b.example/")
    hello = read(sent)

    assert hello is not None
    assert hello.server_name == b"b.example"
    assert b"http/1.1" in hello.alpn


def first_bytes_of(*command: str) -> bytes:
    """What a command sends first to the address that stands at `{}`, or else at its end."""
    assert shutil.which(command[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        arguments = [part.replace("{}", address) for part in command]
        if arguments == list(command):
            arguments.append(address)
        got: list[bytes] = []

        def accept() -> None:
            peer, _ = server.accept()
            with peer:
                got.append(peer.recv(65_536))

        accepting = threading.Thread(target=accept)
        accepting.start()
        subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
        accepting.join()
    return got[0]


def test_grease_and_encrypted_hellos_are_skipped() -> None:
    data = records(
        message(extension(0x0A0A, b"") + extension(0xFE0D, b"x" * 300) + sni(b"c.example") + b"\xfa\xfa\0\0")
    )

    assert read(data) == ClientHello(b"c.example", ())


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_hello_may_be_cut_into_records(size: int) -> None:
    assert read(records(message(sni(b"d.example")), size), step=5) == ClientHello(b"d.example", ())


def test_everything_taken_can_be_handed_on() -> None:
    data = records(message(sni(b"e.example"))) + b"early data"
    reader = HelloReader()
    reader.feed(data[:10])
    reader.feed(data[10:])

    assert reader.taken == data


@pytest.mark.parametrize("name", [b"a", b"1.2.3.4", b"a_b.example", b"x" * 63 + b".example", b"xn--bcher-kva.example"])
def test_host_names_are_taken(name: bytes) -> None:
    assert read(records(message(sni(name.upper() + b".")))) == ClientHello(name, ())


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"a..b",
        b"a\x00b",
        b"a b",
        b"-a",
        b"a-",
        b"*.example",
        b"a/b",
        b"\xc3\xa9",
        b"x" * 64,
        b"a." * 130 + b"a",
    ],
)
def test_names_that_are_no_host_names_are_refused(name: bytes) -> None:
    with pytest.raises(NotTls, match="is not a host name"):
        read(records(message(sni(name))))


REFUSED = [
    (b"\x15", "handshake record was expected"),
    (b"\x16\x02", "version"),
    (b"\x16\x03\x01\x00\x00", "0 bytes"),
    (b"\x16\x03\x01\x40\x01", "16385 bytes"),
    (records(b"\x02"), "no ClientHello"),
    (records(b"\x01\x01\x00\x00"), "longer than"),
    (records(message(sni(b"a")), 20)[:25] + b"\x17\x03\x03", "handshake record was expected"),
    (records(message(b"", after=b"x")), "follow the end"),
    (records(message(b"\x00")), "past its end"),
    (records(message(sni(b"a") + sni(b"a"))), "twice"),
    (records(message(sni(b"a", kind=1))), "exactly one"),
    (records(message(extension(0, u16(b"\x00" + u16(b"a") + b"\x00" + u16(b"b"))))), "exactly one"),
    (records(message(extension(0, b"\x00"))), "past its end"),
    (records(message(extension(16, u16(b"")))), "ALPN"),
    (records(message(extension(16, u16(b"\x00")))), "ALPN"),
    (records(message(extension(16, u16(b"\x02h2") + b"x"))), "ALPN"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_is_malformed_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(NotTls, match=why):
        read(data)


def test_a_hello_without_extensions_is_tls_1_2_and_has_no_name() -> None:
    body = b"\x03\x03" + b"r" * 32 + b"\x00" + u16(b"\x00\x2f") + b"\x01\x00"

    assert read(records(b"\x01" + len(body).to_bytes(3, "big") + body)) == ClientHello(b"", ())


@pytest.mark.parametrize("size", [1, 16_384])
def test_what_is_kept_is_bounded(size: int) -> None:
    endless = records(message(extension(0x0A0A, b"x" * 16_330)), size)

    for step in (1, 100, 1 << 20):
        with pytest.raises(NotTls, match="longer than 16384 bytes"):
            read(endless, step)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_crash_it(data: bytes, step: int) -> None:
    outcomes = []
    for prefix in (b"", b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc"):
        for pieces in (1 << 20, step):
            try:
                outcomes.append(str(read(prefix + data, pieces)))
            except NotTls as exc:
                outcomes.append(str(exc))

    assert outcomes[0] == outcomes[1]
    assert outcomes[2] == outcomes[3]


@given(st.data())
def test_a_flipped_byte_is_refused_or_read_but_never_more(data: st.DataObject) -> None:
    whole = bytearray(records(message(sni(b"f.example") + extension(16, u16(b"\x02h2")))))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        hello = read(bytes(whole))
    except NotTls:
        return
    assert hello is None or len(hello.server_name) < 20
