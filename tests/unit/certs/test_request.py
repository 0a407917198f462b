"""The child that makes a key: two PEM blocks through a pipe, or one sentence and a status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs import bundle, issue, request

COMMAND = [sys.executable, *bundle.KEY_REQUEST_ARGUMENTS]
LIMIT_S = 20


def test_the_child_writes_a_key_and_a_request_that_can_be_signed(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, capture_output=True, check=False, timeout=LIMIT_S, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    made = bundle.key_request(done.stdout)
    key = load_pem_private_key(made.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert issue.public_key_of(made.csr_pem) == key.public_key()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_named_certs_where_it_is_started_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "__init__.py").write_text("raise SystemExit(99)")
    assert subprocess.run(COMMAND, capture_output=True, check=False, timeout=LIMIT_S, cwd=tmp_path).returncode == 0


def test_each_key_is_another_and_the_request_names_nobody() -> None:
    first, second = (bundle.key_request(request.key_and_request()) for _ in range(2))
    assert first.key_pem != second.key_pem
    csr = x509.load_pem_x509_csr(first.csr_pem)
    assert (list(csr.subject), list(csr.extensions)) == ([], [])


def test_a_key_is_not_written_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(COMMAND, stdout=out, stderr=subprocess.PIPE, check=False, timeout=LIMIT_S)
    assert done.returncode == request.USAGE
    assert done.stderr == (
        b"certs.request: writes a private key, and only to a pipe or socket; it is started by the sidecar\n"
    )
    assert (tmp_path / "out").read_bytes() == b""


def test_arguments_are_refused_because_others_can_read_them() -> None:
    done = subprocess.run([*COMMAND, "--out=key"], capture_output=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"certs.request: takes no arguments\n")


def test_a_reader_that_left_is_a_status_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(COMMAND, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=LIMIT_S)
    assert done.returncode == request.READER_GONE
    assert done.stderr == b"certs.request: cannot write to the pipe: Broken pipe\n"


def test_a_missing_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["certs.request"])
    monkeypatch.setattr(request, "_is_pipe", lambda _: True)
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert request.main() == request.NO_KEY
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("certs.request: cannot make a key: ")
    assert said.err.count("\n") == 1
