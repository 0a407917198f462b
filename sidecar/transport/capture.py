"""Where a captured connection wanted to go, asked from the kernel.

`config/capture_rules.py` lets the kernel redirect connections to our listeners; connection tracking remembers the
destination that the client chose. Decides nothing: `proxy/captured.py` does.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterable

from sidecar.model.bootstrap import HostPort

_ORIGINAL_DST = 80  # SO_ORIGINAL_DST of linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST of netfilter_ipv6/ip6_tables.h
_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6 = struct.Struct("!2xH4x16s4x")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def original_destination(sock: socket.socket) -> HostPort | None:
    """The address that the client of an accepted connection dialled; None when nobody redirected it.

    The kernel answers for connections that were not redirected as well, with the address of the listener itself: that
    client meant us (explicit proxy), and the answer is None, too. IPv4 on a dual-stack listener is given as IPv4.
    Never raises for a TCP socket: one that is closed, or a kernel without connection tracking, gives None.
    """
    try:
        own = sock.getsockname()
        if sock.family == socket.AF_INET:
            found = _ask_ipv4(sock)
        elif sock.family == socket.AF_INET6:
            mapped = ipaddress.IPv6Address(own[0].partition("%")[0]).ipv4_mapped
            if mapped is not None:
                own, found = (str(mapped), own[1]), _ask_ipv4(sock)
            else:
                found = _ask_ipv6(sock)
        else:
            return None
    except OSError:
        return None
    return None if found == (own[0].partition("%")[0], own[1]) else found


def _ask_ipv4(sock: socket.socket) -> HostPort:
    port, packed = _SOCKADDR_IN.unpack(sock.getsockopt(socket.SOL_IP, _ORIGINAL_DST, _SOCKADDR_IN.size))
    return HostPort(socket.inet_ntoa(packed), port)


def _ask_ipv6(sock: socket.socket) -> HostPort:
    port, packed = _SOCKADDR_IN6.unpack(sock.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DST, _SOCKADDR_IN6.size))
    return HostPort(str(ipaddress.IPv6Address(packed)), port)


def is_own(address: HostPort, listeners: Iterable[HostPort]) -> bool:
    """Whether `address` leads back to one of this process's listeners, so that dialling it would be a loop.

    A listener on every address (`0.0.0.0`, `::`) is met by any address of this machine, and by no other: a peer's
    sidecar has the same port.

    Args:
        address: A numeric destination, for example from `original_destination`.
        listeners: As bound, ports resolved.
    """
    for listener in listeners:
        if listener.port == address.port:
            if listener.host == address.host:
                return True
            if listener.host in _EVERYWHERE and is_local(address.host):
                return True
    return False


def is_local(host: str) -> bool:
    """Whether this machine has the address `host`: only then it can be bound. Nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
