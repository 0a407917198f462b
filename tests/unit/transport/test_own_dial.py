"""Who holds the other end of a connection on this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sidecar.model.bootstrap import HostPort
from sidecar.transport.own_dial import is_own_dial, owner_of

DIAL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))):
    sys.stdin.read()
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.create_server(
        (request.param, 0), family=socket.AF_INET6 if ":" in request.param else socket.AF_INET
    ) as made:
        made.settimeout(10.0)
        yield made


def address_of(sock: socket.socket) -> HostPort:
    return HostPort(*sock.getsockname()[:2])


def test_a_connection_of_our_own_is_known(listener: socket.socket) -> None:
    with socket.create_connection(address_of(listener)) as client, listener.accept()[0] as accepted:
        owner = owner_of(address_of(client), address_of(listener))
        assert owner == (os.geteuid(), os.fstat(client.fileno()).st_ino)
        assert is_own_dial(accepted, address_of(listener))


def test_a_connection_of_another_process_of_our_user_is_not_ours(listener: socket.socket) -> None:
    dialled = [sys.executable, "-c", DIAL, *map(str, address_of(listener))]
    with subprocess.Popen(dialled, stdin=subprocess.PIPE) as other:
        with listener.accept()[0] as accepted:
            owner = owner_of(HostPort(*accepted.getpeername()[:2]), address_of(listener))
            assert owner is not None
            assert owner.uid == os.geteuid()
            assert not is_own_dial(accepted, address_of(listener))
        other.communicate(timeout=10)


def test_ipv4_on_a_dual_stack_listener_is_found_as_what_the_client_is() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        meant = HostPort("127.0.0.1", listener.getsockname()[1])
        with socket.create_connection(meant), listener.accept()[0] as accepted:
            assert is_own_dial(accepted, meant)


def test_a_peer_on_another_machine_has_no_owner_here(listener: socket.socket) -> None:
    assert owner_of(HostPort("192.0.2.1", 1234), HostPort("192.0.2.2", 80)) is None
    with socket.create_connection(address_of(listener)), listener.accept()[0] as accepted:
        assert not is_own_dial(accepted, HostPort("192.0.2.2", 80))


def test_a_closed_connection_is_nobodys(listener: socket.socket) -> None:
    with socket.create_connection(address_of(listener)), listener.accept()[0] as accepted:
        accepted.close()
        assert not is_own_dial(accepted, address_of(listener))
