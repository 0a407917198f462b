"""All pairs: few combinations of several choices, such that each possible pair of choices stands in one of them.

Pure and without chance: the same axes give the same combinations in the same order, so that test names stay. Greedy,
as such generators are: always the combination that brings the most pairs that are not there yet. Not the smallest set,
but near it. Room that is left after that goes to triples, in the same way.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from zlib import crc32

Combination = tuple[str, ...]
# Some choices of one combination, each with the number of its axis.
Part = tuple[tuple[int, str], ...]


def parts(combination: Combination, size: int) -> set[Part]:
    """Every `size` choices of a combination."""
    return set(combinations(enumerate(combination), size))


def possible(axes: Sequence[Iterable[str]], why_not: Callable[[Combination], str]) -> list[Combination]:
    """All combinations for which `why_not` has no reason."""
    return [combination for combination in product(*axes) if not why_not(combination)]


def select(candidates: Iterable[Combination], at_least: int = 0) -> list[Combination]:
    """A selection of the candidates that has every pair that any candidate has, and as many triples as fit.

    Args:
        candidates: What may be chosen, each once.
        at_least: Go on with triples until there are so many.
    """
    # Of equals the first is taken. In the order of the axes that would always be the first client.
    mixed = sorted(candidates, key=lambda candidate: crc32("/".join(candidate).encode()))
    chosen: list[Combination] = []
    _cover(mixed, chosen, 2, len(mixed))
    _cover(mixed, chosen, 3, at_least)
    return chosen


def _cover(candidates: Sequence[Combination], chosen: list[Combination], size: int, limit: int) -> None:
    """Add candidates to `chosen` until it has all their parts of this size, or is `limit` long."""
    missing = set[Part]().union(*(parts(candidate, size) for candidate in candidates))
    missing.difference_update(*(parts(candidate, size) for candidate in chosen))
    # What a candidate brings only ever shrinks: a score that is still right when it comes up is the best one there is.
    heap = [(-len(parts(candidate, size)), number) for number, candidate in enumerate(candidates)]
    heapq.heapify(heap)
    while missing and len(chosen) < limit:
        claimed, number = heapq.heappop(heap)
        brings = parts(candidates[number], size) & missing
        if len(brings) == -claimed:
            chosen.append(candidates[number])
            missing -= brings
        elif brings:
            heapq.heappush(heap, (-len(brings), number))
