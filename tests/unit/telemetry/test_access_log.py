"""One line a request, whatever the peer sends; the writer never waits for its reader."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigError
from sidecar.model.bootstrap import LogWhen
from sidecar.model.messages import RequestHead
from sidecar.policy.outlier import Ejected, Why
from sidecar.telemetry.access_log import FIELDS, ROUTED_FIELDS, AccessLog
from sidecar.telemetry.export.log_writer import LogWriter
from sidecar.telemetry.observer import PeerRefused, RequestDone
from sidecar.telemetry.trace import TraceContext
from tests.unit.telemetry.told import ORDERS_ID, ORDERS_V1, done

# Monotonic 100.0 is this moment.
WALL_OFFSET_S = 1_795_233_600.25 - 100.0


class Lines:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)


def log(when: LogWhen = LogWhen.ALL) -> tuple[AccessLog, Lines]:
    lines = Lines()
    return AccessLog(lines, when, WALL_OFFSET_S), lines


def logged(request: RequestDone) -> dict[str, Any]:
    access, lines = log()
    access.request_done(request)
    (line,) = lines.lines
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x80 for byte in line[:-1])
    fields = json.loads(line)
    assert isinstance(fields, dict)
    return fields


def test_every_field_of_a_request() -> None:
    fields = logged(
        done(
            attempts=2,
            tried=("orders-2", "orders-1"),
            trace=TraceContext("4bf92f3577b34da6a3ce929d0e0e4736"),
            request_id=b"r-1",
            user_agent=b"curl/7.88",
            config_version=9,
            bytes_received=5,
        )
    )
    assert list(fields) == [*(name for name, _ in FIELDS), *ROUTED_FIELDS]
    assert fields == {
        "start_time": "2026-11-21T04:00:00.250Z",
        "reporter": "source",
        "method": "GET",
        "path": "/orders/7?full=1",
        "protocol": "HTTP/1.1",
        "authority": "orders.shop",
        "response_code": 200,
        "grpc_status": "",
        "response_flags": "-",
        "details": "",
        "bytes_received": 5,
        "bytes_sent": 80,
        "duration_ms": 12.0,
        "attempts": 2,
        "tried": ["orders-2", "orders-1"],
        "retry_denied": "",
        "request_id": "r-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "peer": "127.0.0.1:50000",
        "principal": ORDERS_ID,
        "tls": True,
        "user_agent": "curl/7.88",
        "config_version": 9,
        "service": "orders.shop",
        "route_name": "shop/orders/canary",
        "upstream_cluster": "orders-v1.shop:8080",
        "upstream_endpoint": "orders-1",
        "upstream_host": "10.0.0.5:15006",
    }


def test_request_that_met_nobody() -> None:
    fields = logged(done(service=None, route="", cluster=None, endpoint=None, tried=(), tls=False))
    assert [fields[name] for name in ROUTED_FIELDS] == [""] * 5
    assert fields["tried"] == []
    assert fields["tls"] is False


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"/a\r\nHTTP/1.1 200 OK", "/a\r\nHTTP/1.1 200 OK"),
        (b"/\x1b[31mred\x07", "/\x1b[31mred\x07"),
        (b'/"},{"', '/"},{"'),
        (b"/\xff\xfe\x80", "/\ufffd\ufffd\ufffd"),
        (b"/\xe2\x80\xa8\xc2\x9b", "/\u2028\x9b"),
        (b"/%s", "/%s"),
        (b"/" + b"a" * 3_000, "/" + "a" * 2_047 + "…"),
    ],
)
def test_hostile_target_stays_one_ascii_line(sent: bytes, shown: str) -> None:
    assert logged(done(target=sent))["path"] == shown


@given(st.binary(max_size=100), st.binary(max_size=100), st.text(max_size=50), st.integers(0, 700))
def test_any_bytes_give_one_line_that_parses(one: bytes, two: bytes, text: str, repeat: int) -> None:
    hostile = one * repeat
    fields = logged(
        done(
            method=hostile, target=two * repeat, authority=hostile, user_agent=hostile, request_id=two, details=text,
            downstream_peer=text, principal=text,
        )
    )  # fmt: skip
    assert fields["details"] == text


def test_sixty_kilobytes_of_user_agent_are_cut() -> None:
    fields = logged(done(user_agent=b"\xff" * 61_440, details="x" * 5_000))
    assert len(fields["user_agent"]) == 257
    assert len(fields["details"]) == 1_024


@pytest.mark.parametrize(
    ("when", "codes"),
    [(LogWhen.NEVER, []), (LogWhen.ERRORS, [500, 404, 0]), (LogWhen.ALL, [200, 404, 500, 404, 0])],
)
def test_when_says_which_requests_are_logged(when: LogWhen, codes: list[int]) -> None:
    access, lines = log(when)
    for status, flags in ((200, "-"), (404, "-"), (500, "-"), (404, "NR"), (0, "DC")):
        access.request_done(done(status=status, flags=flags))
    assert [json.loads(line)["response_code"] for line in lines.lines] == codes


def test_a_call_that_the_service_failed_is_an_error_though_it_is_http_200() -> None:
    access, lines = log(LogWhen.ERRORS)
    for status in range(17):
        access.request_done(done(grpc_status=str(status)))
    assert [json.loads(line)["grpc_status"] for line in lines.lines] == ["2", "4", "12", "13", "14", "15"]


def test_events_are_lines_of_their_own() -> None:
    access, lines = log(LogWhen.ERRORS)
    access.ejected(Ejected(ORDERS_V1, "orders-1", 105.0, 5.0, 5, shadow=False, why=Why.FAILURES))
    access.ejected(Ejected(ORDERS_V1, "orders-1", 105.0, 5.0, 5, shadow=True, why=Why.FAILURES))
    access.peer_refused(
        PeerRefused(
            at_s=100.0, reporter="destination", peer="10.0.0.9:1", principal="spiffe://\n", reason="wrong-identity",
            details="the peer is not frontend",
        )
    )  # fmt: skip
    ejected, shadow, refused = map(json.loads, lines.lines)
    assert ejected == {
        "start_time": "2026-11-21T04:00:00.250Z",
        "event": "ejected",
        "upstream_cluster": "orders-v1.shop:8080",
        "upstream_endpoint": "orders-1",
        "reason": "failures",
        "failures": 5,
        "for_s": 5.0,
    }
    assert shadow["event"] == "would-eject"
    assert refused["event"] == "peer-refused"
    assert refused["principal"] == "spiffe://\n"
    access.when = LogWhen.NEVER
    access.ejected(Ejected(ORDERS_V1, "orders-1", 105.0, 5.0, 5, shadow=False, why=Why.FAILURES))
    assert len(lines.lines) == 3


@given(
    st.binary(max_size=60),
    st.text(max_size=40),
    st.sampled_from([1, 1, 40, 700]),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1e5),
    st.sampled_from(["shop/orders/canary", 'a%sb"%%c']),
)
def test_prepared_line_is_the_same_line(
    given_bytes: bytes, peer: str, repeat: int, started_s: float, took_s: float, route: str
) -> None:
    access, lines = log()
    one = done(
        target=b"/" + given_bytes * repeat, authority=given_bytes, user_agent=(given_bytes * repeat).strip(b" \t\r\n"),
        request_id=given_bytes * repeat, downstream_peer=peer, started_s=started_s, ended_s=started_s + took_s,
        bytes_received=7, trace=TraceContext("4bf92f3577b34da6a3ce929d0e0e4736"), config_version=9, route=route,
    )  # fmt: skip
    tally = access.tally(done(route=route))
    assert tally is not None
    head = RequestHead(one.method, one.target, one.authority, [(b"user-agent", one.user_agent)])
    took_ms = (one.ended_s - one.started_s) * 1e3
    for line in tally.lines:
        line.write(
            head, one.request_id, b"4bf92f3577b34da6a3ce929d0e0e4736", peer.encode(), started_s, took_ms, 7, 80, 9
        )
    assert lines.lines == [access.line(one)]


@pytest.mark.parametrize(("when", "counts"), [(LogWhen.NEVER, 0), (LogWhen.ERRORS, 0), (LogWhen.ALL, 1)])
def test_lines_of_a_kind_are_prepared_where_each_request_has_one(when: LogWhen, counts: int) -> None:
    access, _ = log(when)
    tally = access.tally(done())
    assert tally is not None
    assert len(tally.lines) == counts
    failed = access.tally(done(status=503))
    assert (failed is not None and bool(failed.lines)) is (when is not LogWhen.NEVER)


def test_memo_of_routes_is_bounded() -> None:
    access, _ = log()
    for number in range(3_000):
        access.request_done(done(route=f"shop/r{number}"))
    assert len(access._routed) <= 1_024


# --- the writer -------------------------------------------------------------------------------------------------------


async def test_lines_reach_the_file_in_order_and_the_last_ones_at_the_end(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"before\n")
    writer = LogWriter(str(path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.write(b"one\n")
        writer.write(b"two\n")
        await trio.sleep(0.06)
        assert path.read_bytes() == b"before\none\ntwo\n"
        writer.write(b"three\n")
        nursery.cancel_scope.cancel()
    assert path.read_bytes() == b"before\none\ntwo\nthree\n"
    assert writer.dropped == 0


async def test_reopened_file_gets_what_follows(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    writer = LogWriter(str(path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.write(b"one\n")
        await trio.sleep(0.06)
        path.rename(rotated)
        writer.reopen()
        writer.write(b"two\n")
        await trio.sleep(0.06)
        nursery.cancel_scope.cancel()
    assert (rotated.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_file_that_cannot_be_opened_is_a_complaint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"access_log.path: cannot write .*: is a directory; choose"):
        LogWriter(str(tmp_path))


async def test_full_disk_loses_the_log_and_nothing_else(autojump_clock: trio.testing.MockClock) -> None:
    writer = LogWriter("/dev/full")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.write(b"one\n")
        writer.write(b"two\n")
        await trio.sleep(0.06)
        assert writer.dropped == 2
        writer.write(b"three\n")
        nursery.cancel_scope.cancel()
    assert writer.dropped == 3


async def test_slow_reader_of_stdout_fills_the_queue_and_never_blocks() -> None:
    reader, stdout = os.pipe()
    writer = LogWriter("-", stdout=stdout, limit_bytes=200_000)
    line = b"x" * 999 + b"\n"
    got = bytearray()

    async def read_some() -> None:
        while len(got) < 150_000:
            await trio.lowlevel.wait_readable(reader)
            got.extend(os.read(reader, 65_536))

    try:
        assert os.get_blocking(stdout)  # as others who share it expect
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            for _ in range(1_000):
                writer.write(line)
            assert writer.dropped == 800
            with trio.fail_after(5):
                await read_some()
            nursery.cancel_scope.cancel()
            nursery.start_soon(read_some)
        # What the reader did not take within the last second is counted: nothing is lost silently.
        os.close(stdout)
        os.set_blocking(reader, True)
        while data := os.read(reader, 65_536):
            got.extend(data)
        assert got.count(b"\n") + writer.dropped == 1_000
        assert set(bytes(got).split(b"\n")) == {line[:-1], b""}
    finally:
        os.close(reader)


async def test_reader_that_left_is_survived(autojump_clock: trio.testing.MockClock) -> None:
    reader, stdout = os.pipe()
    writer = LogWriter("-", stdout=stdout)
    os.close(reader)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.write(b"one\n")
        await trio.sleep(0.06)
        assert writer.dropped == 1
        writer.write(b"two\n")
        nursery.cancel_scope.cancel()
    assert writer.dropped == 2
    os.close(stdout)


async def test_lines_are_never_torn_where_others_write_too(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a read takes what one write brought
    with theirs:
        with ours:
            writer = LogWriter("-", stdout=ours.fileno(), shared=True)
            lines = [b"%05d " % number + b"x" * (number * 7 % 600) + b"\n" for number in range(60)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run)
                for line in lines:
                    writer.write(line)
                await trio.sleep(0.06)
                nursery.cancel_scope.cancel()
        got = list(iter(lambda: theirs.recv(65_536), b""))
    assert all(piece.endswith(b"\n") and len(piece) <= 4_096 for piece in got)
    assert b"".join(got) == b"".join(lines)


async def test_line_longer_than_a_write_goes_out_whole(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    path = tmp_path / "access.log"
    writer = LogWriter(str(path), shared=True)
    lines = [b"a\n", b"y" * 6_000 + b"\n", b"b\n"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        for line in lines:
            writer.write(line)
        await trio.sleep(0.06)
        nursery.cancel_scope.cancel()
    assert path.read_bytes() == b"".join(lines)


async def test_socket_as_stdout_is_asked_for_room(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = LogWriter("-", stdout=ours.fileno())
        assert writer._asks_first
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            writer.write(b"a" * 10_000 + b"\n")
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(theirs.recv(65_536)) == 10_001


def test_regular_file_as_stdout_shares_its_offset(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as out:
        writer = LogWriter("-", stdout=out.fileno())
        os.write(writer._fd, b"ours\n")
        out.write(b"theirs\n")
        os.close(writer._fd)
    assert (tmp_path / "out").read_bytes() == b"ours\ntheirs\n"
    writer.reopen()  # standard output cannot be rotated by us; nothing happens
