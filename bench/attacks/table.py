"""Every attack: the row of the truth table that it plays, how, and what has to come of it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.attacks.service import Behaviours, Service
from bench.attacks.site import Site
from bench.attacks.turn import Seen, Turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is to judge when an attack is over.

    Attributes:
        notes: What the codecs counted meanwhile, by kind.
        grown_kib: The sidecar's peak of resident memory above what it held before all.
        logged: Lines of the access log.
        parallel: The attacker's connections.
        seconds: The attack was told to last.
        long: It was played with nothing else on the machine, so that times can be judged.
    """

    seen: Seen
    service: Service
    notes: Mapping[str, float]
    grown_kib: int
    logged: list[str]
    parallel: int
    seconds: float
    long: bool


Play = Callable[[Site, Turn, int], Awaitable[None]]
Expect = Callable[[Outcome], Iterable[str]]


def no_more(_: Outcome) -> list[str]:
    """The attacker's own complaints and the victim rule say all."""
    return []


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        row: Of the truth table of attacks.
        what: What has to come of it, beside the victim rule.
        play: One connection's part, or whatever a round is; played again and again by each connection. The number is
            the connection's.
        expect: What is wrong with the outcome, in sentences.
        behaviours: The hostile service's.
        connections: At once, by whether it is the long run; None for what the scale says.
        held: Requests that each connection keeps under way for long, over HTTP/2 when more than one; 0 for none. A long
            run begins with as many of ordinary clients.
        units_per_s: 0 for what the scale says.
        once: One round for each connection.
        at_least_s, short_s: Seconds that a long run, a short run needs; 0 for what the scale says.
        proof_s: Seconds that the truth table asks for; of the run that proves. 0 for what the scale says.
        more: Sections of the bootstrap file, by whether it is the long run.
        documents: Further resources, made from the hostile service's three ports.
    """

    row: str
    name: str
    what: str
    play: Play
    expect: Expect = no_more
    behaviours: Behaviours = field(default_factory=Behaviours)
    connections: Callable[[bool], int] | None = None
    held: int = 0
    units_per_s: float = 0.0
    once: bool = False
    at_least_s: float = 0.0
    short_s: float = 0.0
    proof_s: float = 0.0
    more: Callable[[bool], Mapping[str, object]] | None = None
    documents: Callable[[int, int, int], tuple[dict[str, Any], ...]] | None = None

    def parallel(self, usual: int, *, long: bool) -> int:
        """Connections at once."""
        return self.connections(long) if self.connections is not None else usual


def named(name: str) -> Attack:
    """The attack of this name. Raises KeyError."""
    from bench.attacks.all import ATTACKS  # the attacks' own modules import this one

    return {attack.name: attack for attack in ATTACKS}[name]
