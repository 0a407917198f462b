"""Which services this sidecar subscribes to: the declared ones for good, others from their first use on.

client.py asks at every look-up; session.py tells the control plane the difference. What is in the table is remembered
in the disk cache, so that a restart asks for the same. Pure: time is an argument, waiting is client.py's.

Bounded: above MAX_WANTS services somebody is asking for made-up names; then the longest unused name goes, one that does
not exist before one that does. A service that was not used for IDLE_S goes too; declared ones never do.
"""

from collections.abc import Callable, Iterable

from sidecar.model.clusters import ServiceKey

MAX_WANTS = 1_000  # a service calls tens of others; the control plane takes 4 096
IDLE_S = 600.0
NEGATIVE_S = 5.0  # no second wait for a name that nobody answered; then the control plane may be back


class _Entry:
    __slots__ = ("no_wait_until_s", "used_s")

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.no_wait_until_s = 0.0


class WantTable:
    """The wanted services; `declared` ones are wanted from the start and do not count towards the bound."""

    __slots__ = ("_declared", "_found", "_most")

    def __init__(self, declared: Iterable[ServiceKey] = (), *, most: int = MAX_WANTS) -> None:
        self._declared = frozenset(declared)
        self._found = {key: _Entry(0.0) for key in sorted(self._declared)}  # the longest unused first
        self._most = most + len(self._declared)

    def __contains__(self, key: object) -> bool:
        return key in self._found

    def names(self) -> frozenset[ServiceKey]:
        """All that are wanted."""
        return frozenset(self._found)

    def want(self, key: ServiceKey, now_s: float, exists: Callable[[ServiceKey], bool] = lambda _: True) -> bool:
        """Note that `key` is in use at `now_s`; True when it was not wanted before. Costs two dictionary steps.

        Args:
            exists: Asked about others when the table is full, to let made-up names go first.
        """
        entry = self._found.pop(key, None)
        if entry is not None:
            entry.used_s = now_s
            self._found[key] = entry
            return False
        if len(self._found) >= self._most:
            self._evict(exists)
        self._found[key] = _Entry(now_s)
        return True

    def remember(self, keys: Iterable[ServiceKey], now_s: float) -> None:
        """Take names from an earlier run, as far as there is room; from `now_s` they have IDLE_S to be used."""
        for key in keys:
            if len(self._found) >= self._most:
                return
            self._found.setdefault(key, _Entry(now_s))

    def expire(self, now_s: float, in_use: Callable[[ServiceKey], bool] = lambda _: False) -> tuple[ServiceKey, ...]:
        """Drop what was not used for IDLE_S; return it.

        Args:
            in_use: Asked last: whether requests went there without a look-up. True counts as a use now.
        """
        idle = [key for key, entry in self._found.items() if entry.used_s <= now_s - IDLE_S]
        gone = []
        for key in idle:
            if key in self._declared:
                continue
            if in_use(key):
                self.want(key, now_s)
            else:
                del self._found[key]
                gone.append(key)
        return tuple(gone)

    def gave_up(self, key: ServiceKey, now_s: float) -> None:
        """Nobody said in time whether `key` exists: for NEGATIVE_S look-ups do not wait again."""
        entry = self._found.get(key)
        if entry is not None:
            entry.no_wait_until_s = now_s + NEGATIVE_S

    def may_wait(self, key: ServiceKey, now_s: float) -> bool:
        """Whether a look-up of an unknown service may wait for an answer."""
        entry = self._found.get(key)
        return entry is not None and now_s >= entry.no_wait_until_s

    def _evict(self, exists: Callable[[ServiceKey], bool]) -> None:
        """Make room for one. The table may only be full of others than declared ones, so there is always one to go."""
        loose = [key for key in self._found if key not in self._declared]
        del self._found[next((key for key in loose if not exists(key)), loose[0])]
