"""Binding: both families on one port, and what is said when an address cannot be had."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.transport.listen import bind, bind_unix


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("turned", [False, True])
def test_both_families_can_have_one_port(turned: bool) -> None:
    port = free_port()
    listen = (("0.0.0.0", port), ("::", port))
    first, second = reversed(listen) if turned else listen
    one = bind("inbound.listen", *first, beside=listen)
    with closing(one), closing(bind("inbound.listen", *second, beside=listen)):
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 5.0).close()


def test_ipv6_alone_takes_ipv4_too() -> None:
    port = free_port()
    with closing(bind("inbound.listen", "::", port, beside=(("::", port),))):
        socket.create_connection(("127.0.0.1", port), 5.0).close()


def test_an_address_that_is_taken_is_named() -> None:
    with closing(bind("a", "127.0.0.1", 0)) as taken, pytest.raises(ConfigError) as caught:
        bind("outbound.listen", "127.0.0.1", taken.getsockname()[1])
    assert caught.value.problems[0].startswith("outbound.listen: cannot listen on 127.0.0.1:")
    assert "another process listens there" in caught.value.problems[0]


def test_a_successor_that_says_so_shares_an_address_and_has_it_alone_in_the_end() -> None:
    with closing(bind("a", "127.0.0.1", 0)) as old:
        address = old.getsockname()
        with closing(bind("a", *address, shared=True)) as new:
            old.close()
            for _ in range(20):
                socket.create_connection(address, 5.0).close()
                new.accept()[0].close()
            with pytest.raises(ConfigError):
                bind("b", *address)


def test_a_successor_that_says_so_gets_the_path_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with closing(bind_unix("admin", path)) as old:
        with pytest.raises(ConfigError):
            bind_unix("admin", path)
        with closing(bind_unix("admin", path, shared=True)) as new, closing(socket.socket(socket.AF_UNIX)) as client:
            old.close()
            client.connect(path)
            new.accept()[0].close()
