"""The whole table."""

from bench.attacks.broken import BROKEN
from bench.attacks.floods import FLOODS
from bench.attacks.messages import MESSAGES
from bench.attacks.slow import SLOW
from bench.attacks.storms import STORMS
from bench.attacks.table import Attack

ATTACKS: tuple[Attack, ...] = (*MESSAGES, *FLOODS, *SLOW, *BROKEN, *STORMS)
