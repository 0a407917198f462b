"""What the control plane asks of a store: a revisioned key-value map with transactions, watching and expiring keys.

Below everything that must survive a restart; one engine is in `sqlite.py`, others (etcd, PostgreSQL) fit the same
contract and the same test class. One number, the revision, grows by one with each transaction that changes something.
The history of changes is kept for a while only: a watcher that asks for older ones is told `Compacted` and lists again.

Refuses to be clever: no queries beyond a prefix, no partial transactions, no home-made consensus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# Bounds that every engine keeps. One change of the mesh's own policy may touch every resource, all in one transaction;
# an engine with narrower bounds (etcd's default is 128 operations) has to be set up for these.
MAX_KEY_BYTES = 1_024
MAX_VALUE_BYTES = 4 * 1024 * 1024
MAX_OPERATIONS = 50_000


class StoreError(Exception):
    """The store cannot be opened, read or written; str() says which, why, and what to do."""


class Conflict(Exception):  # noqa: N818 - an answer to expect, not a fault
    """Nothing was written, because `keys` are not at the revisions that the caller expected."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"changed meanwhile: {', '.join(keys)}")
        self.keys = tuple(keys)


class Compacted(Exception):  # noqa: N818 - an answer to expect, not a fault
    """Changes after the asked revision are no longer kept; list again and watch from the listing's revision."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"changes before revision {oldest + 1} are gone; list again")
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it is now.

    Attributes:
        revision: That of the transaction which wrote it last.
        expires_s: Unix time at which it goes by itself; None stays.
    """

    key: str
    value: bytes
    revision: int
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries under a prefix in order of key, all as of one `revision`."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A key that a transaction wrote, or (value None) removed."""

    revision: int
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Expect:
    """The transaction happens only if `key` was last written at `revision`; 0: only if it is not there."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key. With `expires_s` it is a lease: it goes at that Unix time unless it is put again before."""

    key: str
    value: bytes
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; one that is not there is no error and no change."""

    key: str


Operation = Put | Delete


class Watch(Protocol):
    """Changes under a prefix, in order, each exactly once."""

    async def next(self) -> Sequence[Change]:
        """Wait for changes and return them, whole transactions, oldest first; never empty. Raises Compacted."""


class Store(Protocol):
    """The contract. Methods may be called from any task of the trio run that opened it; each is atomic.

    A key past its `expires_s` is gone for `get`, `list` and `Expect` at once; `expire` makes that a change.
    Every method raises StoreError when the engine fails; what was acknowledged before survives kill -9 and power cuts.
    """

    async def revision(self) -> int:
        """Revision of the newest transaction; 0 for a new store."""

    async def get(self, key: str) -> Entry | None:
        """The entry, or None."""

    async def list(self, prefix: str) -> Listing:
        """Every entry whose key starts with `prefix`."""

    async def txn(self, operations: Sequence[Operation], expect: Sequence[Expect] = ()) -> int:
        """Do all or nothing; return the store's revision afterwards. Synced to disk when it returns.

        Removing only what is not there changes nothing and makes no revision. Raises Conflict when an expectation
        does not hold, ValueError for a key, value or transaction above the bounds or a key named twice.
        """

    def watch(self, prefix: str, after: int) -> Watch:
        """Changes with a revision greater than `after` (a listing's revision misses nothing and repeats nothing)."""

    async def expire(self) -> int:
        """Remove keys whose time is over, as one transaction; return how many."""

    async def compact(self, keep: int) -> int:
        """Forget all but the newest `keep` revisions of history; return the oldest one that can be watched from."""

    async def aclose(self) -> None:
        """Release files and wake watchers, who get StoreError."""


def check_transaction(operations: Sequence[Operation], expect: Sequence[Expect]) -> None:
    """Raise ValueError for a transaction that is above the bounds or ambiguous; engines call this first."""
    if len(operations) > MAX_OPERATIONS or len(expect) > MAX_OPERATIONS:
        raise ValueError(f"a transaction of {len(operations)} operations (at most {MAX_OPERATIONS})")
    written = [operation.key for operation in operations]
    if len(set(written)) != len(written):
        raise ValueError("a transaction writes the same key twice")
    for key in (*written, *(each.key for each in expect)):
        # Printable ASCII: every engine then sorts keys alike, whatever its collation.
        if not key or len(key) > MAX_KEY_BYTES or not (key.isascii() and key.isprintable()):
            raise ValueError(f"key {key[:80]!r}: 1 to {MAX_KEY_BYTES} printable ASCII characters are allowed")
    for operation in operations:
        if isinstance(operation, Put) and len(operation.value) > MAX_VALUE_BYTES:
            raise ValueError(f"{operation.key}: {len(operation.value)} bytes (at most {MAX_VALUE_BYTES})")
