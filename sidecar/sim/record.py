"""What happened in a run, as it is told; `measures.py` makes figures of it.

Everything is kept in the order in which it happened. Whoever wants to look at more than the figures (the invariants of
tests/sim) takes a subclass: it is told each thing at its moment.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.policy.attempts import Exchange


class Asked(NamedTuple):
    """What a client got for a request: `status`, 0 for no answer; `denied`: why there was no further try, or ""."""

    client: str
    at_s: float
    took_s: float
    status: int
    tries: int
    denied: str


class Tried(NamedTuple):
    """A try that has ended. `ok`: its answer went to the caller and was none of 5xx."""

    caller: str
    endpoint: str
    at_s: float
    took_s: float
    ok: bool


class Out(NamedTuple):
    """An endpoint was ejected by one caller."""

    caller: str
    endpoint: str
    at_s: float
    for_s: float


class Worked(NamedTuple):
    """An endpoint has done its part for a request; `wasted`: nobody waited for it any more."""

    endpoint: str
    at_s: float
    for_s: float
    wasted: bool


@dataclass(slots=True)
class Record:
    """See the module's text.

    Attributes:
        requests: By service, when each request to it began, whoever asked.
        unfinished: Requests of clients that nothing had ended when everything else had.
    """

    asked: list[Asked] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    out: list[Out] = field(default_factory=list)
    worked: list[Worked] = field(default_factory=list)
    requests: dict[str, list[float]] = field(default_factory=dict)
    unfinished: int = 0

    def on_begin(self, service: str, exchange: Exchange, now_s: float) -> None:
        """A request to a service begins, a client's or a service's own."""
        del exchange
        self.requests.setdefault(service, []).append(now_s)

    def on_pick(self, exchange: Exchange, endpoint: str, now_s: float) -> None:
        """The machine chose an endpoint."""

    def on_arrival(self, exchange: Exchange, endpoint: str, now_s: float) -> None:
        """The first byte of a request reached an endpoint that was there."""

    def on_try(self, tried: Tried) -> None:
        """A try has ended."""
        self.tried.append(tried)

    def on_retry(self, exchange: Exchange, now_s: float) -> None:
        """The machine decided on another try."""

    def on_ejection(self, out: Out) -> None:
        """See `Out`."""
        self.out.append(out)

    def on_end(self, exchange: Exchange, now_s: float) -> None:
        """A request that had begun has given everything back."""

    def on_work(self, worked: Worked) -> None:
        """See `Worked`."""
        self.worked.append(worked)

    def on_answer(self, asked: Asked) -> None:
        """A client has its answer."""
        self.asked.append(asked)
