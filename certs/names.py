"""SPIFFE IDs: read, check, compose.

Every identity in the mesh is one of these texts, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. Certificates carry
them, policies name them, peers are compared by them, always as whole texts: there is no normal form to fall into,
because everything that would need one (upper case, percent-encoding, dots, empty parts) is refused.

Rules and limits: the SPIFFE-ID standard, sections 2.1 to 2.4. Imports nothing beyond the standard library: the running
sidecar reads this.
"""

import re
from typing import NamedTuple

SCHEME = "spiffe://"
MAX_ID_BYTES = 2048  # SPIFFE-ID 2.3
MAX_TRUST_DOMAIN_BYTES = 255  # SPIFFE-ID 2.1
CONTROL_PLANE_PATH = "/ns/mesh-system/sa/control-plane"

# For fullmatch: `$` would let a trailing line feed pass. Both sets are ASCII: characters are bytes.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


class SpiffeIdError(ValueError):
    """A text that is no SPIFFE ID; str() says which rule it breaks."""


class SpiffeId(NamedTuple):
    """A valid SPIFFE ID in its two parts; str() gives the text back, byte for byte.

    Attributes:
        trust_domain: Lower case, never empty.
        path: "" (the trust domain itself: signers) or `/segment/segment...`.
    """

    trust_domain: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"

    @property
    def workload(self) -> tuple[str, str] | None:
        """(namespace, account) if the path is `/ns/NAMESPACE/sa/ACCOUNT`, else None."""
        match self.path.split("/"):
            case ["", "ns", namespace, "sa", account]:
                return namespace, account
        return None


def parse(text: str) -> SpiffeId:
    """Return the parts of a SPIFFE ID. Raises SpiffeIdError with the rule that `text` breaks."""
    if len(text) > MAX_ID_BYTES:  # before anything else: the other messages quote the text
        raise SpiffeIdError(f"a SPIFFE ID has at most {MAX_ID_BYTES} bytes, this one has {len(text)} characters")
    if not text.startswith(SCHEME):
        raise SpiffeIdError(f"{text!r} does not begin with {SCHEME}")
    trust_domain, slash, rest = text[len(SCHEME) :].partition("/")
    check_trust_domain(trust_domain)
    if slash:
        for segment in rest.split("/"):
            _check_segment(segment, f"the path of {text!r}")
    return SpiffeId(trust_domain, slash + rest)


def check_trust_domain(name: str) -> None:
    """Raise SpiffeIdError unless `name` may name a trust domain."""
    if not _TRUST_DOMAIN.fullmatch(name):
        raise SpiffeIdError(
            f"{name!r} is no trust domain: allowed are a-z, 0-9, '.', '-' and '_', at least one of them"
        )
    if len(name) > MAX_TRUST_DOMAIN_BYTES:
        raise SpiffeIdError(f"a trust domain has at most {MAX_TRUST_DOMAIN_BYTES} bytes, this one has {len(name)}")


def svid_path(namespace: str, account: str) -> str:
    """The path of an account's SPIFFE ID; nothing is checked."""
    return f"/ns/{namespace}/sa/{account}"


def svid_id(trust_domain: str, namespace: str, account: str) -> str:
    """The SPIFFE ID of an account. Raises SpiffeIdError if a part cannot stand in one."""
    check_trust_domain(trust_domain)
    _check_segment(namespace, f"namespace {namespace!r}")
    _check_segment(account, f"account {account!r}")
    return str(parse(f"{SCHEME}{trust_domain}{svid_path(namespace, account)}"))  # parse: the whole has a limit, too


def control_plane_id(trust_domain: str) -> str:
    """The SPIFFE ID of the control plane. Raises SpiffeIdError for a bad trust domain."""
    check_trust_domain(trust_domain)
    return f"{SCHEME}{trust_domain}{CONTROL_PLANE_PATH}"


def signer_id(trust_domain: str) -> str:
    """The SPIFFE ID of the trust domain itself, which root and issuer carry (X509-SVID 3.2: no path)."""
    check_trust_domain(trust_domain)
    return f"{SCHEME}{trust_domain}"


def workload_id(alternatives: object) -> SpiffeId:
    """The SPIFFE ID of a workload among a certificate's alternative names (X509-SVID 2 and 5.2).

    Args:
        alternatives: `subjectAltName` of `ssl`'s getpeercert(): pairs of kind and value. Other kinds may stand beside.

    Raises:
        SpiffeIdError: Not exactly one URI, or not the ID of a workload. The text continues "the certificate ...".
    """
    pairs = alternatives if isinstance(alternatives, tuple) else ()
    uris = [value for kind, value in pairs if kind == "URI"]
    if len(uris) != 1:
        raise SpiffeIdError(f"has {len(uris)} URI names; exactly one is needed, a SPIFFE ID")
    try:
        parsed = parse(uris[0])
    except SpiffeIdError as problem:
        raise SpiffeIdError(f"has a URI name that is not a SPIFFE ID: {problem}") from None
    if not parsed.path:
        raise SpiffeIdError(f"names the trust domain {uris[0]}, not a workload in it")
    return parsed


def _check_segment(segment: str, where: str) -> None:
    if not segment:
        raise SpiffeIdError(f"{where} has an empty part; no '//' and no '/' at the end")
    if segment in (".", ".."):
        raise SpiffeIdError(f"{where} has a part {segment!r}, which could mean another path")
    if not _SEGMENT.fullmatch(segment):
        raise SpiffeIdError(
            f"{where} has a character that is not allowed; allowed are letters, digits, '.', '-' and '_'"
        )
