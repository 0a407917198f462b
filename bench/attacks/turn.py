"""One attacker: how fast it may go, when it ends, what it saw."""

import json
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

import trio

COMPLAINTS_MAX = 20  # the first tell what the rest would


@dataclass
class Seen:
    """What the attacker tells at its end.

    Attributes:
        counts: How often, by a word of the attack's own.
        most: Largest figure, by a word of the attack's own.
        times_s: Moments by CLOCK_MONOTONIC, which all processes of a machine share, by a word of the attack's own.
        complaints: What the sidecar should not have done.
    """

    counts: Counter[str] = field(default_factory=Counter)
    most: dict[str, float] = field(default_factory=dict)
    times_s: dict[str, float] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One line of JSON."""
        return json.dumps([self.counts, self.most, self.times_s, self.complaints])


def from_text(text: str) -> Seen:
    """What `Seen.text` made."""
    counts, most, times_s, complaints = json.loads(text)
    return Seen(Counter(counts), most, times_s, complaints)


class Turn:
    """What an attack is given. All connections of an attacker share one.

    Attributes:
        over: True when the time of the attack has passed; attacks look at it between two connections.
    """

    def __init__(self, seconds: float, units_per_s: float) -> None:
        self.seen = Seen()
        self.ends_s = trio.current_time() + seconds
        self._apart_s = 1.0 / units_per_s
        self._next_s = trio.current_time()
        self._serial = 0

    @property
    def over(self) -> bool:
        """See the class."""
        return trio.current_time() >= self.ends_s

    async def pace(self, units: float = 1.0) -> None:
        """Wait until so many more units of work may be made for the sidecar; one is about a small request's."""
        self._next_s = max(self._next_s, trio.current_time()) + units * self._apart_s
        await trio.sleep_until(self._next_s - units * self._apart_s)

    def count(self, word: str, times: int = 1) -> None:
        """It happened."""
        self.seen.counts[word] += times

    def most(self, word: str, figure: float) -> None:
        """Remember the largest."""
        self.seen.most[word] = max(self.seen.most.get(word, figure), figure)

    def time(self, word: str) -> None:
        """It happens now."""
        self.seen.times_s[word] = monotonic()

    def serial(self) -> int:
        """Another number at every call."""
        self._serial += 1
        return self._serial

    def complain(self, sentence: str) -> None:
        """It should not have happened."""
        self.count("complaints")
        if len(self.seen.complaints) < COMPLAINTS_MAX:
            self.seen.complaints.append(sentence)

    def expect(self, holds: object, sentence: str) -> None:
        """Complain unless."""
        if not holds:
            self.complain(sentence)
