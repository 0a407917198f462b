"""The API's port and token: opened on real sockets, kept in real files."""

import socket
import stat
from pathlib import Path

import pytest

from control_plane.api import listen, token


def test_a_port_in_use_and_a_bad_address_are_one_line_each() -> None:
    with listen.bind("127.0.0.1:0") as first:
        address = listen.address_of(first)
        with pytest.raises(listen.ListenError, match=f"^cannot listen on {address}: address already in use$"):
            listen.bind(address)
    for wrong in ("127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", "127.0.0.1:1²"):
        with pytest.raises(listen.ListenError, match="is not an address such as"):
            listen.bind(wrong)
    with pytest.raises(listen.ListenError, match=r"^cannot listen on 203\.0\.113\.1:1: cannot assign"):
        listen.bind("203.0.113.1:1")


def test_ipv6_addresses_are_printed_in_brackets() -> None:
    try:
        listener = listen.bind("[::1]:0")
    except listen.ListenError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert listen.address_of(listener).startswith("[::1]:")
        assert listener.family is socket.AF_INET6


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    made = token.load_or_create(tmp_path)
    file = tmp_path / "api.token"
    assert file.read_text() == made + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["api.token"]
    file.chmod(0o644)
    assert token.load_or_create(tmp_path) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "short", "two words that are long enough", "é" * 30, "\x00" * 40])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "api.token").write_text(content)
    with pytest.raises(token.TokenError, match=r"api\.token: holds no API token"):
        token.load_or_create(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(token.TokenError, match=r"nowhere/api\.token: No such file or directory"):
        token.load_or_create(tmp_path / "nowhere")
