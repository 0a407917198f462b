"""The attacker's process: plays one attack of the table until its time is over, then prints what it saw.

Run by play.py as `python -m bench.attacks.attacker NAME SITE CONNECTIONS UNITS_PER_S`, with the lowest priority.
"""

import os
import sys
from functools import partial

import trio

from bench.attacks.site import Site, from_text
from bench.attacks.table import Attack, named
from bench.attacks.turn import Turn
from bench.attacks.wire import GONE

NICE = 19
RETRY_S = 0.05  # after a connection that failed: it may be the sidecar's answer to the attack


async def attack(one: Attack, site: Site, connections: int, units_per_s: float, *, again: bool = False) -> Turn:
    """Play it on so many connections at once, each one round, or `again` and again until the time is over."""
    turn = Turn(site.seconds, units_per_s)
    async with trio.open_nursery() as nursery:
        for number in range(connections):
            nursery.start_soon(_rounds, one, site, turn, number, again)
    return turn


async def _rounds(one: Attack, site: Site, turn: Turn, number: int, again: bool) -> None:
    while True:
        try:
            await one.play(site, turn, number)
            turn.count("rounds")
        except (OSError, *GONE):
            turn.count("broken")
            await trio.sleep(RETRY_S)
        if turn.over or not again:
            return
        await trio.lowlevel.checkpoint()  # a round that finds nothing to do must not keep the others from theirs


def main() -> None:
    """See the module's text."""
    name, site, connections, units_per_s = sys.argv[1:]
    os.nice(NICE)
    one = named(name)
    turn = trio.run(partial(attack, again=not one.once), one, from_text(site), int(connections), float(units_per_s))
    print(turn.seen.text())


if __name__ == "__main__":
    main()
