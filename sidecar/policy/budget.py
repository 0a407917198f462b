"""Bound the load that retries add to a cluster, whatever goes wrong with it.

`note_request` counts every request once, `take_retry` asks for and counts one more try. The guarantee holds to the
millisecond: in any span of `interval_s`, retries <= `percent` of the requests of that span + `min_per_second` *
`interval_s`. The second part lets a cluster with little traffic retry at all; it may come in one burst.
Which retries need not ask, policy/retry.py says.

Time is cut into slots of a tenth of the interval. A slot that the span cuts through counts with all its retries and
none of its requests: rounding is always to the safe side. A slot carries its start in milliseconds and not a number,
so that a policy with another interval reads the same slots without a reset that would forgive what was spent.
"""

from sidecar.model.live import BudgetLive
from sidecar.model.policies import BudgetPolicy

SLOTS = 10
_REQUESTS, _RETRIES = 1, 2


def note_request(budget: BudgetLive, policy: BudgetPolicy, now_s: float) -> None:
    """Count a request (not its retries)."""
    if now_s < budget.until_s and policy.interval_s == budget.interval_s:  # asked for every request
        budget.slots[-1][_REQUESTS] += 1
        return
    slot = _running_slot(budget, policy, _ms(now_s))
    slot[_REQUESTS] += 1
    # Half a millisecond less, whichever way times are rounded.
    budget.until_s = (slot[0] + _width_ms(policy) - 0.5) / 1000.0
    budget.interval_s = policy.interval_s


def take_retry(budget: BudgetLive, policy: BudgetPolicy, now_s: float) -> bool:
    """True when one more retry fits, which is then counted; it cannot be given back.

    Costs one pass over at most a dozen slots, on the failure path only.
    """
    now_ms = _ms(now_s)
    since_ms = now_ms - _ms(policy.interval_s)
    width_ms = _width_ms(policy)
    requests = retries = 0
    for start_ms, slot_requests, slot_retries in budget.slots:
        if start_ms > since_ms:
            requests += slot_requests
        if start_ms > since_ms - width_ms:
            retries += slot_retries
    if retries + 1 > requests * policy.percent / 100.0 + policy.min_per_second * policy.interval_s:
        return False
    _running_slot(budget, policy, now_ms)[_RETRIES] += 1
    return True


def _running_slot(budget: BudgetLive, policy: BudgetPolicy, now_ms: int) -> list[int]:
    """The slot that takes what happens now; a new one drops those that no span can reach any more."""
    slots = budget.slots
    width_ms = _width_ms(policy)
    if slots and now_ms - slots[-1][0] < width_ms:
        return slots[-1]
    slot = [now_ms, 0, 0]
    slots.append(slot)
    gone_ms = now_ms - _ms(policy.interval_s) - width_ms
    while slots[0][0] <= gone_ms:
        slots.popleft()
    return slot


def _width_ms(policy: BudgetPolicy) -> int:
    """Milliseconds of a slot, rounded up, so that ten of them are never less than the interval."""
    return int(policy.interval_s * (1000.0 / SLOTS)) + 1


def _ms(seconds: float) -> int:
    return int(seconds * 1000.0 + 0.5)
