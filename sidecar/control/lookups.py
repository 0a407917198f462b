"""Look-ups of services by those who route: note the use, subscribe on the first one, wait a moment for the answer.

The shell around want.WantTable, owned by client.py: it adds the clock and the waiting. A request never waits longer
than its `timeout_s`, and not at all for a name that nobody answered within the last five seconds.
"""

from collections.abc import Callable, Iterable

import trio

from sidecar.control.want import WantTable
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known

MAX_WAITED_FOR = 1_000  # names waited for at the same moment; others get the answer of now


class Lookups:
    """See module.

    Attributes:
        table: What is wanted.
    """

    def __init__(
        self, declared: Iterable[ServiceKey], knows: Callable[[ServiceKey], Known], changed: Callable[[], None]
    ) -> None:
        """`knows` asks the snapshot in force; `changed` is called when something new is wanted."""
        self.table = WantTable(declared)
        self._knows = knows
        self._changed = changed
        self._waiters: dict[ServiceKey, trio.Event] = {}

    def want(self, key: ServiceKey) -> None:
        """Note a use of `key`, and subscribe to it if that is new."""
        if self.table.want(key, trio.current_time(), lambda other: self._knows(other) is Known.FOUND):
            self._changed()

    async def wait_known(self, key: ServiceKey, timeout_s: float) -> Known:
        """`want`, then wait until somebody has said whether it exists; UNKNOWN when nobody does in time."""
        self.want(key)
        known = self._knows(key)
        crowded = key not in self._waiters and len(self._waiters) >= MAX_WAITED_FOR
        if known is not Known.UNKNOWN or crowded or not self.table.may_wait(key, trio.current_time()):
            return known
        answered = self._waiters.setdefault(key, trio.Event())
        with trio.move_on_after(timeout_s):
            await answered.wait()
        if not answered.is_set():
            self.table.gave_up(key, trio.current_time())
            if self._waiters.get(key) is answered:
                del self._waiters[key]
        return self._knows(key)

    def snapshot_changed(self) -> None:
        """Wake those whose service is known now."""
        for key in [key for key in self._waiters if self._knows(key) is not Known.UNKNOWN]:
            self._waiters.pop(key).set()
