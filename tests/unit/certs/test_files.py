"""Replacing files: whole or not at all, closed to others from the first moment, one writer at a time."""

import os
import stat
from pathlib import Path

import pytest

from certs.files import KEY_MODE, PUBLIC_MODE, alone_in, replace_durably


@pytest.mark.parametrize("mode", [KEY_MODE, PUBLIC_MODE])
def test_content_and_mode_are_those_asked_for(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    replace_durably(path, b"new", mode)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode & ~current_umask()
    assert list(tmp_path.iterdir()) == [path]


def current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_key_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        replace_durably(tmp_path / "key", b"secret", KEY_MODE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_everything_is_synced_before_and_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    synced: list[tuple[str, bool]] = []

    def note(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    replace_durably(path, b"new", KEY_MODE)
    assert synced == [("file", False), ("folder", True)]


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_durably(path, b"new", KEY_MODE)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"other")
    path = tmp_path / "file"
    path.symlink_to(elsewhere)
    replace_durably(path, b"new", KEY_MODE)
    assert (elsewhere.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"other", b"new", False)


def test_only_one_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(BlockingIOError), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass
