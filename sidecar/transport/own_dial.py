"""Did this very process dial the connection that it has just accepted?

The loop that `capture.is_own` cannot see: rules applied for another user than the sidecar's send its own upstream
connections back to it, each with a foreign destination, and it would dial them again without end. The kernel is asked
who holds the client's end (sock_diag, one exchange on a netlink socket, 17 us, no privilege). Asked for captured
connections only. Where the kernel does not tell, the answer is no: then only the limit of connections ends a loop.
"""

import os
import socket
import stat
import struct
from ipaddress import ip_address
from typing import NamedTuple

from sidecar.model.bootstrap import HostPort

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port: struct nlmsghdr
_ASK = struct.Struct("=BBBxI")  # family, protocol, extensions, states: struct inet_diag_req_v2 up to its id
_ID = struct.Struct("!HH16s16s12s")  # ports, addresses, interface and cookie: struct inet_diag_sockid
_ANY_INTERFACE_AND_COOKIE = b"\0" * 4 + b"\xff" * 8
_OWNER = struct.Struct("=4x48x12xII")  # struct inet_diag_msg: uid and inode behind state, id, and three counters
_ANSWER_BYTES = 4096
_LIMIT_S = 0.05  # the kernel answers before send() returns


class Owner(NamedTuple):
    """Who holds a socket of this machine."""

    uid: int
    inode: int


def is_own_dial(accepted: socket.socket, destination: HostPort) -> bool:
    """Whether the client of a captured connection is a socket of this process.

    With another user at the other end, which is the rule, this is one question to the kernel. With our own user (rules
    that tell us apart by group) our descriptors are looked through: 1 us each.

    Args:
        destination: From `capture.original_destination`: what the client believes to be connected to.
    """
    try:
        host, port = accepted.getpeername()[:2]
        owner = owner_of(HostPort(host, port), destination)
    except (OSError, ValueError):
        return False
    return owner is not None and owner.uid == os.geteuid() and _is_ours(owner.inode)


def owner_of(local: HostPort, remote: HostPort) -> Owner | None:
    """The owner of the TCP socket of this machine that is connected from `local` to `remote`; None: there is none.

    Raises:
        OSError: The kernel does not say.
        ValueError: An address is not numeric.
    """
    here, there = _packed(local.host), _packed(remote.host)
    family = socket.AF_INET if len(here) == 4 else socket.AF_INET6
    asked = _ASK.pack(family, socket.IPPROTO_TCP, 0, 0xFFFF_FFFF)
    asked += _ID.pack(local.port, remote.port, here, there, _ANY_INTERFACE_AND_COOKIE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_LIMIT_S)
        kernel.send(_HEADER.pack(_HEADER.size + len(asked), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0) + asked)
        answer = kernel.recv(_ANSWER_BYTES)
    kind = _HEADER.unpack_from(answer)[1]
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _HEADER.size + _OWNER.size:
        return None
    return Owner(*_OWNER.unpack_from(answer, _HEADER.size))


def _packed(host: str) -> bytes:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)  # the client's own end is plain IPv4
    return bytes((mapped or address).packed)


def _is_ours(inode: int) -> bool:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a name is a number, nothing is joined
        try:
            found = os.fstat(int(name))
        except OSError:
            continue  # the descriptor of the listing itself
        if found.st_ino == inode and stat.S_ISSOCK(found.st_mode):
            return True
    return False
