"""One stream on virtual time: what is said when, what is answered, and every way it can end."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from sidecar.config.resources import parse_wire
from sidecar.control import messages as m
from sidecar.control.link import Trouble
from sidecar.control.push import Item, Push, split_push
from sidecar.control.session import Other, Session, ask
from sidecar.control.state import Applied
from sidecar.control.wire import MAX_FRAME_BYTES, FrameReader, WireError, encode
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from tests.unit.control.test_state import endpoints, route, service

ORDERS, STOCK = ServiceKey("shop", "orders"), ServiceKey("shop", "stock")
HELLO = m.Hello(
    node=m.Node(service="orders", namespace="shop", id="orders-1", account="orders"),
    version="0.1.0",
    instance="0" * 16,
    wants=("orders.shop",),
)
WHERE = "the control plane at 127.0.0.1:15012"


def wire(*messages: m.Message) -> bytes:
    return b"".join(encode(m.to_wire(message)) for message in messages)


class FakeDesk:
    """Applies pushes for real; the rest is plain values."""

    def __init__(self) -> None:
        self.wanted = {ORDERS}
        self.is_ready = True
        self.counters: list[dict[str, Any]] = []
        self.applied = Applied(snapshot=Snapshot())
        self.pushes: list[Push] = []
        self.taken: list[Other] = []
        self.complaints: list[Trouble] = []

    def wants(self) -> frozenset[ServiceKey]:
        return frozenset(self.wanted)

    def ready(self) -> bool:
        return self.is_ready

    def report(self) -> dict[str, Any]:
        return {"counters": self.counters}

    def take_push(self, push: Push) -> Applied:
        self.pushes.append(push)
        self.applied = self.applied.after(push, parse_wire, self.wants())
        return self.applied

    def take(self, message: Other) -> None:
        self.taken.append(message)

    def complain(self, trouble: Trouble) -> None:
        self.complaints.append(trouble)


class Peer:
    """The control plane's end, by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._frames = FrameReader()
        self._waiting: list[m.Message] = []

    async def hear(self) -> m.Message:
        """The next message; reports and beats are heard too."""
        while not self._waiting:
            data = await self.stream.receive_some(65_536)
            assert data, "the sidecar closed the stream"
            self._waiting += [message for each in self._frames.feed(data) if (message := m.parse(each)) is not None]
        return self._waiting.pop(0)

    async def hear_but(self, *ignored: type[m.Message]) -> m.Message:
        """The next message that is none of these."""
        while isinstance(message := await self.hear(), ignored):
            pass
        return message

    async def say(self, *messages: m.Message) -> None:
        await self.stream.send_all(wire(*messages))


Script = Callable[[Peer, Session, FakeDesk], Awaitable[None]]


async def play(script: Script, desk: FakeDesk | None = None) -> tuple[Trouble, FakeDesk]:
    """Run a session against a script; when the script ends, the control plane closes."""
    desk = desk or FakeDesk()
    ours, theirs = memory_stream_pair()
    session = Session(ours, HELLO, desk, where=WHERE, roots_from="./join.pem", report_interval_s=2.0)

    async def control_plane() -> None:
        peer = Peer(theirs)
        assert await peer.hear() == HELLO
        await script(peer, session, desk)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(control_plane)
        trouble = await session.run()
        nursery.cancel_scope.cancel()
    await ours.aclose()
    return trouble, desk


async def for_ever(peer: Peer) -> None:
    while True:
        await peer.hear()


async def test_a_push_is_answered_by_one_ack(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.say(Push(version=7, set=(service(), endpoints())))
        assert await peer.hear() == m.Ack(version=7)
        assert desk.applied.snapshot.service(ORDERS)

    trouble, _ = await play(script)
    assert str(trouble) == f"{WHERE} closed the stream"


async def test_a_bad_resource_gets_a_nack_before_the_ack_and_the_rest_is_in_force(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.say(Push(version=7, set=(service(), route("orders", path_type="Telepathy"))))
        nack = await peer.hear()
        assert isinstance(nack, m.Nack)
        assert (nack.version, nack.name) == (7, "HTTPRoute/shop/orders")
        assert "Telepathy" in nack.reason
        assert await peer.hear() == m.Ack(version=7)
        assert desk.applied.snapshot.service(ORDERS)

    await play(script)


async def test_a_push_in_parts_is_applied_once_and_acknowledged_once(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        parts = split_push(7, [service(), endpoints(), route("orders")], limit=700)
        assert len(parts) > 1
        await peer.say(*parts)
        assert await peer.hear() == m.Ack(version=7)
        assert len(desk.pushes) == 1
        assert len(desk.applied.snapshot.resources) == 3

    await play(script)


async def test_half_a_push_is_never_applied(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.say(split_push(7, [service(), endpoints(), route("orders")], limit=700)[0])

    _, desk = await play(script)
    assert desk.pushes == []


async def test_beats_come_every_ten_seconds_and_at_once_when_readiness_changes(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        start_s = trio.current_time()
        assert await peer.hear_but(m.Report) == m.Beat(ready=True)
        assert trio.current_time() - start_s == pytest.approx(10.0)
        desk.is_ready = False
        session.tell_ready()
        assert await peer.hear_but(m.Report) == m.Beat(ready=False)
        assert trio.current_time() - start_s == pytest.approx(10.0)
        assert await peer.hear_but(m.Report) == m.Beat(ready=False)
        assert trio.current_time() - start_s == pytest.approx(20.0)

    await play(script)


async def test_reports_come_every_interval_with_the_instance(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        start_s = trio.current_time()
        for number in (1, 2, 3):
            assert await peer.hear() == m.Report(instance="0" * 16)
            assert trio.current_time() - start_s == pytest.approx(2.0 * number)

    await play(script)


async def test_a_report_that_is_too_large_is_left_out_and_the_stream_goes_on(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        desk.counters = [{"service": "x" * MAX_FRAME_BYTES}]
        assert await peer.hear() == m.Beat(ready=True)
        assert "a report could not be sent" in str(desk.complaints[0])

    await play(script)


async def test_only_the_difference_of_wants_is_told(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        desk.wanted = {STOCK}
        session.tell_wants()
        assert await peer.hear() == m.Unwant(names=("orders.shop",))
        assert await peer.hear() == m.Want(names=("stock.shop",))
        session.tell_wants()
        assert isinstance(await peer.hear(), m.Report)

    await play(script)


async def test_wants_that_change_before_the_stream_is_up_are_told(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        assert await peer.hear() == m.Want(names=("stock.shop",))

    desk = FakeDesk()
    desk.wanted = {ORDERS, STOCK}
    await play(script, desk)


async def test_many_wants_travel_in_parts(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        desk.wanted |= {ServiceKey("shop", f"s{number}") for number in range(2_500)}
        session.tell_wants()
        told = [await peer.hear() for _ in range(3)]
        assert [len(each.names) for each in told if isinstance(each, m.Want)] == [1_000, 1_000, 500]

    await play(script)


async def test_other_messages_reach_the_desk_and_unknown_ones_are_ignored(autojump_clock: MockClock) -> None:
    others: list[Other] = [
        m.Cert(chain="c", bundle="b", not_after_s=1.0),
        m.Bundle(bundle="b"),
        m.Rotate(spread_s=3.0),
        m.Drain(),
    ]

    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.stream.send_all(encode({"type": "song", "verse": 1}))
        await peer.say(m.Beat(), *others, Push(version=1))
        assert await peer.hear() == m.Ack(version=1)

    _, desk = await play(script)
    assert desk.taken == others


# -- how it ends -----------------------------------------------------------------------------------------------------


async def test_silence_of_thirty_seconds_ends_it(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await trio.sleep(5.0)
        await peer.say(m.Beat())
        await for_ever(peer)

    start_s = trio.current_time()
    trouble, _ = await play(script)
    assert str(trouble) == f"nothing was heard from {WHERE} for 30 s"
    assert trio.current_time() - start_s == pytest.approx(35.0)


async def test_a_trickle_of_bytes_is_silence_too(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        async def trickle() -> None:
            for byte in encode({"type": "beat", "padding": "x" * 1_000}):
                await peer.stream.send_all(bytes([byte]))
                await trio.sleep(0.9)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            await for_ever(peer)

    start_s = trio.current_time()
    trouble, _ = await play(script)
    assert "nothing was heard" in str(trouble)
    assert trio.current_time() - start_s == pytest.approx(30.0)


async def test_a_peer_that_takes_nothing_ends_it(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()

    async def stuck() -> None:
        await trio.sleep_forever()

    ours.send_stream.wait_send_all_might_not_block_hook = None
    ours.send_stream.send_all_hook = stuck

    async def beat() -> None:
        while True:
            await theirs.send_all(encode(m.to_wire(m.Beat())))
            await trio.sleep(10.0)

    session = Session(ours, HELLO, FakeDesk(), where=WHERE, roots_from="x", report_interval_s=2.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        assert str(await session.run()) == f"{WHERE} did not take a message for 30 s"
        nursery.cancel_scope.cancel()


async def test_a_final_error_ends_it_with_what_it_says(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.say(m.Error(message="account orders may not serve\nstock", hint="join anew", final=True))
        await for_ever(peer)

    trouble, _ = await play(script)
    assert trouble == Trouble("the control plane says: account orders may not serve stock", "join anew", final=True)


async def test_an_error_that_is_not_final_is_said_and_explains_a_close_after_it(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.say(m.Error(message="node id orders-1 is in use", hint="choose another"), Push(version=1))
        assert await peer.hear() == m.Ack(version=1)

    trouble, desk = await play(script)
    assert trouble == Trouble("the control plane says: node id orders-1 is in use", "choose another")
    assert desk.complaints == [trouble]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a frame of 1213486160 bytes was announced (at most 4194304)"),
        (b"\0\0\0\2[]", "a frame holds a list where an object is expected"),
        (encode({"type": "push"}), "push: version: missing"),
        (wire(Push(version=2), Push(version=1)), "push: version 1 after version 2"),
        (wire(Push(version=2, more=True), Push(version=3)), "push: a part of version 3 among parts of version 2"),
    ],
)
async def test_what_cannot_be_understood_ends_it(autojump_clock: MockClock, data: bytes, reason: str) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.stream.send_all(data)
        await for_ever(peer)

    trouble, _ = await play(script)
    assert trouble.sentence.startswith(f"{WHERE} sent what this version does not understand ({reason[:20]}")
    assert reason in trouble.sentence
    assert trouble.hint == "run the same version on both sides"


async def test_a_greeting_that_fits_no_frame_is_an_end_and_no_crash() -> None:
    ours, _ = memory_stream_pair()
    hello = replace(HELLO, have={"x" * MAX_FRAME_BYTES: 1})
    session = Session(ours, hello, FakeDesk(), where=WHERE, roots_from="x", report_interval_s=2.0)
    assert "the greeting could not be sent (hello: " in str(await session.run())


async def test_a_broken_stream_ends_it(autojump_clock: MockClock) -> None:
    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        peer.stream.send_stream.close()  # type: ignore[attr-defined]  # a stapled memory stream
        peer.stream.receive_stream.close()  # type: ignore[attr-defined]
        await trio.sleep_forever()

    trouble, _ = await play(script)
    assert WHERE in str(trouble)


async def test_cancelled_it_says_bye_and_waits_for_the_close(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    session = Session(ours, HELLO, FakeDesk(), where=WHERE, roots_from="x", report_interval_s=2.0)
    heard: list[m.Message] = []

    async def control_plane() -> None:
        peer = Peer(theirs)
        while not isinstance(message := await peer.hear(), m.Bye):
            heard.append(message)
        heard.append(message)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(control_plane)
        with trio.move_on_after(1.0):
            await session.run()
        assert trio.current_time() == pytest.approx(1.0, abs=0.01)
    assert heard[-1] == m.Bye()


async def test_bye_is_not_said_in_the_middle_of_a_frame(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()

    async def stuck() -> None:
        await trio.sleep_forever()

    ours.send_stream.send_all_hook = stuck
    session = Session(ours, HELLO, FakeDesk(), where=WHERE, roots_from="x", report_interval_s=2.0)
    with trio.move_on_after(1.0):
        await session.run()
    ours.send_stream.close()
    data = await theirs.receive_some()
    with pytest.raises(WireError):
        FrameReader().feed(data + encode(m.to_wire(m.Bye())) + b"\0\0\0\0")
    assert b"bye" not in data


async def test_ask_returns_the_answer_and_passes_over_beats(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    cert = m.Cert(chain="c", bundle="b", not_after_s=1.0)

    async def control_plane() -> None:
        peer = Peer(theirs)
        assert await peer.hear() == m.Join(token="a.b", csr="csr")
        await peer.say(m.Beat(), cert)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(control_plane)
        assert await ask(ours, m.Join(token="a.b", csr="csr"), WHERE) == cert


async def test_ask_of_a_peer_that_closes_is_a_broken_stream(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await ask(ours, m.Join(token="a.b", csr="csr"), WHERE)


async def test_many_refusals_do_not_pile_up(autojump_clock: MockClock) -> None:
    """More answers than the outbox holds, to a control plane that reads them late."""
    bad = tuple(Item(name=f"Service/shop/s{number}", version=1, document="{") for number in range(500))

    async def script(peer: Peer, session: Session, desk: FakeDesk) -> None:
        await peer.say(Push(version=1, set=bad))
        await trio.sleep(1.0)
        nacks = [await peer.hear() for _ in range(500)]
        assert all(isinstance(nack, m.Nack) for nack in nacks)
        assert await peer.hear_but(m.Report) == m.Ack(version=1)

    await play(script)
