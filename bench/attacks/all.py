"""The whole table."""

from bench.attacks.floods import FLOODS
from bench.attacks.messages import MESSAGES
from bench.attacks.slow import SLOW
from bench.attacks.table import Attack

ATTACKS: tuple[Attack, ...] = (*MESSAGES, *FLOODS, *SLOW)
