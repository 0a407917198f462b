"""A task that always finds data lets others run: after some reads, and after fewer when they are big."""

import pytest
import trio

from sidecar.transport.stream import BYTES_PER_TURN, READ_BYTES, READS_PER_TURN, Peer, Stream


class Endless(Stream):
    """There is always another piece."""

    __slots__ = ("piece",)

    def __init__(self, piece: bytes) -> None:
        super().__init__(Peer("endless"))
        self.piece = piece

    def _recv(self) -> bytes:
        return self.piece


@pytest.mark.parametrize(("size", "most"), [(1, READS_PER_TURN), (READ_BYTES, BYTES_PER_TURN // READ_BYTES)])
async def test_others_run_meanwhile(size: int, most: int) -> None:
    stream = Endless(bytes(size))
    reads = longest = 0

    async def other() -> None:
        nonlocal reads, longest
        while True:
            longest, reads = max(longest, reads), 0
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(1000):
            await stream.receive()
            reads += 1
        nursery.cancel_scope.cancel()
    # Both tasks run once a batch, in either order: between two turns of the other one, two of ours can lie.
    assert 1 <= longest <= 2 * most
