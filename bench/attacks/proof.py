"""The attacks as one long run of `make prove`: an attack is a part, so that a stopped run goes on where it was."""

import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import trio

from bench.attacks.all import ATTACKS
from bench.attacks.play import LONG, Scale, Verdict, staged
from bench.attacks.table import Attack, named


class Player:
    """See `bench.prove.Player`."""

    @property
    def parts(self) -> list[str]:
        """Every attack."""
        return [attack.name for attack in ATTACKS]

    def play(self, part: str, rng: Random) -> Mapping[str, int]:
        """Play one in full length.

        Raises AssertionError with all that did not hold, KeyboardInterrupt when SIGINT or SIGTERM came.
        """
        del rng  # what an attack sends is always the same
        attack = named(part)
        verdict = trio.run(_one_unless_told, attack, replace(LONG, seconds=max(LONG.seconds, attack.proof_s)))
        if verdict is None:
            raise KeyboardInterrupt
        assert not verdict.complaints, f"{part}: {'; '.join(verdict.complaints)}"
        return {
            "victim's requests": verdict.samples,
            f"{part}: p99 ms": round(verdict.p99_s * 1e3),
            f"{part}: grown KiB": verdict.grown_kib,
            f"{part}: back after s": round(verdict.recovered_s),
        }

    def figure(self, counts: Mapping[str, int]) -> str:
        """The worst of each."""

        def worst(what: str) -> str:
            figures = {name.partition(":")[0]: count for name, count in counts.items() if name.endswith(what)}
            name = max(figures, key=lambda each: figures[each])
            return f"{figures[name]} ({name})"

        return (
            f"{len(self.parts)} attacks, the victim saw 0 errors of {counts[_VICTIMS]:,}; at most: p99 "
            f"{worst(': p99 ms')} ms, memory +{worst(': grown KiB')} KiB, back after {worst(': back after s')} s"
        )


_VICTIMS = "victim's requests"


@contextmanager
def prove() -> Iterator[Player]:
    """For `make prove`."""
    yield Player()


async def one(attack: Attack, scale: Scale) -> Verdict:
    """Play an attack on a sidecar of its own."""
    async with staged(attack, long=scale.timed) as stage:
        [verdict] = await stage.play([attack], scale)
    return verdict


async def _one_unless_told(attack: Attack, scale: Scale) -> Verdict | None:
    """`one`; None when SIGINT or SIGTERM came first. The processes that were started have ended either way."""
    verdict: Verdict | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_told, signals, nursery.cancel_scope)
            verdict = await one(attack, scale)
            nursery.cancel_scope.cancel()
    return verdict


async def _cancel_when_told(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
