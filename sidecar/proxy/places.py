"""How many clients may be connected at once: one count for all listeners of a process's worker."""

from collections.abc import Callable

import trio


class Places:
    """Counts connected clients; listeners wait here before they accept one more than `limit`."""

    __slots__ = ("_limit", "_room", "_told", "taken")

    def __init__(self, limit: int, told: Callable[[], None]) -> None:
        """`told` is called each time that a listener finds no room."""
        self.taken = 0
        self._limit = limit
        self._told = told
        self._room = trio.Event()

    async def wait(self) -> None:
        """Wait until another client is allowed."""
        if self.taken >= self._limit:
            self._told()
        while self.taken >= self._limit:
            if self._room.is_set():  # else others wait for it already
                self._room = trio.Event()
            await self._room.wait()

    def take(self) -> None:
        """A client has a place, until `free`."""
        self.taken += 1

    def free(self) -> None:
        """The client has gone."""
        self.taken -= 1
        self._room.set()
