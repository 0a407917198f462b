"""Who this sidecar is: an X.509-SVID with its key, and the roots that it trusts.

Made from what the control plane sent (or the disk cache kept), or from three files that somebody else renews; tls.py
makes contexts of it. An identity is a value: a renewed one is another value, and a file that cannot be used leaves the
old one in place, because reading raises before anything is swapped.

Refuses keys that others on the machine may read, and never shows a key in a repr or a message.
"""

import os
import stat
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from certs import bundle, names
from certs.loopback import IdentityError, read_own_leaf
from sidecar.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Identity:
    """An X.509-SVID with its key, and whom to trust. The times are Unix seconds.

    Attributes:
        chain_pem: Leaf first, then the issuers below the root.
        key_pem: Private key, unencrypted; hidden from repr.
        bundle_pem: Roots of the trust domain.
    """

    spiffe_id: str
    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    bundle_pem: bytes = field(repr=False)
    not_after_s: float
    not_before_s: float = 0.0

    @classmethod
    def from_pem(cls, chain_pem: bytes, key_pem: bytes, bundle_pem: bytes) -> "Identity":
        """An identity that proved in a handshake with itself that its parts fit. Its times are not judged.

        Raises certs.loopback.IdentityError.
        """
        leaf = read_own_leaf(chain_pem, key_pem, bundle_pem)
        return cls(leaf.spiffe_id, chain_pem, key_pem, bundle_pem, leaf.not_after_s, leaf.not_before_s)

    @classmethod
    def from_files(cls, cert: Path, key: Path, roots: Path) -> "Identity":
        """The identity in three PEM files, valid now.

        Of `cert` and `roots` only the certificates are kept, of `key` only the private key.

        Raises:
            ConfigError: Every problem found, each with the file and what to do.
        """
        problems: list[str] = []
        chain_pem = _certificates(cert, problems)
        bundle_pem = _certificates(roots, problems)
        key_pem = _private_key(key, problems)
        if problems:
            raise ConfigError(problems)
        try:
            identity = cls.from_pem(chain_pem, key_pem, bundle_pem)
        except IdentityError as problem:
            raise ConfigError([f"{cert} with {key} and {roots}: {problem}"]) from None
        now_s = time.time()
        if now_s >= identity.not_after_s:
            raise ConfigError([f"{cert}: expired at {_day(identity.not_after_s)}; renew it"])
        if now_s < identity.not_before_s:
            begins = _day(identity.not_before_s)
            raise ConfigError([f"{cert}: begins at {begins}; is the clock of this machine right ({_day(now_s)})?"])
        return identity

    @property
    def trust_domain(self) -> str:
        """The trust domain that peers must be of."""
        return names.parse(self.spiffe_id).trust_domain


def _certificates(path: Path, problems: list[str]) -> bytes:
    content = _content(path, problems)
    if content is None:
        return b""
    try:
        found = bundle.split(content)
    except bundle.PemError as problem:
        problems.append(f"{path}: {problem}")
        return b""
    if not found:
        problems.append(f"{path}: no certificate in PEM form (a block that begins with -----BEGIN CERTIFICATE-----)")
    return b"".join(found)


def _private_key(path: Path, problems: list[str]) -> bytes:
    content = _content(path, problems, secret=True)
    if content is None:
        return b""
    try:
        found = [block for block in bundle.blocks(content) if block.label.endswith("PRIVATE KEY")]
    except bundle.PemError as problem:
        # An old-style encrypted key has header lines inside its block.
        hint = "; it is encrypted: store it unencrypted" if b"ENCRYPTED" in content else ""
        problems.append(f"{path}: {problem}{hint}")
        return b""
    if len(found) != 1:
        problems.append(f"{path}: {len(found)} private keys in PEM form; exactly one is needed")
        return b""
    return bundle.encode(*found[0])


def _content(path: Path, problems: list[str], *, secret: bool = False) -> bytes | None:
    """What is in the file, or None after adding why it cannot be used."""
    try:
        # Not blocking: a pipe in the place of a file would hold the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if problem := _mode_problem(os.fstat(descriptor).st_mode, path, secret=secret):
                problems.append(f"{path}: {problem}")
                return None
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(bundle.MAX_PEM_BYTES + 1)  # one more: `blocks` refuses what is longer
        finally:
            os.close(descriptor)
    except OSError as failure:
        problems.append(f"{path}: cannot be read ({failure.strerror})")
        return None


def _mode_problem(mode: int, path: Path, *, secret: bool) -> str | None:
    if not stat.S_ISREG(mode):
        return "not a file"
    if secret and mode & 0o037:  # the group may read, as a container's fsGroup needs; nobody else may do anything
        allowed = f"allowed is at most 0640: chmod 600 {path} (Kubernetes: defaultMode: 0440)"
        return f"mode {stat.S_IMODE(mode):04o} lets others on this machine at the private key; {allowed}"
    return None


def _day(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
