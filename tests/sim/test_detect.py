"""What a client speaks is found in time, and not one of its bytes is lost by looking."""

import pytest
import trio
import trio.testing

from sidecar.proxy.detect import Detected, Kind, detect
from sidecar.transport.memory import MemoryNetwork, MemoryStream
from sidecar.transport.stream import StreamBroken


class Pair:
    """A client's end and ours, on a running memory network."""

    def __init__(self, nursery: trio.Nursery) -> None:
        network = MemoryNetwork()
        accepted: list[MemoryStream] = []
        network.listen("here", accepted.append)
        self.client = network.dial("here")
        self.ours = accepted[0]
        nursery.start_soon(network.run)


async def found_in(pieces: list[tuple[float, bytes]], limit_s: float = 0.2) -> tuple[Detected, float, bytes]:
    """What is found when the client sends each piece after its pause (b"" ends it), when, and what comes after it."""
    async with trio.open_nursery() as nursery:
        pair = Pair(nursery)

        async def speak() -> None:
            for pause_s, piece in pieces:
                await trio.sleep(pause_s)
                if piece:
                    pair.client.write(piece)
                else:
                    pair.client.send_eof()

        nursery.start_soon(speak)
        began_s = trio.current_time()
        detected = await detect(pair.ours, limit_s)
        took_s = trio.current_time() - began_s
        with trio.move_on_after(10):
            rest = await pair.ours.receive()
            while rest and (more := await pair.ours.receive()):
                rest += more
        nursery.cancel_scope.cancel()
    return detected, took_s, rest


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_request_is_found_at_once(autojump_clock: trio.testing.MockClock) -> None:
    detected, took_s, rest = await found_in([(0.05, REQUEST), (1, b"more"), (0, b"")])

    assert detected == Detected(Kind.HTTP1, REQUEST)
    assert took_s == 0.05
    assert rest == b"more"


async def test_bytes_may_come_one_by_one(autojump_clock: trio.testing.MockClock) -> None:
    detected, took_s, _ = await found_in([(0.01, bytes((byte,))) for byte in b"PRI * HTTP/2.0\r\n"] + [(0, b"")])

    assert detected.kind is Kind.HTTP2
    assert took_s == pytest.approx(0.14)


async def test_a_client_that_waits_for_its_server_is_not_kept_waiting(autojump_clock: trio.testing.MockClock) -> None:
    detected, took_s, rest = await found_in([(0.3, b"HELO"), (0, b"")])

    assert detected == Detected(Kind.UNDECIDED, b"")
    assert took_s == 0.2
    assert rest == b"HELO"


async def test_the_time_is_over_in_the_middle_of_a_method(autojump_clock: trio.testing.MockClock) -> None:
    detected, took_s, rest = await found_in([(0, b"GE"), (0.5, b"T / HTTP/1.1"), (0, b"")])

    assert detected == Detected(Kind.UNDECIDED, b"GE")
    assert took_s == 0.2
    assert rest == b"T / HTTP/1.1"


async def test_a_client_that_leaves_without_a_byte_has_no_protocol(autojump_clock: trio.testing.MockClock) -> None:
    detected, _, rest = await found_in([(0.1, b"")])

    assert detected == Detected(Kind.CLOSED, b"")
    assert rest == b""


async def test_a_short_message_before_the_end_is_opaque(autojump_clock: trio.testing.MockClock) -> None:
    detected, took_s, rest = await found_in([(0, b"PING"), (0.1, b"")])

    assert detected == Detected(Kind.OPAQUE, b"PING")
    assert took_s == 0.1
    assert rest == b""  # the end is still there for the next reader


async def test_a_reset_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        pair = Pair(nursery)
        pair.client.write(b"G")
        pair.client.abort()
        with pytest.raises(StreamBroken):
            await detect(pair.ours, 0.2)
        nursery.cancel_scope.cancel()
