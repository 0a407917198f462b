"""All connections of an attacker attack, as long as it lasts."""

import pytest
import trio

from bench.attacks.attacker import attack
from bench.attacks.messages import SHARES, _share
from bench.attacks.site import Site
from bench.attacks.table import Attack
from bench.attacks.turn import Turn

SITE = Site(http1=0, http2=0, tcp=0, inbound=0, app=0, folder="", seconds=60.0, long=True)


@pytest.mark.parametrize("size", [1, SHARES - 1, SHARES, 2 * SHARES + 1])
def test_every_connection_has_a_share_and_all_is_shared_out(size: int) -> None:
    vectors = [str(number) for number in range(size)]
    shares = [_share(vectors, number) for number in range(2 * SHARES)]
    assert all(shares)
    assert {each for share in shares for each in share} == set(vectors)


async def test_a_connection_that_finds_nothing_to_do_lets_others_attack() -> None:
    played = set()

    async def nothing(site: Site, turn: Turn, number: int) -> None:
        played.add(number)
        if len(played) == 3:
            scope.cancel()

    with trio.CancelScope() as scope:
        await attack(Attack("0", "nothing", "", nothing), SITE, 3, 1.0, again=True)
    assert played == {0, 1, 2}
