"""The open loop against a small server: what counts as late, and as an error."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import openloop
from bench.openloop import Generator, quantiles

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"


@contextmanager
def server(*parts: bytes, delay_s: float = 0.0) -> Iterator[str]:
    """Answers each read of each connection with `parts`, one write each; no parts closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        pause = threading.Event()
        with client:
            while client.recv(4096):
                pause.wait(delay_s)
                for part in parts:
                    client.sendall(part)
                if not parts:
                    return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()


def play(address: str, *, rate: float = 200.0, connections: int = 4) -> Generator:
    generator = Generator(address, connections, [b"GET / HTTP/1.1\r\n\r\n"], 4)
    generator.run(rate, 0.1)
    generator.close()
    return generator


def test_quantiles_are_of_the_values_themselves() -> None:
    assert quantiles([float(number) for number in range(1000, 0, -1)]) == {
        "p50": 501.0,
        "p90": 901.0,
        "p99": 991.0,
        "p99.9": 1000.0,
    }
    assert quantiles([]) == {}


@pytest.mark.parametrize("parts", [(ANSWER,), (ANSWER[:10], ANSWER[10:]), (ANSWER[:-2], ANSWER[-2:])])
def test_every_request_is_answered_however_the_answer_is_cut(parts: tuple[bytes, ...]) -> None:
    with server(*parts) as address:
        found = play(address)

    assert (len(found.latencies), found.errors) == (20, 0)


def test_a_request_that_waits_for_a_connection_is_late_from_the_time_it_was_meant_for() -> None:
    with server(ANSWER, delay_s=0.02) as address:
        found = play(address, connections=1)

    # 5 ms apart, 20 ms each: the last one has waited for all before it.
    assert max(found.latencies) > 0.2
    assert len(found.lateness) < 5  # the generator was not what was late


def test_connections_settle_without_being_timed() -> None:
    with server(ANSWER, delay_s=0.01) as address:
        generator = Generator(address, 4, [b"GET / HTTP/1.1\r\n\r\n"], 4)
        generator.settle()
        settled = (len(generator.latencies), generator.errors)
        generator.run(200.0, 0.1)
        generator.close()

    assert settled == (0, 0)
    assert (len(generator.latencies), generator.errors) == (20, 0)


def test_requests_without_an_answer_in_time_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openloop, "_GRACE_S", 0.05)
    with server(ANSWER, delay_s=0.04) as address:
        found = play(address, connections=1)

    assert found.errors == 0
    assert found.unanswered == 20 - len(found.latencies) > 10


def test_failed_answers_and_lost_connections_are_errors() -> None:
    with server(ANSWER.replace(b"200", b"503")) as address:
        assert play(address).errors == 20
    with server() as address:
        found = play(address)
    assert (len(found.latencies), found.errors) == (0, 20)
