"""What is said about a PEM file."""

import stat
import time
from pathlib import Path

import pytest

from certs.ca import TrustDomain
from control_plane.cli.certificates import read_pem
from control_plane.cli.commands.certs import COLUMNS, cells, valid_at
from control_plane.cli.commands.tokens import write_secret
from control_plane.cli.complaint import FAILED, USAGE, Complaint
from control_plane.cli.main import main

TOKEN_BLOCK = "-----BEGIN MESH JOIN TOKEN-----\nYWJj\n-----END MESH JOIN TOKEN-----\n"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> TrustDomain:
    return TrustDomain.create(tmp_path_factory.mktemp("domain"), "mesh.local", time.time())


def test_a_root_and_an_issuer_are_told_apart(domain: TrustDomain) -> None:
    folder = domain.directory
    (root,), _ = read_pem(folder / "root.pem")
    (issuer,), _ = read_pem(folder / "issuer.pem")
    assert (root["kind"], issuer["kind"]) == ("root", "issuer")
    assert issuer["issuer"] == root["name"]
    assert root["key"].startswith("EC ")
    assert valid_at(root, time.time())
    assert not valid_at(root, root["not_after_s"])
    named = dict(zip([column.title for column in COLUMNS], cells(root, root["not_after_s"]), strict=True))
    assert named["LEFT"] == "EXPIRED"


def test_a_join_file_shows_its_root_and_hides_its_token(
    domain: TrustDomain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "join.pem"
    path.write_bytes((domain.directory / "root.pem").read_bytes() + TOKEN_BLOCK.encode())
    assert main(["cert", "inspect", str(path)]) == 0
    got = capsys.readouterr()
    assert got.out.splitlines()[0].split() == ["KIND", "IDENTITY", "UNTIL", "LEFT"]
    assert "YWJj" not in got.out + got.err
    assert got.err == "block 2 is a secret (MESH JOIN TOKEN), not shown\n"


def test_keys_are_never_shown(domain: TrustDomain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cert", "inspect", str(domain.directory / "root.key")]) == 1
    got = capsys.readouterr()
    assert got.out == ""
    assert "holds no certificate in PEM form (it has: " in got.err
    assert "-----" not in got.err


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    cases = {
        b"": ("holds no certificate in PEM form", FAILED),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": ("block 1: cannot be read as", FAILED),
        b"-----BEGIN CERTIFICATE-----\n": ("bad.pem: ", FAILED),
    }
    for content, (says, status) in cases.items():
        path = tmp_path / "bad.pem"
        path.write_bytes(content)
        with pytest.raises(Complaint) as refused:
            read_pem(path)
        assert says in refused.value.message
        assert refused.value.status == status
    with pytest.raises(Complaint, match=r"cannot read .*: no such file or directory") as missing:
        read_pem(tmp_path / "missing.pem")
    assert missing.value.status == USAGE


def test_secrets_are_written_private_and_never_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "join.pem"
    write_secret(path, "secret\n", force=False)
    assert path.read_text() == "secret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(Complaint, match=r"cannot write .*: file exists"):
        write_secret(path, "other\n", force=False)
    path.chmod(0o644)
    write_secret(path, "other\n", force=True)
    assert path.read_text() == "other\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    target = tmp_path / "elsewhere"
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(Complaint, match="cannot write"):
        write_secret(tmp_path / "link", "x", force=False)
    assert not target.exists()
