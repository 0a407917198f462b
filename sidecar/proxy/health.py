"""Is the app there? Asks every two seconds, by connecting, whether each declared port accepts.

The answer goes to the control plane (`beat`) and to `/ready`: a dead app's endpoint takes no new requests, while its
sidecar lives on. A refused connection counts at once: nobody listens, and every request would find out the hard way.
"""

from collections.abc import Callable, Sequence

import trio

from sidecar.model.bootstrap import HostPort

EVERY_S = 2.0
TIMEOUT_S = 1.0


class AppHealth:
    """Watches the app; `down` are the addresses that did not accept at the last look, or were not looked at yet."""

    def __init__(self, addresses: Sequence[HostPort], changed: Callable[[], None]) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._changed = changed
        self.down: tuple[HostPort, ...] = self._addresses
        self._looked = False

    async def run(self) -> None:
        """Look for ever."""
        while self._addresses:
            down = tuple([address for address in self._addresses if not await accepts(address)])
            if down != self.down or not self._looked:
                self.down, self._looked = down, True
                self._changed()
            await trio.sleep(EVERY_S)


async def accepts(address: HostPort) -> bool:
    """True if a connection to `address` is accepted in time."""
    with trio.move_on_after(TIMEOUT_S):
        try:
            stream = await trio.open_tcp_stream(*address)
        except (OSError, UnicodeError):  # refused, unreachable, or no name that can be looked up
            return False
        await trio.aclose_forcefully(stream)
        return True
    return False
