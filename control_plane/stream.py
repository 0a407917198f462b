"""One identified sidecar's connection: read messages, write messages, end cleanly.

serve.py makes one after the handshake. Two tasks: one reads and hands each message to the hub, one writes what the hub
queued, and a beat when there was nothing for 10 s. The hub never waits for a stream: a queue of MAX_QUEUED messages
lies between, and a peer that does not empty it is closed.

A last word (`error`) still goes out before the end, for at most GOODBYE_S.
"""

import trio

from control_plane.authority import Authority, Bucket, SigningError
from control_plane.push import Hub
from control_plane.register import HelloRefused
from control_plane.settings import Intervals
from control_plane.sidecars import Sidecar
from control_plane.store.contract import StoreError
from sidecar.control.messages import (
    Beat,
    Cert,
    Error,
    FromControlPlane,
    Hello,
    Join,
    Message,
    Renew,
    parse,
    to_wire,
)
from sidecar.control.wire import FrameReader, WireError, encode

MAX_QUEUED = 64  # the parts of one push of 64 MiB, and a few small ones; documents are shared, not copied
READ_BYTES = 65_536
MAX_UNFINISHED_BYTES = 128 * 1024 * 1024  # of all streams together; a frame may have 4 MiB, and there are thousands
RENEWALS_AT_ONCE = 3  # of one sidecar, and one more in RENEWAL_S; it needs one in twelve hours
RENEWAL_S = 10.0
# How fast one sidecar is read: reports of half a megabyte a second are far more than it has to say. A message costs as
# MESSAGE_BYTES besides, because small ones make work, too. Whoever says more waits; what it says at once may be more.
READ_BYTES_PER_S = 512 * 1024
READ_BURST_S = 16.0
MESSAGE_BYTES = 4_096
WRITE_S = 30.0
GOODBYE_S = 2.0


class Ended(Exception):  # noqa: N818 - the usual end of a connection
    """A connection ends; str() says why. `label` is one of a few words, for the metric."""

    def __init__(self, label: str, why: str, *, worth_a_line: bool = True) -> None:
        super().__init__(why)
        self.label = label
        self.worth_a_line = worth_a_line


class Unfinished:
    """How much all streams together hold of messages whose end has not come."""

    def __init__(self) -> None:
        self._bytes: dict[object, int] = {}
        self._total = 0

    def note(self, stream: object, size: int) -> None:
        """Say what a stream holds now. Raises WireError when it is one of those that make it too much."""
        self._total += size - self._bytes.pop(stream, 0)
        if size:
            self._bytes[stream] = size
        if self._total > MAX_UNFINISHED_BYTES and size > READ_BYTES:
            raise WireError("too much is unfinished at once")


class Stream:
    """The connection of one sidecar; what push.py knows as its `Peer`."""

    def __init__(
        self,
        tls: "trio.SSLStream[trio.SocketStream]",
        address: str,
        identity: tuple[str, str],
        frames: FrameReader,
        hub: Hub,
        authority: Authority,
        intervals: Intervals,
        unfinished: "Unfinished",
    ) -> None:
        self._tls = tls
        self._address = address
        self._identity = identity
        self._frames = frames
        self._hub = hub
        self._authority = authority
        self._intervals = intervals
        self._out, self._queue = trio.open_memory_channel[FromControlPlane](MAX_QUEUED)
        self._renewals = Bucket(1.0 / RENEWAL_S, RENEWALS_AT_ONCE)
        self._unfinished = unfinished
        self._read_until_s = 0.0
        self._closing = trio.Event()
        self._end = Ended("closed", "closed by the sidecar", worth_a_line=False)
        self._sidecar: Sidecar | None = None

    def send(self, message: FromControlPlane) -> None:
        """See sidecars.Peer."""
        try:
            self._out.send_nowait(message)
        except trio.WouldBlock:
            self._finish(Ended("slow", f"it does not take its messages; {MAX_QUEUED} are waiting"))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # it is ending: whoever sends cannot know, and need not

    def close(self, why: str) -> None:
        """See sidecars.Peer."""
        self._finish(Ended("ended", why, worth_a_line=why != "bye"))

    async def run(self, first: list[Message | None]) -> None:
        """Serve until either side ends. Always raises: Ended, or what broke."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                nursery.start_soon(self._read, first)
                await self._closing.wait()
                self._out.close()  # the writer goes on until the queue is empty
                nursery.cancel_scope.deadline = trio.current_time() + GOODBYE_S
        finally:
            self._unfinished.note(self, 0)
            if self._sidecar is not None:
                self._hub.lost(self._sidecar, self)
        raise self._end

    def _finish(self, end: Ended) -> None:
        if not self._closing.is_set():
            self._end = end
            self._closing.set()

    async def _read(self, first: list[Message | None]) -> None:
        waiting = first
        try:
            while waiting:
                for message in waiting:
                    await self._take(message)
                waiting = await self._next_messages()
            self._finish(self._end)
        except WireError as problem:
            self.send(Error(message=str(problem), hint="the stream is closed; the sidecar may come back"))
            self._finish(Ended("wire", str(problem)))
        except HelloRefused as refusal:
            self.send(Error(message=refusal.message, hint=refusal.hint, final=refusal.final))
            self._finish(Ended("hello", f"refused: {refusal.message}"))
        except StoreError as problem:
            self.send(Error(message="the control plane cannot write to its store", hint="see its log"))
            self._finish(Ended("store", str(problem)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._finish(Ended("broken", "broken off", worth_a_line=False))

    async def _next_messages(self) -> list[Message | None]:
        """At least one whole message; empty at the end. Bytes alone do not count as a sign of life."""
        with trio.move_on_after(self._intervals.silence_s):
            while data := await self._tls.receive_some(READ_BYTES):
                found = [parse(message) for message in self._frames.feed(data)]
                self._unfinished.note(self, self._frames.unfinished_bytes)
                await self._pay(len(data) + MESSAGE_BYTES * len(found))
                if found:
                    return found
            return []
        self._finish(Ended("silent", f"silent for {self._intervals.silence_s:g} s"))
        return []

    async def _pay(self, size: int) -> None:
        """Wait until the sidecar may have said so much."""
        now_s = trio.current_time()
        self._read_until_s = max(self._read_until_s, now_s - READ_BURST_S) + size / READ_BYTES_PER_S
        if self._read_until_s > now_s:
            await trio.sleep_until(self._read_until_s)

    async def _take(self, message: Message | None) -> None:
        match message:
            case None:
                pass  # a type that this version does not know: the peer is newer
            case Renew():
                await self._renew(message)
            case Hello() if self._sidecar is None:
                self._sidecar = await self._hub.hello(self, message, self._identity, self._address)
            case Hello() | Join():
                raise WireError(f"{type(message).__name__.lower()}: not after a hello")
            case _ if self._sidecar is None:
                raise WireError(f"{type(message).__name__.lower()}: a hello must come first")
            case _:
                await self._hub.take(self._sidecar, self, message)

    async def _renew(self, message: Renew) -> None:
        if not self._renewals.take(trio.current_time()):
            self.send(Error(message="this sidecar renews too often", hint=f"wait {RENEWAL_S:g} s"))
            return
        try:
            issued = await self._authority.sign(message.csr.encode(), *self._identity)
        except SigningError as refusal:
            self.send(Error(message=refusal.message, hint=refusal.hint))
            return
        bundle = self._authority.bundle_pem.decode()
        self.send(Cert(chain=issued.chain_pem.decode(), bundle=bundle, not_after_s=issued.not_after_s))

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                message: FromControlPlane = Beat()
                with trio.move_on_after(self._intervals.beat_s):
                    message = await self._queue.receive()
                await write(self._tls, message)
        except trio.EndOfChannel:
            pass
        except Ended as end:
            self._finish(end)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._finish(Ended("broken", "broken off", worth_a_line=False))
        scope.cancel()


async def write(tls: "trio.SSLStream[trio.SocketStream]", message: FromControlPlane) -> None:
    """Send one message within WRITE_S. Raises Ended when the peer does not take it, and trio's errors."""
    with trio.move_on_after(WRITE_S) as limit:
        await tls.send_all(encode(to_wire(message)))
    if limit.cancelled_caught:
        raise Ended("slow", f"it took no bytes for {WRITE_S:g} s")
