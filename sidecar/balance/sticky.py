"""Which share of a split a key belongs to: the same one for every sidecar, and for as long as the weights allow.

Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005): each backend draws
a number from the key and its own name, exponentially distributed with its weight as rate; the smallest wins. Shares
are the weights, and a key leaves a backend only for one whose weight has grown in proportion to it: a canary that goes
from 10 to 20 % takes keys from the others, and gives none back. Intervals of one number would do so for two backends;
of three, the one in the middle would lose all its keys when its neighbours change.
"""

import math
from collections.abc import Sequence

from sidecar.balance.hashing import hash64

_SPACE = 2.0**64


def sticky(key: bytes, names: Sequence[bytes], cumulative: Sequence[int]) -> int:
    """The index of the key's share.

    Args:
        key: Of the request; see `hashing.key_of`.
        names: Of the backends, each its own.
        cumulative: Running sums of their weights, as for `pick.split`; a weight of 0 takes nobody.
    """
    best, found, before = math.inf, 0, 0
    for index, (name, total) in enumerate(zip(names, cumulative, strict=True)):
        weight, before = total - before, total
        if not weight:
            continue
        drawn = (hash64(b"%b\0%b" % (name, key)) + 0.5) / _SPACE  # above 0
        score = -math.log(min(drawn, 1.0)) / weight
        if score < best:
            best, found = score, index
    return found
