"""Do to a try what somebody asked for (`faults` of a TrafficPolicy), before it goes out; policy/faults.py decides."""

from functools import partial

import trio

from sidecar.errors import REQUEST_TIMEOUT, TRY_TIMEOUT, ProxyError
from sidecar.policy import faults
from sidecar.proxy.handover import HandOver
from sidecar.proxy.patience import Patience
from sidecar.proxy.worker import Worker
from sidecar.transport.stream import Interrupted


async def meet_faults(record: HandOver, worker: Worker, patience: Patience) -> None:
    """Wait, or raise the ProxyError of an endpoint that fails so; or nothing, when the try meets none."""
    exchange = record.exchange
    assert exchange is not None
    met = faults.injection(exchange.policy.faults, record.head, worker.node.key, exchange.attempt, worker.rng)
    if met is None:
        return
    if met.delay_s:
        record.mark = faults.DELAYED
        try:
            await patience.bounded(partial(trio.sleep, met.delay_s))
        except Interrupted:
            if patience.ended:
                raise
            over = record.ends_at_s is not None and worker.now() >= record.ends_at_s
            raise ProxyError(REQUEST_TIMEOUT if over else TRY_TIMEOUT) from None  # a slow endpoint, it would seem
    if met.fault is not None:
        record.mark = faults.FAILED if met.fault.flag != faults.FAILED else ""
        raise ProxyError(met.fault)
