"""What is put goes out with the end of the turn, on real sockets and TLS: in order, once, to the right peer."""

import socket
from collections.abc import Callable

import pytest
import trio

from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.reactor import MAX_PUTS, Reactor
from sidecar.transport.stream import Peer, Stream, StreamBroken
from tests.net.test_stream_contract import Ends, connected, plain, secure

KINDS = {"sockets": plain, "TLS": secure}
PATIENCE_S = 5.0


class Owner:
    """A handler that does `act` in its first turn, and remembers what it heard."""

    def __init__(self, stream: Stream, act: Callable[[bytes], None]) -> None:
        self.stream = stream
        self.act = act
        self.heard: list[str] = []
        self.turned = trio.Event()

    def on_readable(self) -> None:
        try:
            data = self.stream.try_read()
        except StreamBroken:
            self.heard.append("broken")
            return
        if data:
            self.act(data)
            self.turned.set()
        elif data == b"":
            self.heard.append("end")
            self.stream.pause()

    def on_drained(self) -> None:
        self.heard.append("drained")

    def on_stale(self) -> None:
        self.heard.append("stale")

    def on_blocked(self) -> None:
        self.heard.append("blocked")

    def on_crashed(self) -> None:
        self.heard.append("crashed")


async def read_until_quiet(stream: Stream) -> bytes:
    got: list[bytes] = []
    while True:
        with trio.move_on_after(0.2) as scope:
            try:
                got.append(await stream.receive())
            except StreamBroken:
                got.append(b"|broken")
        if scope.cancelled_caught or got[-1] in (b"", b"|broken"):
            return b"".join(got)


async def turn(ends: Ends, act: Callable[[bytes], None]) -> Owner:
    """Let the owner of `ends.here` have a turn in which it does `act`."""
    owner = Owner(ends.here, act)
    ends.here.handle_with(owner)
    await ends.there.send(b"go")
    with trio.fail_after(PATIENCE_S):
        await owner.turned.wait()
    return owner


@pytest.mark.parametrize("kind", KINDS)
async def test_put_and_write_keep_their_order(kind: str) -> None:
    async with KINDS[kind]() as ends:
        here = ends.here

        def act(_: bytes) -> None:
            here.put(b"1")
            here.put(b"2")
            here.write(b"3")
            here.put(b"4")
            here.write(b"5" * 300_000)
            here.put(b"6")

        await turn(ends, act)
        assert (await read_until_quiet(ends.there)).replace(b"5" * 300_000, b"5") == b"123456"
        assert ends.bugs == []


@pytest.mark.parametrize("kind", KINDS)
async def test_put_without_a_turn_is_a_write(kind: str) -> None:
    async with KINDS[kind]() as ends:
        ends.here.handle_with(Owner(ends.here, lambda _: None))
        ends.here.put(b"x")
        ends.here.put(b"y", silent=True)
        assert await read_until_quiet(ends.there) == b"xy"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_put_waits_for_the_end_of_the_turn(kind: str) -> None:
    async with KINDS[kind]() as ends:
        early: list[bytes | None] = []

        def act(_: bytes) -> None:
            ends.here.put(b"x")
            early.append(ends.there.try_read())

        await turn(ends, act)
        assert early == [None]
        assert await read_until_quiet(ends.there) == b"x"


PEERS: dict[str, Callable[[Stream], object]] = {
    "speaks": lambda peer: peer.write(b"unasked"),
    "closes": lambda peer: peer.close(),
    "resets": lambda peer: peer.abort(),
}


@pytest.mark.parametrize("how", PEERS)
@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_written_to_a_peer_that_is_not_silent_any_more(kind: str, how: str) -> None:
    async with KINDS[kind]() as ends, KINDS[kind]() as other:
        owner = Owner(other.here, lambda _: None)
        other.here.handle_with(owner)
        await trio.sleep(0.05)  # TLS: its tickets are read

        def act(_: bytes) -> None:
            # Two reactors: the other stream's is not in a turn, so what it puts is asked for at once.
            PEERS[how](other.there)
            other.here.put(b"POST", silent=True)

        await turn(ends, act)
        await trio.sleep(0.05)
        assert owner.heard[0] == "stale"
        if how == "speaks":
            assert await read_until_quiet(other.there) == b""


@pytest.mark.parametrize("how", PEERS)
async def test_nothing_is_written_to_a_peer_that_spoke_within_the_turn(how: str) -> None:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    streams = [(EpollStream(one, reactor, Peer("a")), other) for one, other in (connected(), connected())]
    (client, client_peer), (kept, kept_peer) = streams
    owner = Owner(kept, lambda _: None)

    def act(_: bytes) -> None:
        kept.put(b"POST", silent=True)
        client.put(b"answer")
        if how == "speaks":
            kept_peer.send(b"unasked")
        else:
            if how == "resets":
                kept_peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            kept_peer.close()

    asker = Owner(client, act)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        client.handle_with(asker)
        kept.handle_with(owner)
        await trio.sleep(0.05)
        client_peer.send(b"go")
        with trio.fail_after(PATIENCE_S):
            await asker.turned.wait()
        await trio.sleep(0.05)
        assert owner.heard[0] == "stale"
        assert client_peer.recv(100) == b"answer", "others are not held up by it"
        if how == "speaks":
            with pytest.raises(BlockingIOError):
                kept_peer.recv(100)
        assert bugs == []
        for stream, peer in streams:
            stream.close()
            peer.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_close_sends_what_was_put_and_abort_does_not(kind: str) -> None:
    async with KINDS[kind]() as ends:

        def act(_: bytes) -> None:
            ends.here.put(b"last")
            ends.here.close()

        await turn(ends, act)
        assert await read_until_quiet(ends.there) == b"last"
    async with KINDS[kind]() as ends:

        def cut(_: bytes) -> None:
            ends.here.put(b"last")
            ends.here.abort()

        await turn(ends, cut)
        assert await read_until_quiet(ends.there) == b"|broken"
        assert ends.bugs == []


@pytest.mark.parametrize("kind", KINDS)
async def test_more_than_the_peer_takes_is_told(kind: str) -> None:
    async with KINDS[kind]() as ends:
        data = bytes(range(256)) * 40_000
        owner = await turn(ends, lambda _: ends.here.put(data))
        await trio.sleep(0.05)
        assert owner.heard == ["blocked"]
        assert await read_until_quiet(ends.there) == data
        assert owner.heard == ["blocked", "drained"]


async def test_many_that_put_in_one_turn_all_get_theirs() -> None:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    pairs = [connected() for _ in range(100)]
    streams = [EpollStream(one, reactor, Peer(str(number))) for number, (one, _) in enumerate(pairs)]

    def answering(stream: Stream) -> Callable[[bytes], None]:
        return lambda data: stream.put(b"re:" + data)

    owners = [Owner(stream, answering(stream)) for stream in streams]
    for stream, owner in zip(streams, owners, strict=True):
        stream.handle_with(owner)
    async with trio.open_nursery() as nursery:
        for number, (_, peer) in enumerate(pairs):
            peer.send(b"%d" % number)
        nursery.start_soon(reactor.run)
        with trio.fail_after(PATIENCE_S):
            for owner in owners:
                await owner.turned.wait()
        await trio.sleep(0.05)
        assert [peer.recv(100) for _, peer in pairs] == [b"re:%d" % number for number in range(100)]
        assert bugs == []
        nursery.cancel_scope.cancel()
    for stream, (_, peer) in zip(streams, pairs, strict=True):
        stream.close()
        peer.close()


async def test_a_reused_number_never_reaches_an_old_owner() -> None:
    """While events of a batch, or those seen at its end, are not served, the descriptor stays open."""
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        for _ in range(30):
            pairs = [connected() for _ in range(4)]
            streams = [EpollStream(one, reactor, Peer(str(number))) for number, (one, _) in enumerate(pairs)]
            numbers = [stream.fd for stream in streams]
            fresh: list[tuple[EpollStream, socket.socket, Owner]] = []

            def close_all_and_open(
                data: bytes,
                streams: list[EpollStream] = streams,
                fresh: list[tuple[EpollStream, socket.socket, Owner]] = fresh,
            ) -> None:
                for stream in streams[1:]:
                    stream.close()
                streams[0].put(b"x")
                one, other = connected()
                stream = EpollStream(one, reactor, Peer("new"))
                owner = Owner(stream, lambda _: None)
                stream.handle_with(owner)
                fresh.append((stream, other, owner))

            owners = [Owner(streams[0], close_all_and_open)]
            owners += [Owner(stream, lambda _: None) for stream in streams[1:]]
            for stream, owner in zip(streams, owners, strict=True):
                stream.handle_with(owner)
            for _, peer in pairs:
                peer.send(b"go")
            with trio.fail_after(PATIENCE_S):
                await owners[0].turned.wait()
            ((new, new_peer, new_owner),) = fresh
            assert new.fd not in numbers, "closed only when no event that is known can be meant for it"
            await trio.sleep(0.01)
            assert new_owner.heard == [], "nothing was sent to it"
            new.close()
            new_peer.close()
            streams[0].close()
            for _, peer in pairs:
                peer.close()
            await trio.sleep(0.001)
            assert all(sock.fileno() == -1 for sock, _ in pairs), "and then it is closed"
        assert bugs == []
        assert len(reactor) == 0
        nursery.cancel_scope.cancel()


async def test_a_bug_at_the_end_of_the_turn_ends_one_connection() -> None:
    class Bad(Owner):
        def on_stale(self) -> None:
            raise RuntimeError("a bug")

    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    (one, one_peer), (two, two_peer) = connected(), connected()
    client, kept = EpollStream(one, reactor, Peer("a")), EpollStream(two, reactor, Peer("b"))
    bad = Bad(kept, lambda _: None)

    def act(_: bytes) -> None:
        kept.put(b"POST", silent=True)
        two_peer.send(b"unasked")
        client.put(b"answer")

    asker = Owner(client, act)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        client.handle_with(asker)
        kept.handle_with(bad)
        one_peer.send(b"go")
        with trio.fail_after(PATIENCE_S):
            await asker.turned.wait()
        await trio.sleep(0.05)
        assert [str(each) for each in bugs] == ["a bug"]
        assert bad.heard[-1] == "crashed"
        assert kept.closed
        assert one_peer.recv(100) == b"answer"
        nursery.cancel_scope.cancel()
    client.close()
    one_peer.close()
    two_peer.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_tasks_hand_in_goes_out_soon_in_order_and_before_the_end(kind: str) -> None:
    async with KINDS[kind]() as ends:
        with trio.fail_after(PATIENCE_S):
            for turn in range(3):
                ends.here.hand_in(b"one,")
                ends.here.hand_in(b"two,")
                if turn % 2:
                    ends.here.write(b"three,")
                got = b""
                while got.count(b",") < (3 if turn % 2 else 2):
                    got += await ends.there.receive()
                assert got == (b"one,two,three," if turn % 2 else b"one,two,")
            ends.here.hand_in(b"last")
            ends.here.send_eof()
            assert await read_until_quiet(ends.there) == b"last"


async def test_many_tasks_that_hand_in_at_once_all_get_their_bytes_through() -> None:
    count = 3 * MAX_PUTS + 1

    async def play(reactor: Reactor, done: list[int]) -> None:
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        here, there = (EpollStream(sock, reactor, Peer("")) for sock in pair)
        for turn in range(10):
            here.hand_in(b"%d" % turn)
            assert await there.receive() == b"%d" % turn
            there.hand_in(b"back")
            assert await here.receive() == b"back"
        here.close()
        there.close()
        done.append(1)

    bugs: list[BaseException] = []
    done: list[int] = []
    reactor = Reactor(bugs.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as players:
                for _ in range(count):
                    players.start_soon(play, reactor, done)
        nursery.cancel_scope.cancel()
    assert len(done) == count
    assert not bugs


async def test_handing_in_is_a_write_once_the_reactor_has_ended() -> None:
    reactor = Reactor(lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    mine, theirs = socket.socketpair()
    mine.setblocking(False)
    stream = EpollStream(mine, reactor, Peer(""))
    with theirs:
        assert stream.hand_in(b"bye")
        assert theirs.recv(16) == b"bye"
        stream.close()


@pytest.mark.parametrize("how", PEERS)
async def test_nothing_that_is_handed_in_reaches_a_peer_that_spoke_first(how: str) -> None:
    reactor = Reactor(lambda _: None)
    one, peer = connected()
    stream = EpollStream(one, reactor, Peer("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        peer.send(b"the answer before")
        with trio.fail_after(PATIENCE_S):
            await stream.receive()
            assert stream.hand_in(b"POST", silent=True)
            if how == "speaks":
                peer.send(b"unasked")
            else:
                if how == "resets":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.close()
            with pytest.raises(StreamBroken):
                await stream.receive()
        assert stream.closed
        peer.close()
        nursery.cancel_scope.cancel()
