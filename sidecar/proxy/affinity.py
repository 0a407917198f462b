"""Which backend and which number a request is balanced by, when its policy asks for a key of the request."""

from random import Random

from sidecar.balance.hashing import hash64, key_of
from sidecar.balance.pick import split
from sidecar.balance.sticky import sticky
from sidecar.model.balancing import HashKey
from sidecar.model.messages import RequestHead
from sidecar.routing.plan import RoutePlan
from sidecar.transport.stream import Peer


def request_hash(where: HashKey, head: RequestHead, peer: Peer) -> int | None:
    """The hash of its key; None when it has none. The key is looked for in the head as the client sent it."""
    key = key_of(where, head, source_of(peer))
    return hash64(key) if key is not None else None


def share(plan: RoutePlan, head: RequestHead, peer: Peer, rng: Random) -> int:
    """The index of the backend that the request goes to; chance decides where the policy or the request has no key."""
    if plan.sticky is not None:
        key = key_of(plan.sticky, head, source_of(peer))
        if key is not None:
            return sticky(key, plan.names, plan.cumulative)
    return split(plan.cumulative, rng)


def source_of(peer: Peer) -> str:
    """Who asks: the identity of its certificate, else its IP address."""
    return peer.principal or peer.address.rpartition(":")[0]
