"""A snapshot and an identity on their way from the holder to a worker: the difference, as JSON documents, and back.

The documents are those of the wire and of the disk cache, read by the same parser. A big difference is cut into parts,
so that neither process is held up for long; only the last message puts it in force, whole.
"""

from collections.abc import Iterator
from dataclasses import replace

from sidecar.app.channel import Message
from sidecar.config.resources import parse_wire
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.transport.identity import Identity

PART_BYTES = 262_144  # about ten milliseconds of parsing


def difference(sent: Snapshot | None, wanted: Snapshot) -> Iterator[Message]:
    """`put` messages and a final `switch` that make `wanted` of what was sent."""
    had = sent.resources if sent is not None else {}
    part: list[tuple[str, int, str]] = []
    size = 0
    for name, resource in wanted.resources.items():
        if had.get(name) is resource:
            continue
        part.append((name, resource.version, resource.document))
        size += len(resource.document)
        if size >= PART_BYTES:
            yield {"type": "put", "set": part}
            part, size = [], 0
    yield {
        "type": "switch",
        "set": part,
        "unset": [name for name in had if name not in wanted.resources],
        "version": wanted.version,
        "complete": wanted.complete,
        "absent": sorted(wanted.absent),
    }


class Assembler:
    """Puts snapshots together again, in the worker. `snapshot` is the last one that was whole."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._parts: list[Resource] = []

    def put(self, message: Message) -> None:
        """Take a part. Raises ConfigError for what the holder's own parser would have refused: a bug."""
        self._parts += [parse_wire(name, version, document) for name, version, document in message["set"]]

    def switch(self, message: Message) -> Snapshot:
        """Take the last part; the snapshot that is to be in force."""
        self.put(message)
        absent = frozenset(ServiceKey(*key) for key in message["absent"])
        whole = self.snapshot.changed(self._parts, message["unset"], version=message["version"], absent=absent)
        self._parts = []
        self.snapshot = replace(whole, complete=message["complete"])
        return self.snapshot


def identity_message(who: Identity) -> Message:
    """An identity that already proved itself in the holder."""
    return {
        "type": "identity",
        "spiffe_id": who.spiffe_id,
        "chain": who.chain_pem.decode("ascii"),
        "key": who.key_pem.decode("ascii"),
        "bundle": who.bundle_pem.decode("ascii"),
        "not_after_s": who.not_after_s,
        "not_before_s": who.not_before_s,
    }


def identity_of(message: Message) -> Identity:
    """The same identity in the worker."""
    return Identity(
        spiffe_id=message["spiffe_id"],
        chain_pem=message["chain"].encode("ascii"),
        key_pem=message["key"].encode("ascii"),
        bundle_pem=message["bundle"].encode("ascii"),
        not_after_s=message["not_after_s"],
        not_before_s=message["not_before_s"],
    )
