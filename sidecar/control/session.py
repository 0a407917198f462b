"""One stream to the control plane, from `hello` to its end. client.py runs one after another.

Five small tasks share the stream: read, write, beat, report, and tell what is wanted. Only `write` touches the sending
side; the others hand it frames through a short channel, so a control plane that does not read stops our reading too.
What is said about wants is not queued but computed when there is room: the difference to what was said last.

Every wait is bounded: nothing whole heard for 30 s, or one frame not taken in 30 s, ends the session. It decides
nothing: what a message means is asked of the `Desk`.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import trio

from sidecar.control.link import Trouble, one_line, why_broken
from sidecar.control.messages import (
    Ack,
    Beat,
    Bundle,
    Bye,
    Cert,
    Drain,
    Error,
    Hello,
    Message,
    Nack,
    Rotate,
    Unwant,
    Want,
    parse,
    to_wire,
)
from sidecar.control.push import Push, PushJoiner
from sidecar.control.state import Applied
from sidecar.control.wire import BEAT_S, SILENCE_S, FrameReader, WireError, encode
from sidecar.model.clusters import ServiceKey

WRITE_S = 30.0
BYE_S = 1.0
OUTBOX = 64  # frames; answers to one push may be many, and then reading waits
WANTS_PER_MESSAGE = 1_000
READ_BYTES = 65_536

Other = Cert | Bundle | Rotate | Drain


class Desk(Protocol):
    """Who knows what to say and what to do; implemented by ControlClient."""

    def wants(self) -> frozenset[ServiceKey]:
        """All services that are wanted now."""

    def ready(self) -> bool:
        """Whether the app can take requests."""

    def report(self) -> dict[str, Any]:
        """Counters and the like, as in messages.Report."""

    def take_push(self, push: Push) -> Applied:
        """Put a whole push in force."""

    def take(self, message: Other) -> None:
        """Act upon a message that needs no answer here."""

    def complain(self, trouble: Trouble) -> None:
        """The control plane refuses something; the stream goes on."""


class Session:
    """See module. `where` names the peer in messages.

    Attributes:
        stream: Owned by the caller, who closes it after `run`.
        welcome: Set by the first message that is not a refusal.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        hello: Hello,
        desk: Desk,
        *,
        where: str,
        roots_from: str,
        report_interval_s: float,
    ) -> None:
        self.stream = stream
        self.welcome = trio.Event()
        self._hello = hello
        self._desk = desk
        self._where = where
        self._roots_from = roots_from
        self._report_interval_s = report_interval_s
        self._outbox, self._frames = trio.open_memory_channel[bytes](OUTBOX)
        self._wants_changed = trio.Event()
        self._ready_changed = trio.Event()
        self._mid_frame = False
        self._refused: Trouble | None = None
        self._ended: Trouble | None = None

    async def run(self) -> Trouble:
        """Speak until the stream ends; return why. Cancelled, it says `bye` first, within BYE_S."""
        try:
            await self.send(self._hello)
        except WireError as problem:
            return Trouble(f"the greeting could not be sent ({problem})")
        try:
            async with trio.open_nursery() as nursery:
                for task in (self._read, self._write, self._beat, self._report, self._tell_wants):
                    nursery.start_soon(self._until_it_ends, task, nursery.cancel_scope)
        finally:
            if self._ended is None:  # cancelled from outside
                await self._say_bye()
        return self._ended or Trouble(f"the stream to {self._where} ended")

    async def send(self, message: Message) -> None:
        """Queue a message; waits while the control plane does not read."""
        await self._outbox.send(encode(to_wire(message)))

    def tell_wants(self) -> None:
        """What is wanted has changed."""
        self._wants_changed.set()

    def tell_ready(self) -> None:
        """Readiness has changed: beat at once."""
        self._ready_changed.set()

    async def _until_it_ends(self, task: Callable[[], Awaitable[Trouble]], scope: trio.CancelScope) -> None:
        try:
            trouble = await task()
        except WireError as problem:
            trouble = not_understood(self._where, problem)
        except trio.BrokenResourceError as broken:
            trouble = self._refused or why_broken(broken, self._where, self._roots_from)
        self._ended = self._ended or trouble
        scope.cancel()

    # -- hearing -----------------------------------------------------------------------------------------------------

    async def _read(self) -> Trouble:
        frames, joiner = FrameReader(), PushJoiner()
        newest = -1
        heard_s = trio.current_time()
        while True:
            with trio.move_on_at(heard_s + SILENCE_S) as silence:
                data = await self.stream.receive_some(READ_BYTES)
            if silence.cancelled_caught:
                return Trouble(f"nothing was heard from {self._where} for {SILENCE_S:g} s")
            if not data:
                return self._refused or self._closed()
            for received in frames.feed(data):
                message = parse(received)
                if not isinstance(message, Error):
                    self.welcome.set()
                if isinstance(message, Push):
                    newest = _not_older(message.version, newest)
                    whole = joiner.add(message)
                    if whole is not None:
                        await self._answer(whole)
                elif isinstance(message, Error):
                    if message.final:
                        return _said(message)
                    self._refused = _said(message)  # and should it close now, that was why
                    self._desk.complain(self._refused)
                elif isinstance(message, Other):
                    self._desk.take(message)
                heard_s = trio.current_time()  # a whole message renews the patience; a byte does not

    def _closed(self) -> Trouble:
        if self.welcome.is_set():
            return Trouble(f"{self._where} closed the stream")
        sentence = f"{self._where} closed the stream before it said anything"
        return Trouble(sentence, "does it take this sidecar's certificate? Its own log says why")

    async def _answer(self, push: Push) -> None:
        applied = self._desk.take_push(push)
        for name, reason in applied.rejected.items():
            await self.send(Nack(version=push.version, name=name, reason=reason))
        await self.send(Ack(version=applied.acked_version))

    # -- speaking ----------------------------------------------------------------------------------------------------

    async def _write(self) -> Trouble:
        async for frame in self._frames:
            self._mid_frame = True
            with trio.move_on_after(WRITE_S) as patience:
                await self.stream.send_all(frame)
            if patience.cancelled_caught:
                return Trouble(f"{self._where} did not take a message for {WRITE_S:g} s")
            self._mid_frame = False
        raise AssertionError("the outbox is never closed")

    async def _beat(self) -> Trouble:
        while True:
            with trio.move_on_after(BEAT_S):
                await self._ready_changed.wait()
            self._ready_changed = trio.Event()
            await self.send(Beat(ready=self._desk.ready()))

    async def _report(self) -> Trouble:
        while True:
            await trio.sleep(self._report_interval_s)
            if self._frames.statistics().current_buffer_used:
                continue  # counters are cumulative: the next report says it all
            try:
                frame = encode({**self._desk.report(), "type": "report", "instance": self._hello.instance})
            except WireError as problem:
                self._desk.complain(Trouble(f"a report could not be sent ({problem})"))
                continue
            await self._outbox.send(frame)

    async def _tell_wants(self) -> Trouble:
        told = frozenset(self._hello.wants)
        while True:
            wanted = frozenset(map(str, self._desk.wants()))
            for gone in _in_parts(told - wanted):
                await self.send(Unwant(names=gone))
            for new in _in_parts(wanted - told):
                await self.send(Want(names=new))
            told = wanted
            await self._wants_changed.wait()
            self._wants_changed = trio.Event()

    async def _say_bye(self) -> None:
        """The lease ends at once. Not in the middle of a frame, where it would be read as part of that."""
        if self._mid_frame:
            return
        with trio.move_on_after(BYE_S, shield=True):
            try:
                await self.stream.send_all(encode(to_wire(Bye())))
                # Wait for the other side to close: closing with unread bytes is a reset, which can overtake the `bye`.
                while await self.stream.receive_some(READ_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it is gone; the lease will run out


def _not_older(version: int, newest: int) -> int:
    """Within one stream the store's revision only grows; anything else is a mix-up that must not be applied."""
    if version < newest:
        raise WireError(f"push: version {version} after version {newest}")
    return version


def not_understood(where: str, problem: WireError) -> Trouble:
    """What the peer sent cannot be read."""
    return Trouble(
        f"{where} sent what this version does not understand ({one_line(str(problem))})",
        "run the same version on both sides",
    )


def _said(error: Error) -> Trouble:
    return Trouble(f"the control plane says: {one_line(error.message)}", one_line(error.hint), error.final)


def _in_parts(names: Iterable[str]) -> list[tuple[str, ...]]:
    ordered = sorted(names)
    return [tuple(ordered[at : at + WANTS_PER_MESSAGE]) for at in range(0, len(ordered), WANTS_PER_MESSAGE)]


async def ask(stream: trio.abc.Stream, question: Message, where: str) -> Message:
    """Send one message and return the first that answers it (Cert or Error); for a join, which is all there is then.

    Does not bound the time. Raises WireError, and trio.BrokenResourceError when the stream ends before.
    """
    await stream.send_all(encode(to_wire(question)))
    frames = FrameReader()
    while True:
        data = await stream.receive_some(READ_BYTES)
        if not data:
            raise trio.BrokenResourceError(f"{where} closed the stream")
        for received in frames.feed(data):
            message = parse(received)
            if isinstance(message, Cert | Error):
                return message
