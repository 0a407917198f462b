"""The control plane as an authority: signs what sidecars ask for, and keeps its own certificate fresh.

Stands on `certs`, which decides nothing about who may have what; serve.py decided that before it calls `sign`. All
signing runs in a thread, one at a time: a signature is 0.1 ms, a verification of an RSA request more, and the loop has
streams to serve. Refuses above `SIGN_PER_S` requests a second, with a word to come again.
"""

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs import names
from certs.ca import TrustDomain, TrustDomainError
from certs.issue import BadRequestError, Issued, IssuerExpiredError, issue, public_key_of
from control_plane.answers import CertificateRow
from sidecar.control.wire import ALPN
from sidecar.transport.identity import Identity
from sidecar.transport.tls import server_context

SIGN_PER_S = 50.0  # a thousand sidecars that restart together are served in 20 s
SIGN_BURST = 100.0
RETRY_S = 10.0  # after a renewal that failed
_SEE_LOG = "see the sidecar's own log"


class SigningError(Exception):
    """A request that is not signed. `again` is True when the same request may succeed later."""

    def __init__(self, message: str, hint: str, *, again: bool) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.again = again


class Bucket:
    """A token bucket: `rate` a second, `burst` at once. Pure; time is an argument."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Take one; False when there is none."""
        self._level = min(self._burst, self._level + self._rate * max(0.0, now_s - self._at_s))
        self._at_s = now_s
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """What the stream port shows: times in Unix seconds."""

    spiffe_id: str
    made_s: float
    not_before_s: float
    not_after_s: float


class Authority:
    """The trust domain in use. Open it with `open_authority`.

    Attributes:
        name: The trust domain.
        context: The TLS context of the stream port; a new object after each renewal, for new connections.
        own: The certificate in that context.
    """

    def __init__(
        self,
        domain: TrustDomain,
        life_s: float,
        on_signed: Callable[[], None],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.name = domain.name
        self.context: ssl.SSLContext
        self.own: OwnCertificate
        self._domain = domain
        self._life_s = life_s
        self._on_signed = on_signed
        self._clock = clock
        self._rng = rng
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._checks = Bucket(SIGN_PER_S, SIGN_BURST)
        self._signings = Bucket(SIGN_PER_S, SIGN_BURST)

    @property
    def bundle_pem(self) -> bytes:
        """The roots that every peer should trust."""
        return self._domain.bundle_pem

    @property
    def signers(self) -> tuple[CertificateRow, ...]:
        """The roots, the signing one first, then the issuer."""
        domain = self._domain
        roots = (domain.root.certificate, *domain.also_trusted)
        spiffe_id = names.signer_id(self.name)
        return (
            *(_row("root", each, spiffe_id) for each in roots),
            _row("issuer", domain.issuer.certificate, spiffe_id),
        )

    @property
    def issuer_ends_s(self) -> float:
        """End of the issuer, Unix seconds."""
        return self._domain.issuer.not_after_s

    async def check(self, csr_pem: bytes) -> None:
        """Raise SigningError for a request that could not be signed for anybody; spend nothing on such a one."""
        self._limited(self._checks)
        try:
            await trio.to_thread.run_sync(public_key_of, csr_pem, limiter=self._one_at_a_time)
        except BadRequestError as problem:
            raise SigningError(str(problem), _SEE_LOG, again=False) from None

    async def sign(self, csr_pem: bytes, namespace: str, account: str) -> Issued:
        """Sign a request for an account whose right to it was checked.

        Raises:
            SigningError: Too many at a time, or the request is at fault.
        """
        self._limited(self._signings)
        try:
            spiffe_id = names.svid_id(self.name, namespace, account)
            issued = await trio.to_thread.run_sync(self._issue, csr_pem, spiffe_id, limiter=self._one_at_a_time)
        except (BadRequestError, names.SpiffeIdError) as problem:
            raise SigningError(str(problem), _SEE_LOG, again=False) from None
        except (IssuerExpiredError, TrustDomainError) as problem:
            raise SigningError("the control plane cannot sign now", str(problem), again=True) from None
        self._on_signed()
        return issued

    async def renew_own(self) -> None:
        """A new key, certificate and context for the stream port; connections that are up keep the old.

        Raises TrustDomainError or OSError when the issuer cannot be renewed.
        """
        self.context, self.own = await trio.to_thread.run_sync(self._make_own, limiter=self._one_at_a_time)

    async def keep_fresh(self, complain: Callable[[str], None]) -> None:
        """Renew issuer and own certificate when they are due, until cancelled."""
        while True:
            await trio.sleep(max(0.0, self._renewal_s() - self._clock()))
            try:
                await self.renew_own()
            except (TrustDomainError, IssuerExpiredError, OSError) as problem:
                complain(f"renewing the control plane's certificate failed: {problem}; tried again in {RETRY_S:g} s")
                await trio.sleep(RETRY_S)

    def _limited(self, bucket: Bucket) -> None:
        if not bucket.take(trio.current_time()):
            message = f"more than {SIGN_PER_S:g} certificates a second were asked for"
            raise SigningError(message, "try again in some seconds", again=True)

    def _renewal_s(self) -> float:
        """Half of the certificate's life, up to a tenth earlier so that replicas do not all come at once."""
        begin_s = self.own.made_s  # not `not_before_s`, which lies in the past for the sake of clocks that are behind
        return begin_s + (self.own.not_after_s - begin_s) * self._rng.uniform(0.4, 0.5)

    def _issue(self, csr_pem: bytes, spiffe_id: str) -> Issued:
        now_s = self._clock()
        if self._domain.issuer_is_due(now_s):
            self._domain.renew_issuer(now_s)
        return issue(self._domain.issuer, csr_pem, spiffe_id, now_s, self._life_s)

    def _make_own(self) -> tuple[ssl.SSLContext, OwnCertificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        issued = self._issue(csr.public_bytes(Encoding.PEM), names.control_plane_id(self.name))
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        identity = Identity.from_pem(issued.chain_pem, key_pem, self.bundle_pem)
        context = server_context(identity, alpn=(ALPN,), request_client_cert="optional")
        return context, OwnCertificate(issued.spiffe_id, self._clock(), issued.not_before_s, issued.not_after_s)


def _row(kind: str, certificate: x509.Certificate, spiffe_id: str) -> CertificateRow:
    begins_s = certificate.not_valid_before_utc.timestamp()
    ends_s = certificate.not_valid_after_utc.timestamp()
    return CertificateRow(kind, certificate.subject.rfc4514_string(), spiffe_id, begins_s, ends_s)


async def open_authority(
    directory: Path,
    name: str,
    life_s: float,
    *,
    on_signed: Callable[[], None],
    clock: Callable[[], float] = time.time,
    rng: random.Random,
) -> Authority:
    """Open the trust domain in `directory`, or make it there with `name`; its own certificate is ready afterwards.

    Raises:
        TrustDomainError: It cannot be used, or is named otherwise; str() says what to do.
    """

    def opened() -> TrustDomain:
        if (directory / "root.pem").exists():
            return TrustDomain.open(directory, clock())
        return TrustDomain.create(directory, name, clock())

    domain = await trio.to_thread.run_sync(opened)
    if domain.name != name:
        raise TrustDomainError(
            f"{directory}: the trust domain there is {domain.name}, not {name}; "
            f"start with --trust-domain {domain.name}, or name another folder"
        )
    authority = Authority(domain, life_s, on_signed, clock, rng)
    await authority.renew_own()
    return authority
