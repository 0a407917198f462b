"""The embedded store: one SQLite file in WAL mode, synced before a transaction is acknowledged.

Implements contract.Store. All work runs in a thread, one call at a time, so that the trio loop never waits for the
disk. The file is held exclusively: two control planes on one folder would serve two truths.

Refuses a file that is not its own, is damaged, or was written by a newer version; it never repairs and never deletes.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from control_plane.store.contract import (
    Change,
    Compacted,
    Conflict,
    Delete,
    Entry,
    Expect,
    Listing,
    Operation,
    Put,
    StoreError,
    check_transaction,
)

FILE_NAME = "store.db"
APPLICATION_ID = 0x6D657368  # "mesh", in the file's header: tells our file from any other SQLite file
SCHEMA = 1
BATCH_CHANGES = 60_000  # rows a watcher takes at once; above MAX_OPERATIONS, so that a whole transaction always fits

_SCHEMA = """
CREATE TABLE entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires_s REAL
) WITHOUT ROWID;
CREATE INDEX entries_expiry ON entries (expires_s) WHERE expires_s IS NOT NULL;
CREATE TABLE changes (revision INTEGER, key TEXT, value BLOB, PRIMARY KEY (revision, key)) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0), ('compacted', 0);
"""
# A key that has expired is gone for readers, whether or not it was swept yet.
_ALIVE = "(expires_s IS NULL OR expires_s > ?)"

T = TypeVar("T")


class SqliteStore:
    """contract.Store on one file. Open it with `open_store`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = connection
        self._clock = clock
        self._file = _file_at(path)
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._changed = trio.Event()

    async def revision(self) -> int:
        """See contract.Store."""
        return await self._run(lambda db: _counter(db, "revision"))

    async def get(self, key: str) -> Entry | None:
        """See contract.Store."""
        now_s = self._clock()

        def read(db: sqlite3.Connection) -> Entry | None:
            query = f"SELECT key, value, revision, expires_s FROM entries WHERE key = ? AND {_ALIVE}"  # noqa: S608 constant
            row = db.execute(query, (key, now_s)).fetchone()
            return None if row is None else Entry(*row)

        return await self._run(read)

    async def list(self, prefix: str) -> Listing:
        """See contract.Store."""
        now_s = self._clock()

        def read(db: sqlite3.Connection) -> Listing:
            query = (
                "SELECT key, value, revision, expires_s FROM entries "  # noqa: S608 constant
                f"WHERE key >= ? AND key < ? AND {_ALIVE} ORDER BY key"
            )
            rows = db.execute(query, (prefix, prefix + "\x7f", now_s))  # keys are printable ASCII, below 0x7f
            return Listing(_counter(db, "revision"), tuple(Entry(*row) for row in rows))

        return await self._run(read)

    async def txn(self, operations: Sequence[Operation], expect: Sequence[Expect] = ()) -> int:
        """See contract.Store."""
        check_transaction(operations, expect)
        now_s = self._clock()

        def write(db: sqlite3.Connection) -> tuple[int, int]:
            if _file_at(self._path) != self._file:  # SQLite goes on in a file that no restart would find
                raise StoreError(
                    f"{self._path}: was deleted or replaced while in use, so nothing can be kept; "
                    "put it back, or restart the control plane to begin with what is there"
                )
            return _transact(db, operations=operations, expect=expect, now_s=now_s)

        before, after = await self._run(write)
        if after != before:
            self._wake()
        return after

    def watch(self, prefix: str, after: int) -> "SqliteWatch":
        """See contract.Store."""
        return SqliteWatch(self, prefix, after)

    async def expire(self) -> int:
        """See contract.Store."""
        now_s = self._clock()

        def sweep(db: sqlite3.Connection) -> int:
            rows = db.execute("SELECT key FROM entries WHERE expires_s <= ? LIMIT 10000", (now_s,)).fetchall()
            if rows:
                _transact(db, operations=[Delete(key) for (key,) in rows], expect=(), now_s=now_s)
            return len(rows)

        gone = await self._run(sweep)
        if gone:
            self._wake()
        return gone

    async def compact(self, keep: int) -> int:
        """See contract.Store."""

        def forget(db: sqlite3.Connection) -> int:
            oldest = max(_counter(db, "revision") - keep, _counter(db, "compacted"))
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute("DELETE FROM changes WHERE revision <= ?", (oldest,))
                db.execute("UPDATE counters SET value = ? WHERE name = 'compacted'", (oldest,))
            return oldest

        return await self._run(forget)

    async def changes(self, prefix: str, after: int) -> tuple[int, Sequence[Change]]:
        """For the watch: the revision up to which changes were looked at, and those under `prefix` after `after`."""
        return await self._run(partial(_changes, prefix=prefix, after=after))

    async def wait_beyond(self, revision: int) -> None:
        """For the watch: return when the store is beyond `revision`. Raises StoreError once it is closed."""
        while True:
            changed = self._changed
            if await self.revision() > revision:
                return
            await changed.wait()

    async def aclose(self) -> None:
        """See contract.Store."""
        db, self._db = self._db, None
        self._wake()
        if db is not None:
            with trio.CancelScope(shield=True):  # bounded: waits for the one call in progress, then closes
                await trio.to_thread.run_sync(db.close, limiter=self._one_at_a_time)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def guarded() -> T:
            if self._db is None:
                raise StoreError(f"{self._path}: the store is closed")
            try:
                return work(self._db)
            except sqlite3.Error as problem:
                raise StoreError(
                    f"{self._path}: {problem}; look at the disk: is it full, read-only, failing?"
                ) from problem

        # Not abandoned on cancellation: a commit under way is always waited for, so its outcome is always known.
        return await trio.to_thread.run_sync(guarded, limiter=self._one_at_a_time)


class SqliteWatch:
    """contract.Watch: asks the file again whenever a transaction of this process was committed."""

    def __init__(self, store: SqliteStore, prefix: str, after: int) -> None:
        self._store = store
        self._prefix = prefix
        self._after = after

    async def next(self) -> Sequence[Change]:
        """See contract.Watch."""
        while True:
            await self._store.wait_beyond(self._after)
            self._after, found = await self._store.changes(self._prefix, self._after)
            if found:
                return found


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file is there; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def open_store(directory: Path, clock: Callable[[], float] = time.time) -> SqliteStore:
    """Open DIR/store.db, made when missing; `clock` gives Unix seconds for expiring keys.

    Raises:
        StoreError: Not our file, damaged, of a newer version, in use, or not accessible; says what to do.
    """
    path = directory / FILE_NAME
    connection = await trio.to_thread.run_sync(_open, path)
    return SqliteStore(path, connection, clock)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The mode is given at creation: nobody else may read it, not even for a moment. WAL files inherit it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as problem:
        raise StoreError(f"{path}: {problem.strerror}; the control plane must be able to write there") from problem
    db = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
    try:
        _take(db, path)
    except sqlite3.OperationalError as problem:
        db.close()
        if "locked" in str(problem):
            raise StoreError(
                f"{path}: another control plane uses it; stop that one, or name another folder"
            ) from problem
        raise StoreError(f"{path}: {problem}") from problem
    except sqlite3.DatabaseError as problem:
        db.close()
        raise StoreError(f"{path}: damaged, or not a store ({problem}); {_MOVE}") from problem
    except StoreError:
        db.close()
        raise
    return db


_MOVE = "restore it from a backup, or move it away to start with an empty one"


def _take(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    application, schema, tables = (
        db.execute("PRAGMA application_id").fetchone()[0],
        db.execute("PRAGMA user_version").fetchone()[0],
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0],
    )
    if application != APPLICATION_ID and (application or schema or tables):
        raise StoreError(f"{path}: a database of another program; move it away, or name another folder")
    if schema > SCHEMA:
        raise StoreError(
            f"{path}: written by a newer version (schema {schema}, this one knows {SCHEMA}); upgrade, {_MOVE}"
        )
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")  # the default of WAL, NORMAL, loses the last transactions in a power cut
    db.execute("BEGIN EXCLUSIVE")  # takes the lock that locking_mode keeps from here on
    if tables == 0:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={SCHEMA}")
    db.execute("COMMIT")
    if (state := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise StoreError(f"{path}: damaged ({state.splitlines()[-1]}); {_MOVE}")


def _transact(
    db: sqlite3.Connection, *, operations: Sequence[Operation], expect: Sequence[Expect], now_s: float
) -> tuple[int, int]:
    """Revisions before and after."""
    with db:  # commits, or rolls back on any exception
        db.execute("BEGIN IMMEDIATE")
        before = _counter(db, "revision")
        wrong = [each.key for each in expect if _revision_of(db, each.key, now_s) != each.revision]
        if wrong:
            raise Conflict(wrong)
        written = False
        for operation in operations:
            written = _perform(db, operation, before + 1) or written
        if not written:
            return before, before
        db.execute("UPDATE counters SET value = ? WHERE name = 'revision'", (before + 1,))
    return before, before + 1


def _perform(db: sqlite3.Connection, operation: Operation, revision: int) -> bool:
    key = operation.key
    if isinstance(operation, Put):
        row = (key, operation.value, revision, operation.expires_s)
        db.execute("INSERT OR REPLACE INTO entries (key, value, revision, expires_s) VALUES (?, ?, ?, ?)", row)
        db.execute("INSERT INTO changes (revision, key, value) VALUES (?, ?, ?)", (revision, key, operation.value))
        return True
    if db.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount == 0:
        return False
    db.execute("INSERT INTO changes (revision, key, value) VALUES (?, ?, NULL)", (revision, key))
    return True


def _changes(db: sqlite3.Connection, *, prefix: str, after: int) -> tuple[int, Sequence[Change]]:
    if after < (oldest := _counter(db, "compacted")):
        raise Compacted(oldest)
    rows = db.execute(
        "SELECT revision, key, value FROM changes WHERE revision > ? ORDER BY revision LIMIT ?",
        (after, BATCH_CHANGES + 1),
    ).fetchall()
    upto = _counter(db, "revision")
    if len(rows) > BATCH_CHANGES:  # the last revision may be cut: leave it for the next turn
        upto = rows[-1][0] - 1
    found = [
        Change(revision, key, value) for revision, key, value in rows if revision <= upto and key.startswith(prefix)
    ]
    return upto, found


def _counter(db: sqlite3.Connection, name: str) -> int:
    value: int = db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()[0]
    return value


def _revision_of(db: sqlite3.Connection, key: str, now_s: float) -> int:
    query = f"SELECT revision FROM entries WHERE key = ? AND {_ALIVE}"  # noqa: S608 constant
    row = db.execute(query, (key, now_s)).fetchone()
    return 0 if row is None else int(row[0])
