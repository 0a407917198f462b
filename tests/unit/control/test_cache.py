"""The cache on disk: written whole or not at all, read without ever failing, never in the way of service."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.config.resources import parse_wire
from sidecar.control import cache
from sidecar.control.cache import CacheWriter, Loaded, cache_path, load, write
from sidecar.control.cache_file import CacheContent, encode
from tests.unit.control.test_cache_file import content


def numbered(number: int) -> CacheContent:
    return CacheContent(saved_at_s=float(number))


async def test_what_was_written_is_read_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = cache_path(tmp_path / "deep" / "cache", "shop", "orders-1")
    write(path, content())
    assert load(path, parse_wire) == Loaded(content())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.name == "shop.orders-1.cache"


def test_without_a_file_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert load(tmp_path / "none" / "a.cache", parse_wire) == Loaded(None)


def test_a_damaged_file_is_put_aside_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.orders-1.cache"
    damaged = encode(content())[:-1]
    path.write_bytes(damaged)
    problem = (
        f"{path}: the configuration cache is not used: its checksum does not match, so it is damaged or cut off; "
        "kept as shop.orders-1.cache.corrupt for a look; starting without it"
    )
    assert load(path, parse_wire) == Loaded(None, (problem,))
    assert (tmp_path / "shop.orders-1.cache.corrupt").read_bytes() == damaged
    assert load(path, parse_wire) == Loaded(None)


def test_a_folder_or_a_pipe_in_its_place_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "a.cache").mkdir()
    os.mkfifo(tmp_path / "b.cache")
    for name in ("a.cache", "b.cache"):
        loaded = load(tmp_path / name, parse_wire)
        assert "it is not a file" in loaded.problems[0]
        assert not (tmp_path / name).exists()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_FILE_BYTES", 100)
    path = tmp_path / "a.cache"
    write(path, content())
    assert "it is larger than 100 bytes" in load(path, parse_wire).problems[0]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    write(path, content())
    (tmp_path / ".a.cache.0123456789abcdef").write_bytes(b"half")
    (tmp_path / ".b.cache.0123456789abcdef").write_bytes(b"another's")
    assert load(path, parse_wire).content == content()
    assert sorted(each.name for each in tmp_path.iterdir()) == [".b.cache.0123456789abcdef", "a.cache"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.cache"
    write(path, content())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, numbered(2))
    assert load(path, parse_wire).content == content()
    assert [each.name for each in tmp_path.iterdir()] == ["a.cache"]


async def test_an_ending_writer_still_writes_the_newest(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path / "a.cache")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.put(numbered(1))
        writer.put(numbered(2))
        nursery.cancel_scope.cancel()
    assert load(tmp_path / "a.cache", parse_wire).content == numbered(2)


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from sidecar.control.cache import write
from sidecar.control.cache_file import CacheContent
number = 0
while True:
    number += 1
    write(Path(sys.argv[1]), CacheContent(saved_at_s=float(number), joined_with="x" * (number % 128)))
    if number == 1:
        print("ready", flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    for turn in range(6):
        child = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE)
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.007 * turn)  # another moment each time
            child.kill()
        loaded = load(path, parse_wire)
        assert loaded.problems == ()
        assert loaded.content is not None
        assert [each.name for each in tmp_path.iterdir()] == ["a.cache"]


async def until(true: Callable[[], bool]) -> None:
    """Virtual time passes while a thread works."""
    while True:
        await trio.sleep(0.3)
        if true():
            return


Written = list[tuple[float, CacheContent]]


def recording(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], bool] = lambda: False) -> tuple[Written, trio.Event]:
    """Writes go to a list, with their time; the event is set when there are two."""
    written: Written = []
    twice = trio.Event()

    def note(content: CacheContent) -> None:
        written.append((trio.current_time(), content))
        if len(written) >= 2:
            twice.set()

    def fake(path: Path, content: CacheContent) -> None:
        trio.from_thread.run_sync(note, content)
        if fail():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "write", fake)
    return written, twice


async def test_it_writes_at_most_once_a_second_and_skips_what_is_outdated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    written, twice = recording(monkeypatch)
    writer = CacheWriter(tmp_path / "a.cache")
    for number in range(5):
        writer.put(numbered(number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        while not written:
            await trio.lowlevel.checkpoint()
        writer.put(numbered(5))
        writer.put(numbered(6))
        await twice.wait()
        nursery.cancel_scope.cancel()
    assert [each.saved_at_s for _, each in written[:2]] == [4.0, 6.0]  # and 6 again if it ended in the middle of it
    assert written[1][0] - written[0][0] >= 1.0


async def test_a_full_disk_is_counted_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    full = [True]
    recording(monkeypatch, lambda: full[0])
    said: list[str] = []
    path = tmp_path / "a.cache"
    writer = CacheWriter(path, said.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.put(numbered(1))
        await until(lambda: writer.failures == 1)
        writer.put(numbered(2))
        await until(lambda: writer.failures == 2)
        failed = writer.problem
        full[0] = False
        writer.put(numbered(3))
        await until(lambda: not writer.problem)
        nursery.cancel_scope.cancel()
    assert writer.failures == 2
    problem = (
        f"{path}: cannot write the configuration cache (No space left on device): traffic goes on, but a restart "
        "without the control plane would start from older configuration; free space, or correct the folder's mode"
    )
    assert said == [problem]
    assert failed == problem
