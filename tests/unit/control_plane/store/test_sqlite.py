"""The SQLite engine: the contract, and what is its own (modes, locks, foreign and damaged files, kill -9)."""

import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from control_plane.store.contract import Put, Store, StoreError
from control_plane.store.sqlite import FILE_NAME, open_store
from tests.unit.control_plane.store.contract_suite import Opener, StoreContract, clock

__all__ = ["clock"]


class TestSqliteStore(StoreContract):
    """Everything that the contract asks."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Opener:
        def opened(clock: Callable[[], float]) -> Awaitable[Store]:
            return open_store(tmp_path / "data", clock)

        return opened


async def test_folder_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store = await open_store(data)
    await store.txn([Put("a", b"1")])
    assert data.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in data.iterdir()} == dict.fromkeys(
        [FILE_NAME, FILE_NAME + "-wal"], 0o600
    )
    await store.aclose()


async def test_a_file_that_others_may_read_is_narrowed(tmp_path: Path) -> None:
    await (await open_store(tmp_path)).aclose()
    (tmp_path / FILE_NAME).chmod(0o644)
    await (await open_store(tmp_path)).aclose()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_every_acknowledged_write_is_synced(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    settings = await store._run(
        lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    )
    assert settings == ["wal", 2]
    await store.aclose()


async def test_nothing_is_acknowledged_into_a_file_that_was_deleted(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await store.txn([Put("a", b"1")])
    aside = tmp_path / "aside"
    (tmp_path / FILE_NAME).rename(aside)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.db: was deleted or replaced while in use"):
            await store.txn([Put("a", b"2")])
    aside.rename(tmp_path / FILE_NAME)
    assert await store.txn([Put("a", b"3")]) == 2
    await store.aclose()


async def test_a_second_control_plane_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    with pytest.raises(StoreError, match=r"store\.db: another control plane uses it; stop that one, or name another"):
        await open_store(tmp_path)
    await store.aclose()


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("CREATE TABLE music (title)")
    db.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match="a database of another program"):
        await open_store(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


async def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    await (await open_store(tmp_path)).aclose()
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match=r"written by a newer version \(schema 99, this one knows 1\); upgrade"):
        await open_store(tmp_path)


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but a letter" * 100)
    with pytest.raises(StoreError, match="damaged, or not a store"):
        await open_store(tmp_path)


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await store.txn([Put(f"key{number}", b"x" * 500) for number in range(100)])
    await store.aclose()
    content = bytearray((tmp_path / FILE_NAME).read_bytes())
    for page in range(1, len(content) // 4096):  # the first page holds the schema; leave that one readable
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*restore it from a backup, or move it away"):
        await open_store(tmp_path)


async def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/data/store\.db: Not a directory; the control plane must be able"):
        await open_store(tmp_path / "file" / "data")


_WRITER = """
import sys, trio
from pathlib import Path
from control_plane.store.contract import Put
from control_plane.store.sqlite import open_store

async def main():
    store = await open_store(Path(sys.argv[1]))
    number = len((await store.list("n/")).entries)
    while True:
        await store.txn([Put(f"n/{number:06}", b"x" * 200), Put("last", str(number).encode())])
        print(number, flush=True)
        number += 1

trio.run(main)
"""


def test_what_was_acknowledged_survives_kill_9_and_nothing_is_half_there(tmp_path: Path) -> None:
    """Each round: a child writes and says what was acknowledged; it is killed in the middle; the store is opened."""
    for acknowledgements in (3, 25):
        child = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(acknowledgements)]
        child.kill()
        said += [int(line) for line in child.stdout if line.endswith("\n")]
        child.stdout.close()
        child.wait()
        keys, last = trio.run(_written, tmp_path)
        assert keys == [f"n/{number:06}" for number in range(last + 1)]
        assert said[-1] <= last <= said[-1] + 1


async def _written(path: Path) -> tuple[list[str], int]:
    store = await open_store(path)
    keys = [entry.key for entry in (await store.list("n/")).entries]
    last = await store.get("last")
    await store.aclose()
    assert last is not None
    return keys, int(last.value)
