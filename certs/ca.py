"""The trust domain: a self-signed root, and an issuer under it that signs the workloads' certificates.

The control plane opens one at its start and asks issue.py to sign with its issuer. The root's key signs issuers only;
what every peer trusts is the bundle of roots, so a new issuer needs no word to anybody: each leaf brings its issuer
along. `root.pem` may hold several roots: the first belongs to `root.key` and signs, the others are trusted as well,
which is what a change of the root passes through.

Refuses to guess: a root that cannot be read is an error to be repaired by hand, never a reason to make another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from certs import names
from certs.files import KEY_MODE, PUBLIC_MODE, alone_in, replace_durably
from certs.signer import ISSUER_DUE_S, Signer, make_issuer, make_root


class TrustDomainError(Exception):
    """A trust domain that cannot be made or opened; str() says which file, what is wrong and what to do."""


class TrustDomain:
    """A trust domain kept in a folder: root.pem, root.key, issuer.pem, issuer.key (keys 0600).

    One process may change it at a time; readers are never in the way. Methods that write block on the disk's sync.
    """

    def __init__(
        self, directory: Path, name: str, root: Signer, also: tuple[x509.Certificate, ...], issuer: Signer
    ) -> None:
        """For `create` and `open`, which check what they pass."""
        self.directory = directory
        self.name = name
        self.root = root
        self.also_trusted = also
        self.issuer = issuer

    @classmethod
    def create(cls, directory: Path, name: str, now_s: float) -> "TrustDomain":
        """Make a new trust domain in `directory` (made too, 0700). Raises TrustDomainError if one is there already.

        `root.pem` is written last: a folder without it was never used by anybody, and a new attempt starts afresh.
        """
        try:
            names.check_trust_domain(name)
        except names.SpiffeIdError as problem:
            raise TrustDomainError(str(problem)) from None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _changing(directory):
            if (directory / "root.pem").exists():
                raise TrustDomainError(f"{directory}: there is a trust domain already; open it, or name another folder")
            root = make_root(name, now_s)
            made = cls(directory, name, root, (), make_issuer(root, name, now_s))
            replace_durably(directory / "root.key", root.key_pem, KEY_MODE)
            made._write(made.issuer)
            replace_durably(directory / "root.pem", root.pem, PUBLIC_MODE)
        return made

    @classmethod
    def open(cls, directory: Path, now_s: float) -> "TrustDomain":
        """Open what `create` made; an issuer that was lost, cut off in writing, or has expired is made anew.

        Raises TrustDomainError when the root is missing, damaged or expired: only a person can repair that.
        """
        pem = _read(directory / "root.pem")
        try:
            first, *also = x509.load_pem_x509_certificates(pem)
        except (ValueError, x509.InvalidVersion) as problem:
            raise TrustDomainError(f"{directory / 'root.pem'}: no certificate in PEM form ({problem})") from None
        root = Signer(first, _load_key(directory / "root.key", first))
        if root.not_after_s <= now_s:
            raise TrustDomainError(
                f"{directory / 'root.pem'}: the root expired at {first.not_valid_after_utc:%Y-%m-%d}"
            )
        name = _trust_domain_of(directory / "root.pem", first)
        issuer = _read_issuer(directory, root)
        if issuer is not None and issuer.not_after_s > now_s:
            return cls(directory, name, root, tuple(also), issuer)
        opened = cls(directory, name, root, tuple(also), make_issuer(root, name, now_s))
        with _changing(directory):
            opened._write(opened.issuer)
        return opened

    @property
    def bundle_pem(self) -> bytes:
        """Every root that peers should trust, the signing one first."""
        return _bundle(self.root, self.also_trusted)

    def issuer_is_due(self, now_s: float) -> bool:
        """True when `renew_issuer` should be called: a third of the issuer's life, or less, is left."""
        return self.issuer.not_after_s - now_s <= ISSUER_DUE_S

    def renew_issuer(self, now_s: float) -> None:
        """Put a new issuer in place. Leaves signed by the old one stay good: they carry it in their chain."""
        issuer = make_issuer(self.root, self.name, now_s)
        with _changing(self.directory):
            self._write(issuer)
        self.issuer = issuer

    def trust_also(self, root_pem: bytes) -> None:
        """Put further roots of this trust domain into the bundle. Raises TrustDomainError for anything else."""
        where = self.directory / "root.pem"
        try:
            new = x509.load_pem_x509_certificates(root_pem)
        except (ValueError, x509.InvalidVersion) as problem:
            raise TrustDomainError(f"no root to trust: no certificate in PEM form ({problem})") from None
        for root in new:
            if _trust_domain_of(where, root) != self.name:
                raise TrustDomainError(f"no root to trust: {root.subject.rfc4514_string()} is not of {self.name}")
        also = tuple(root for root in dict.fromkeys((*self.also_trusted, *new)) if root != self.root.certificate)
        with _changing(self.directory):
            replace_durably(where, _bundle(self.root, also), PUBLIC_MODE)
        self.also_trusted = also

    def _write(self, issuer: Signer) -> None:
        # The key first: a crash in between leaves a pair that does not match, which `open` sees and replaces.
        replace_durably(self.directory / "issuer.key", issuer.key_pem, KEY_MODE)
        replace_durably(self.directory / "issuer.pem", issuer.pem, PUBLIC_MODE)


def _bundle(root: Signer, also: tuple[x509.Certificate, ...]) -> bytes:
    return root.pem + b"".join(other.public_bytes(Encoding.PEM) for other in also)


@contextmanager
def _changing(directory: Path) -> Iterator[None]:
    try:
        with alone_in(directory):
            yield
    except BlockingIOError:
        raise TrustDomainError(f"{directory}: another process is changing this trust domain; try again") from None
    except OSError as problem:
        raise TrustDomainError(f"{directory}: cannot write ({problem.strerror}: {problem.filename})") from problem


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise TrustDomainError(
            f"{path}: cannot read ({problem.strerror}); restore it, or create a trust domain"
        ) from None


def _load_key(path: Path, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):  # TypeError: encrypted
        raise TrustDomainError(f"{path}: no private key in PEM form, or an encrypted one; restore it") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise TrustDomainError(
            f"{path}: not the key of the certificate beside it; restore the pair that belongs together"
        )
    return key


def _read_issuer(directory: Path, root: Signer) -> Signer | None:
    """The issuer on disk if it is whole and `root` signed it, else None."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(directory / "issuer.pem"))
        certificate.verify_directly_issued_by(root.certificate)
        return Signer(certificate, _load_key(directory / "issuer.key", certificate))
    except (TrustDomainError, ValueError, TypeError, InvalidSignature, x509.InvalidVersion):
        return None


def _trust_domain_of(where: Path, root: x509.Certificate) -> str:
    try:
        alternatives = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
        parsed = names.parse(uri)
    except (x509.ExtensionNotFound, ValueError):
        raise TrustDomainError(
            f"{where}: a root without exactly one SPIFFE ID as its URI name; not made here"
        ) from None
    if parsed.path:
        raise TrustDomainError(f"{where}: a root that names a workload ({uri}) instead of a trust domain")
    return parsed.trust_domain
