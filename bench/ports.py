"""Ports for programs that cannot say which one the kernel gave them."""

import socket


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody has now; it may be taken before it is used."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


def accepts(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
