"""The join file: the roots of a mesh and a token, all that a sidecar needs for its first contact.

Written by `meshctl token create`; read by identity.py before each connection, so that a new file put in the place of
the old one is used without a restart. The token is as good as a password until it is spent: a file that others on the
machine may read is refused.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from certs import bundle
from sidecar.errors import ConfigError

TOKEN_LABEL = "MESH JOIN TOKEN"  # noqa: S105 - the label of a block, not a token
MAX_BYTES = 256 * 1024  # a root is 1 KB

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}\.[A-Za-z0-9_-]{1,512}")
_MAKE = "make a new one: meshctl token create --service SERVICE --namespace NAMESPACE"


@dataclass(frozen=True, slots=True)
class JoinFile:
    """What is in a join file.

    Attributes:
        bundle_pem: The roots that the control plane must be of.
        token: `ID.SECRET`; hidden from repr.
        digest: SHA-256 of both, in hex; tells a new file from the one that was used. Says nothing about the secret,
            which is random and long.
    """

    bundle_pem: bytes
    token: str = field(repr=False)
    digest: str


def read_join_file(path: Path) -> JoinFile:
    """Read a join file. Raises ConfigError: one problem, with the file and what to do."""
    content = _content(path)
    try:
        found = bundle.blocks(content)
    except bundle.PemError as problem:
        raise _wrong(path, f"{problem}; {_MAKE}") from None
    roots = [bundle.encode(*block) for block in found if block.label == bundle.CERTIFICATE]
    tokens = [block.content for block in found if block.label == TOKEN_LABEL]
    if not roots:
        raise _wrong(path, f"no root certificate in it (a block that begins with -----BEGIN CERTIFICATE-----); {_MAKE}")
    if len(tokens) != 1:
        raise _wrong(path, f"{len(tokens)} tokens in it where one is needed (-----BEGIN {TOKEN_LABEL}-----); {_MAKE}")
    token = tokens[0].decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise _wrong(path, f"its token is damaged (the form is ID.SECRET, letters, digits, '-' and '_'); {_MAKE}")
    bundle_pem = b"".join(roots)
    return JoinFile(bundle_pem, token, hashlib.sha256(bundle_pem + token.encode()).hexdigest())


def _content(path: Path) -> bytes:
    try:
        # Not blocking: a pipe in the place of a file would hold the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_mode(os.fstat(descriptor).st_mode, path)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise _wrong(path, f"there is no such file; {_MAKE} --out {path}") from None
    except OSError as failure:
        raise _wrong(path, f"cannot be read ({failure.strerror})") from None
    if len(content) > MAX_BYTES:
        raise _wrong(path, f"larger than {MAX_BYTES} bytes; that is no join file")
    return content


def _check_mode(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise _wrong(path, "not a file")
    if mode & 0o037:  # the group may read, as a container's fsGroup needs; nobody else may do anything
        raise _wrong(
            path,
            f"mode {stat.S_IMODE(mode):04o} lets others on this machine at the token; "
            f"allowed is at most 0640: chmod 600 {path} (Kubernetes: defaultMode: 0440)",
        )


def _wrong(path: Path, sentence: str) -> ConfigError:
    return ConfigError([f"{path}: {sentence}"])
