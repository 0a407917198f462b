"""Each attack of bench/attacks once, small: what has to come of it does, no victim sees an error, all of it comes back.

Latencies are not judged here, where other tests share the machine; `make prove` plays the long ones, which are.
"""

from itertools import groupby

import pytest

from bench.attacks.all import ATTACKS
from bench.attacks.play import SHORT, staged
from bench.attacks.table import Attack

PLAIN = [attack for attack in ATTACKS if attack.more is None and attack.documents is None]
# Those that ask for the same configuration share a sidecar.
OWN = [list(group) for _, group in groupby((a for a in ATTACKS if a not in PLAIN), lambda a: (a.more, a.documents))]


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("attacks", [PLAIN, *OWN], ids=lambda attacks: attacks[0].name)
async def test_attacks_end_as_they_must(attacks: list[Attack]) -> None:
    async with staged(attacks[0], long=False) as stage:
        verdicts = await stage.play(attacks, SHORT)

    assert {verdict.attack: verdict.complaints for verdict in verdicts if verdict.complaints} == {}
    assert [verdict.attack for verdict in verdicts] == [attack.name for attack in attacks]


def test_every_attack_has_a_name_of_its_own() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
