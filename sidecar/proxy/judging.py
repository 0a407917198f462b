"""What a try's end means, as the attempts machine wants to hear it: a failure, or none.

Asked by exchange.py after each try. gRPC tells by its own statuses (policy/grpc.py), everything else by HTTP's.
"""

from dataclasses import replace

from sidecar.errors import (
    CONNECT_FAILED,
    CONNECT_TIMEOUT,
    DENIED,
    INJECTED,
    QUEUE_TIMEOUT,
    REQUEST_TIMEOUT,
    TRY_TIMEOUT,
    Fault,
    ProxyError,
)
from sidecar.model.messages import ResponseHead
from sidecar.policy import grpc, retry
from sidecar.policy.retry import Failure, GiveUp
from sidecar.policy.retry_after import retry_after_s
from sidecar.proxy.handover import HandOver
from sidecar.proxy.pool import Pool
from sidecar.proxy.replies import FLAGS, UNTOUCHED


def judged(record: HandOver, answer: ResponseHead) -> Failure | None:
    """The failure that an answer's head tells; None when it tells none."""
    assert record.exchange is not None
    named = not record.grpc and retry.names(record.exchange.policy.retries, answer)
    if not record.grpc and answer.status < 500 and not named:
        return None
    untouched = bool(record.principal) and answer.get(UNTOUCHED) is not None
    if record.grpc:
        record.grpc_told = grpc.status_in(answer)
        return grpc.judge_head(answer, untouched=untouched)
    return Failure(None, answer.status, untouched, named=named, retry_after_s=retry_after_s(answer))


def failed(record: HandOver, fault: Fault, *, untouched: bool) -> Failure:
    """A try that ended without an answer."""
    if record.grpc:
        return grpc.failure_of(fault, untouched=untouched)
    if fault.flag == INJECTED.flag:
        assert record.exchange is not None
        return Failure(fault, fault.status, untouched, named=fault.status in record.exchange.policy.retries.statuses)
    return Failure(fault, None, untouched)


def timed_out(record: HandOver, pool: Pool, now_s: float) -> Fault:
    """Whose time was over: the queue's, the dial's, the request's, or the try's."""
    exchange = record.exchange
    assert exchange is not None
    if record.lease is None:
        # All the connections that the cluster may use are in use: the try waited for one of them.
        queued = pool.in_use(exchange.cluster.key) >= exchange.policy.limits.connections
        return QUEUE_TIMEOUT if queued else CONNECT_TIMEOUT
    if record.ends_at_s is not None and now_s >= record.ends_at_s:
        took_s = now_s - record.started_s
        return REQUEST_TIMEOUT.saying(f"the service did not answer within {took_s:.3g}s")
    return TRY_TIMEOUT


def tunnel_refused(record: HandOver, answer: ResponseHead) -> ProxyError:
    """What an answer means in the place of a TCP connection's tunnel: its client reads no heads, so we tell it here."""
    exchange, endpoint = record.exchange, record.endpoint
    assert exchange is not None
    assert endpoint is not None
    fault = DENIED if answer.status == 403 else CONNECT_FAILED
    if exchange.denied is GiveUp.ATTEMPTS:
        fault = replace(fault, flag=f"URX,{fault.flag}")
    told = (answer.get(FLAGS) or b"no flag")[:32].decode("ascii", "replace")
    sentence = f"the sidecar of endpoint {endpoint.id} at {endpoint.address} refused the connection"
    return ProxyError(fault, f"{sentence}: {answer.status} {told}")
