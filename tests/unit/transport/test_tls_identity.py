"""Identities from files: every problem with its file and what to do, and a key that never shows."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from sidecar.errors import ConfigError
from sidecar.transport.identity import Identity
from tests.support import pki

GOOD = pki.identity("orders")


class Files:
    """The three files of an identity in a folder."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.cert, self.key, self.roots = (folder / name for name in ("svid.pem", "svid.key", "roots.pem"))
        self.cert.write_bytes(identity.chain_pem)
        self.key.write_bytes(identity.key_pem)
        self.key.chmod(0o600)
        self.roots.write_bytes(identity.bundle_pem)

    def read(self) -> Identity:
        return Identity.from_files(self.cert, self.key, self.roots)

    def problems(self) -> list[str]:
        """What reading complains about, with file names alone instead of paths."""
        with pytest.raises(ConfigError) as refused:
            self.read()
        return [problem.replace(f"{self.cert.parent}/", "") for problem in refused.value.problems]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, GOOD)


def test_an_identity_is_read_from_three_files(files: Files) -> None:
    assert files.read() == GOOD
    assert files.read().trust_domain == "mesh.local"


def test_only_what_belongs_there_is_kept(files: Files) -> None:
    combined = b"a comment\n" + GOOD.key_pem + GOOD.chain_pem
    files.cert.write_bytes(combined)
    files.key.write_bytes(combined)
    assert files.read() == GOOD


def test_the_key_shows_in_no_repr(files: Files) -> None:
    for shown in (repr(files.read()), str(files.read()), f"{GOOD}", repr([GOOD]), repr(replace(GOOD, not_after_s=1.0))):
        assert "PEM" not in shown
        assert "PRIVATE" not in shown
        assert GOOD.key_pem.splitlines()[1].decode() not in shown
        assert GOOD.spiffe_id in shown


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_key_that_owner_or_group_may_read_is_taken(files: Files, mode: int) -> None:
    files.key.chmod(mode)
    assert files.read() == GOOD


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o610, 0o601, 0o777])
def test_a_key_that_others_can_get_at_is_refused(files: Files, mode: int) -> None:
    files.key.chmod(mode)
    (problem,) = files.problems()
    assert problem == (
        f"svid.key: mode {mode:04o} lets others on this machine at the private key; allowed is at most 0640: "
        "chmod 600 svid.key (Kubernetes: defaultMode: 0440)"
    )


def test_every_missing_file_is_named_at_once(files: Files) -> None:
    for path in (files.cert, files.key, files.roots):
        path.unlink()
    assert files.problems() == [
        "svid.pem: cannot be read (No such file or directory)",
        "roots.pem: cannot be read (No such file or directory)",
        "svid.key: cannot be read (No such file or directory)",
    ]


def test_a_folder_and_a_pipe_are_no_files(files: Files) -> None:
    files.cert.unlink()
    files.cert.mkdir()
    files.roots.unlink()
    os.mkfifo(files.roots)
    assert files.problems() == ["svid.pem: not a file", "roots.pem: not a file"]


NO_CERTIFICATE = "no certificate in PEM form (a block that begins with -----BEGIN CERTIFICATE-----)"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cert", b"", f"svid.pem: {NO_CERTIFICATE}"),
        ("cert", b"\x30\x82\x01\x00", f"svid.pem: {NO_CERTIFICATE}"),
        ("roots", b"hello", f"roots.pem: {NO_CERTIFICATE}"),
        ("cert", GOOD.chain_pem[:200], "svid.pem: the block CERTIFICATE has no END line; the text seems cut off"),
        ("cert", b"x" * 1_048_577, "svid.pem: 1048577 bytes of PEM; at most 1048576 are read"),
        ("key", b"hello", "svid.key: 0 private keys in PEM form; exactly one is needed"),
        ("key", GOOD.key_pem * 2, "svid.key: 2 private keys in PEM form; exactly one is needed"),
        ("key", GOOD.key_pem[:60], "svid.key: the block PRIVATE KEY has no END line; the text seems cut off"),
    ],
)
def test_content_that_cannot_be_used_is_named(files: Files, name: str, content: bytes, says: str) -> None:
    getattr(files, name).write_bytes(content)
    assert files.problems() == [says]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (
            PrivateFormat.PKCS8,
            "the key is encrypted, and nobody is there to ask for the password; store it unencrypted",
        ),
        (PrivateFormat.TraditionalOpenSSL, "it is encrypted: store it unencrypted"),
    ],
)
def test_an_encrypted_key_is_refused_instead_of_asking_on_the_terminal(
    files: Files, form: PrivateFormat, says: str
) -> None:
    files.key.write_bytes(pki.new_key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
    (problem,) = files.problems()
    assert says in problem
    assert problem.startswith("svid.")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (replace(GOOD, key_pem=pki.identity("stock").key_pem), "the key does not belong to the certificate"),
        (
            replace(GOOD, bundle_pem=pki.pki("other.example").bundle_pem),
            "the certificate does not hold against the bundle",
        ),
        (pki.bad_peer("CA as leaf"), "is the certificate of a CA; a workload's certificate is needed"),
        (pki.bad_peer("two URI names"), "has 2 URI names; exactly one is needed, a SPIFFE ID"),
    ],
)
def test_files_that_do_not_fit_together_are_named_together(tmp_path: Path, changed: Identity, says: str) -> None:
    (problem,) = Files(tmp_path, changed).problems()
    assert problem.startswith("svid.pem with svid.key and roots.pem: ")
    assert says in problem


def test_an_identity_out_of_its_time_says_when(tmp_path: Path) -> None:
    (expired,) = Files(tmp_path, pki.bad_peer("expired")).problems()
    assert expired.startswith("svid.pem: expired at 20")
    assert expired.endswith("Z; renew it")
    (early,) = Files(tmp_path, pki.bad_peer("not yet valid")).problems()
    assert early.startswith("svid.pem: begins at 20")
    assert "is the clock of this machine right" in early


def test_no_message_quotes_the_key(files: Files) -> None:
    secret = GOOD.key_pem.splitlines()[1]
    files.key.write_bytes(GOOD.key_pem.replace(b"-----END", b"!!\n-----END"))
    assert files.problems() == ["svid.key: the block PRIVATE KEY holds something that is not base64"]
    files.key.write_bytes(secret)
    assert secret.decode() not in "".join(files.problems())
