"""The CLIENT span of one try: opened when it begins, closed with how it ended. Nothing is made for unsampled traces."""

from random import Random

from sidecar.model.messages import ResponseHead
from sidecar.policy.retry import Failure
from sidecar.proxy.handover import HandOver
from sidecar.telemetry import trace
from sidecar.telemetry.observer import DESTINATION, AttemptSpan


def open_span(record: HandOver, reporter: str, now_s: float, rng: Random) -> AttemptSpan | None:
    """The span of the try that begins now; None on the inbound side, whose one span is the SERVER's."""
    if record.trace is None or not record.trace.sampled or reporter == DESTINATION:
        return None
    if record.lease is not None and record.spans:
        return record.spans[-1]  # the try was begun by the path that handed it over
    span = AttemptSpan(trace.new_span_id(rng), now_s, 0.0, record.endpoint)
    span.resend_count = max(record.exchange.attempt - 1, 0) if record.exchange is not None else 0
    record.spans.append(span)
    return span


def close_span(span: AttemptSpan | None, now_s: float, answer: ResponseHead | None, failure: Failure | None) -> None:
    """Say how the try ended."""
    if span is None:
        return
    span.ended_s = now_s
    span.status = answer.status if answer is not None else 0
    if failure is None:
        return
    if failure.grpc_status is not None:
        span.grpc_status = str(failure.grpc_status)
    if failure.fault is not None:
        span.error = failure.fault.flag
    elif failure.status != 200:  # gRPC's failures are 200
        span.error = str(failure.status)
