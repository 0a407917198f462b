"""Decide which faults a try meets that somebody asked for (`faults` of a TrafficPolicy).

Asked by the full path before a try goes out: below retries, budget and ejection, so that these are what is tested. A
fault is the endpoint's in all respects: it is tried again as its status would be, counts against the endpoint, and may
eject it. What is injected is marked: flag DI for a delay, FI for the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sidecar.errors import INJECTED, UPSTREAM_RESET, Fault
from sidecar.model.clusters import ServiceKey
from sidecar.model.faults import InjectedFault
from sidecar.model.messages import RequestHead

DELAYED, FAILED = "DI", "FI"  # Envoy's flags


@dataclass(frozen=True, slots=True)
class Injection:
    """What a try meets: `delay_s` seconds, and then `fault`, or the endpoint after all."""

    delay_s: float
    fault: Fault | None


def injection(
    faults: Sequence[InjectedFault], head: RequestHead, caller: ServiceKey, attempt: int, rng: Random
) -> Injection | None:
    """What the try meets; None: nothing. Delays add up, of the others the first one counts.

    Args:
        attempt: Number of the try, from 1.
    """
    delay_s, fault = 0.0, None
    for each in faults:
        if not _concerns(each, head, caller, attempt) or rng.random() * 100.0 >= each.percent:
            continue
        delay_s += each.delay_s
        fault = fault or _fault(each)
    return Injection(delay_s, fault) if delay_s or fault else None


def _concerns(fault: InjectedFault, head: RequestHead, caller: ServiceKey, attempt: int) -> bool:
    if fault.tries and attempt > fault.tries:
        return False
    if fault.callers and caller not in fault.callers:
        return False
    for name, value in fault.headers:
        told = head.get(name.encode("ascii"))
        if told is None or (value is not None and told != value.encode("ascii")):
            return False
    return True


def _fault(fault: InjectedFault) -> Fault | None:
    if fault.reset:
        return UPSTREAM_RESET.saying("a reset was injected: the policy has faults")
    return INJECTED.answering(fault.status) if fault.status else None
