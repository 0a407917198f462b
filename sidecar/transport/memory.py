"""Streams in memory, for the whole proxy on virtual time: the stream contract without a kernel.

A `MemoryNetwork` has listeners by address and dials between them. Bytes go through bounded pipes, so back-pressure,
half-close, reset and refusal behave as on sockets. Readiness is told in a later turn of the network's task, never
inside the peer's call, exactly as the reactor does it. Identities are asserted, not proven: certificates need real TLS.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from sidecar.transport.stream import READ_BYTES, Peer, Stream

PIPE_BYTES = 65_536  # what one direction holds before the writer has to wait


class _Pipe:
    """One direction: bytes under way, then perhaps an end."""

    __slots__ = ("chunks", "ended", "held", "reset")

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.held = 0
        self.ended = False
        self.reset = False


class MemoryNetwork:
    """Addresses, listeners and the task that tells streams of readiness. `run` it in a nursery."""

    def __init__(self) -> None:
        self._listeners: dict[str, Callable[[MemoryStream], None]] = {}
        self._ready: deque[MemoryStream] = deque()
        self._wake: trio.Event = trio.Event()
        self._ports = 49_152

    def listen(self, address: str, accept: Callable[["MemoryStream"], None]) -> None:
        """Call `accept` with the server's end of every connection dialled to `address`."""
        self._listeners[address] = accept

    def unlisten(self, address: str) -> None:
        """Refuse further dials."""
        self._listeners.pop(address, None)

    def dial(self, address: str, *, principal: str = "", server_name: str = "", alpn: str = "") -> "MemoryStream":
        """Connect to a listener; identities are what each side will see of the other.

        Raises:
            ConnectionRefusedError: Nobody listens there.
        """
        accept = self._listeners.get(address)
        if accept is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        self._ports += 1
        forth, back = _Pipe(), _Pipe()
        client = MemoryStream(self, Peer(address, alpn=alpn), back, forth)
        server = MemoryStream(self, Peer(f"memory:{self._ports}", principal, server_name, alpn), forth, back)
        client.twin, server.twin = server, client
        accept(server)
        return client

    async def run(self) -> None:
        """Deliver readiness for ever; cancel to end."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            waiting, self._ready = self._ready, deque()
            for stream in waiting:
                self.turn(stream)
            await trio.lowlevel.checkpoint()

    def turn(self, stream: "MemoryStream") -> None:
        """Tell one stream's owner. What a handler raises ends `run`; a subclass may take it otherwise."""
        stream.on_turn()

    def announce(self, stream: "MemoryStream") -> None:
        """Give `stream` a turn soon."""
        self._ready.append(stream)
        self._wake.set()


@dataclass(slots=True)
class _Interest:
    read: bool = False
    write: bool = False
    told: bool = False
    hangup: bool = True  # to be told of one once, until reading is asked for again; else nobody's stream would spin


class MemoryStream(Stream):
    """One end of a connection in memory."""

    __slots__ = ("_inbound", "_interest", "_network", "_outbound", "twin")

    def __init__(self, network: MemoryNetwork, peer: Peer, inbound: _Pipe, outbound: _Pipe) -> None:
        super().__init__(peer)
        self.twin: MemoryStream | None = None
        self._network = network
        self._inbound = inbound
        self._outbound = outbound
        self._interest = _Interest()

    @property
    def last_bytes(self) -> int | None:
        """See `Stream`."""
        return self._inbound.held if self._inbound.ended else None

    def _recv(self) -> bytes | None:
        pipe = self._inbound
        if pipe.reset and not pipe.chunks:
            raise ConnectionResetError(104, "Connection reset by peer")
        if pipe.chunks:
            data = pipe.chunks.popleft()
            pipe.held -= len(data)
            self._tell_twin()
            if pipe.chunks or pipe.ended:
                self.tell()
            return data
        return b"" if pipe.ended else None

    def _transmit(self, data: bytes | memoryview) -> int:
        pipe = self._outbound
        if self._inbound.reset or pipe.ended or (self.twin is not None and self.twin.closed):
            raise BrokenPipeError(32, "Broken pipe")
        taken = min(PIPE_BYTES - pipe.held, len(data))
        for start in range(0, taken, READ_BYTES):
            pipe.chunks.append(bytes(data[start : min(start + READ_BYTES, taken)]))
        pipe.held += taken
        self._tell_twin()
        return taken

    def _arm(self, *, read: bool | None = None, write: bool | None = None) -> None:
        if read is not None:
            self._interest.read = read
            self._interest.hangup |= read
        if write is not None:
            self._interest.write = write
        self.tell()

    def _end_writing(self) -> None:
        self._outbound.ended = True
        self._tell_twin()

    def _release(self, *, abort: bool) -> None:
        unread = bool(self._inbound.chunks)
        self._inbound.chunks.clear()
        self._inbound.held = 0
        if abort or unread:  # a socket closed over unread data resets its peer, which can still read what it has
            self._outbound.reset = True
        if abort:  # as if it had overtaken what was under way
            self._outbound.chunks.clear()
        self._outbound.ended = True
        self._tell_twin()

    def on_turn(self) -> None:
        """The network's turn: tell the owner what it asked to be told."""
        self._interest.told = False
        if self.closed:
            return
        pipe = self._inbound
        hangup = pipe.reset and self._interest.hangup
        readable = self._interest.read and bool(pipe.chunks or pipe.ended)
        writable = self._interest.write and (self._outbound.held < PIPE_BYTES or pipe.reset)
        if hangup:
            self._interest.hangup = False
        if readable or writable or hangup:
            self.on_event(readable=readable, writable=writable, hangup=hangup)

    def tell(self) -> None:
        if not self._interest.told:
            self._interest.told = True
            self._network.announce(self)

    def _tell_twin(self) -> None:
        if self.twin is not None and not self.twin.closed:
            self.twin.tell()
