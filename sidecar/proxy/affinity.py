"""Which number a request is balanced by, when its policy hashes."""

from sidecar.balance.hashing import hash64, key_of
from sidecar.model.balancing import HashKey
from sidecar.model.messages import RequestHead
from sidecar.transport.stream import Peer


def request_hash(where: HashKey, head: RequestHead, peer: Peer) -> int | None:
    """The hash of its key; None when it has none. The key is looked for in the head as the client sent it."""
    key = key_of(where, head, peer.principal or peer.address.rpartition(":")[0])
    return hash64(key) if key is not None else None
