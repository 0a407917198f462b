"""Network namespaces that a test makes for itself: a machine of its own, as far as addresses and rules go.

`pair()` makes two, joined by a veth pair with IPv4 and IPv6, and takes them away on every path. Sockets made inside
`with namespace.entered():` belong to it for good and are used from the test as usual; `as_user` gives them an owner,
which is what capture rules go by. Whole processes are started with `namespace.command(...)`.

Needs root, `ip` and, for rules, `nft`: mark tests with `@pytest.mark.needs("ip", "nft")`. Where the machine does not
allow namespaces (most containers), tests that ask for one are skipped with the kernel's reason.
"""

import ctypes
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.needs import find

LIMIT_S = 20.0
_CLONE_NEWNET = 0x40000000
_MAC = {"fd77::1": "02:00:00:00:00:01", "fd77::2": "02:00:00:00:00:02"}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Namespace:
    """One network namespace. `ipv4` and `ipv6` are its addresses on the link to the other one of a pair."""

    name: str
    ipv4: str
    ipv6: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside, this thread only. For making sockets: never await in here."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open("rb") as home, Path(f"/run/netns/{self.name}").open("rb") as there:
            _set_namespace(libc, there.fileno())
            try:
                yield
            finally:
                _set_namespace(libc, home.fileno())

    def listen(self, host: str, port: int, *, ipv6_only: bool = False) -> socket.socket:
        """A listening socket inside. `ipv6_only` is for `::` beside 0.0.0.0."""
        with self.entered():
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.settimeout(LIMIT_S)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ipv6_only:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen()
        return made

    def connect(self, host: str, port: int, *, uid: int = 0, timeout_s: float = LIMIT_S) -> socket.socket:
        """A connected socket inside that belongs to `uid`."""
        with self.entered(), as_user(uid):
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.settimeout(timeout_s)
        try:
            made.connect((host, port))
        except BaseException:
            made.close()
            raise
        return made

    def command(self, *words: str, uid: int | None = None) -> list[str]:
        """The command line that runs `words` inside, as `uid` if given: for subprocess and trio.run_process alike."""
        user = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return [_tool("ip"), "netns", "exec", self.name, *user, *words]

    def run(self, *words: str, uid: int | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a short command inside to its end."""
        return subprocess.run(
            self.command(*words, uid=uid), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    def ruleset(self) -> str:
        """All nftables rules inside."""
        done = self.run(_tool("nft"), "list", "ruleset")
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Sockets made meanwhile belong to `uid`. The whole process is that user for the moment: never await in here."""
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces that reach each other; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces are made and entered")
    number = next(_numbers)
    here, there = f"mesh-{os.getpid()}-{number}a", f"mesh-{os.getpid()}-{number}b"
    with ExitStack() as stack:
        for name in (here, there):
            _made(stack, name)
        _ip("link", "add", "link0", "netns", here, "type", "veth", "peer", "name", "link0", "netns", there)
        ends = (Namespace(here, "10.77.0.1", "fd77::1"), Namespace(there, "10.77.0.2", "fd77::2"))
        for end in ends:
            _ip("-n", end.name, "link", "set", "lo", "up")
            _ip("-n", end.name, "address", "add", f"{end.ipv4}/24", "dev", "link0")
            # nodad: an address that is checked for duplicates first cannot be used for a second.
            _ip("-n", end.name, "address", "add", f"{end.ipv6}/64", "dev", "link0", "nodad")
            _ip("-n", end.name, "link", "set", "link0", "address", _MAC[end.ipv6], "up")
        for end, other in (ends, ends[::-1]):
            # The kernel asks for a neighbour at once, then after a second: on a link this young the first one is lost.
            _ip("-n", end.name, "neighbour", "add", other.ipv6, "lladdr", _MAC[other.ipv6], "dev", "link0")
        yield ends


def _made(stack: ExitStack, name: str) -> None:
    try:
        _ip("netns", "add", name)
    except AssertionError as refusal:
        pytest.skip(f"this machine does not allow network namespaces: {refusal}")
    stack.callback(_ip, "netns", "delete", name)


def _ip(*words: str) -> None:
    done = subprocess.run([_tool("ip"), *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"


def _tool(name: str) -> str:
    found = find(name)
    assert found is not None  # the `needs` marker of each test that comes here
    return found


def _set_namespace(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
