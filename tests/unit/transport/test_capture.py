"""Connections that nobody redirected, and what is our own; redirected ones: tests/net/test_capture.py."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sidecar.model.bootstrap import HostPort
from sidecar.transport.capture import is_local, is_own, original_destination


@contextmanager
def accepted(family: int, listen: str, dial: str) -> Iterator[socket.socket]:
    """The server's end of a connection to `dial`."""
    with socket.socket(family) as listener:
        listener.bind((listen, 0))
        listener.listen()
        with socket.create_connection((dial, listener.getsockname()[1]), 5.0):
            made, _ = listener.accept()
            with made:
                yield made


@pytest.mark.parametrize(
    ("family", "listen", "dial"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
)
def test_a_connection_that_nobody_redirected_has_no_other_destination(family: int, listen: str, dial: str) -> None:
    """With connection tracking the kernel names the listener itself, without it refuses: both mean `explicit proxy`."""
    with accepted(family, listen, dial) as sock:
        assert original_destination(sock) is None


def test_a_closed_socket_and_a_unix_socket_have_none() -> None:
    with accepted(socket.AF_INET, "127.0.0.1", "127.0.0.1") as sock:
        sock.close()
        assert original_destination(sock) is None
    one, other = socket.socketpair()
    with one, other:
        assert original_destination(one) is None


LISTENERS = [HostPort("127.0.0.1", 15001), HostPort("0.0.0.0", 15006), HostPort("::", 15006)]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1"])
def test_a_listener_on_every_address_is_met_by_any_address_of_this_machine(host: str) -> None:
    assert is_own(HostPort(host, 15006), LISTENERS)


@pytest.mark.parametrize(
    "address",
    [
        HostPort("192.0.2.1", 15006),  # a peer's sidecar has the same port
        HostPort("2001:db8::1", 15006),
        HostPort("127.0.0.9", 15001),
        HostPort("127.0.0.1", 8080),
    ],
)
def test_other_addresses_are_not_ours(address: HostPort) -> None:
    assert not is_own(address, LISTENERS)


def test_an_address_of_this_machine_is_told_from_others_without_a_packet() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")
