"""Forward an answer to the client as it comes, once the machine has said so; after its head there is no way back.

Called by exchange.py. Bounded memory: one buffer of the answer is in hand at a time, and credit goes back to the
endpoint only after the client took the bytes.
"""

import math

from sidecar.codec.events import Chunk, End, Trailers
from sidecar.errors import REQUEST_TIMEOUT, UPSTREAM_PROTOCOL, Fault, ProxyError
from sidecar.model.messages import Fields, ResponseHead
from sidecar.policy.grpc import TIMEOUT_HEADER
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.edits import forwarded_response
from sidecar.proxy.handover import HandOver, Sent
from sidecar.proxy.patience import Patience
from sidecar.proxy.upstream import Lease
from sidecar.proxy.worker import Worker
from sidecar.transport.stream import Interrupted


async def relay(
    record: HandOver, client: Downstream, lease: Lease, answer: ResponseHead, worker: Worker, patience: Patience
) -> Fields:
    """Forward head, body and trailers; everything received together is written together. Gives the lease back.

    Returns the trailers.

    Raises:
        ProxyError: The answer broke off, paused for too long, or the client left; its connection has to be cut.
        Interrupted: The request was ended.
    """
    if worker.draining:
        client.close_after()
    client.put_head(forwarded_response(answer, record.filters))
    record.status = answer.status
    record.sent_downstream = Sent.HEAD
    trailers: Fields = []
    credit = 0
    while True:
        event = lease.pop()
        if event is None:
            if not client.push_now():
                await patience.bounded(client.push)
            if credit:
                lease.credit(credit)
                credit = 0
            lease.read_at_most(client.appetite)
            await _more(record, lease, worker, patience)
        elif isinstance(event, Chunk):
            record.sent_downstream = Sent.BODY
            record.bytes_out += len(event.data)
            credit += event.credit
            client.put_chunk(event.data)
        elif isinstance(event, Trailers):
            trailers = event.fields
        elif isinstance(event, End):
            client.put_end(trailers)
            lease.release()
            record.lease = None
            if not client.push_now():
                await patience.bounded(client.push)
            return trailers
        else:
            raise ProxyError(UPSTREAM_PROTOCOL, "the endpoint sent another head inside its answer")


async def _more(record: HandOver, lease: Lease, worker: Worker, patience: Patience) -> None:
    """Wait for more of the answer's body: as long as the stream may idle, or the route's whole-response time."""
    route = record.route
    assert route is not None
    idle_s = route.policy.timeouts.stream_idle_s
    while True:
        until_s = worker.now() + idle_s if idle_s else math.inf
        bounded = route.whole_response or (record.grpc and record.head.get(TIMEOUT_HEADER) is not None)
        whole = bounded and record.ends_at_s is not None and record.ends_at_s < until_s
        if whole and record.ends_at_s is not None:
            until_s = record.ends_at_s
        uploaded = record.bytes_in
        patience.until(until_s)
        try:
            await patience.fill(lease)
            return
        except Interrupted:
            if patience.ended:
                raise
        finally:
            patience.until(math.inf)
        if whole or record.bytes_in == uploaded:  # a stream whose request body goes on is not idle
            raise ProxyError(too_slow(idle_s, whole=whole))


def too_slow(idle_s: float, *, whole: bool) -> Fault:
    """What ends an answer whose body takes too long: in `whole`, or for the rest of it."""
    what = "was not complete within the route's time" if whole else f"made no progress for {idle_s:g}s"
    return REQUEST_TIMEOUT.saying(f"the answer {what}")
