"""Join tokens: a sidecar's first contact, good for a service, a number of uses and a time.

The facade makes them, serve.py spends them when a sidecar joins. A token is `ID.SECRET`; the store keeps a SHA-256 of
the secret, so that reading the store lets nobody join. Spending is one compare-and-set that also writes the grant: from
then on the account may say hello as that service, token or no token.

A token that was spent for a signing request may be spent for the *same* request again: the answer to the first may have
been lost, and only the holder of that request's key can use what is signed. Ended tokens are remembered for a day, so
that the refusal can say why.
"""

import base64
import hashlib
import hmac
import json
import secrets
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from certs import names
from control_plane.answers import MadeToken, Refused
from control_plane.store.contract import Conflict, Entry, Expect, Put, Store
from sidecar.config import grammar

MAX_USES = 1_000
MAX_TTL_S = 30 * 86_400.0
REMEMBERED_S = 86_400.0
_TRIES = 20  # lost races for one token; its uses bound the number of winners, and each race has one
_BEGIN, _END = "-----BEGIN MESH JOIN TOKEN-----", "-----END MESH JOIN TOKEN-----"


class TokenError(Exception):
    """A token that lets nobody join (any more)."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Token:
    """What the store keeps of a token. `spent` holds a short digest of each request that it was spent for."""

    secret_sha256: str
    namespace: str
    account: str
    service: str
    uses: int
    expires_s: float
    spent: tuple[str, ...] = ()


class Tokens:
    """Tokens and grants in a store; `clock` gives Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self, *, service: str, namespace: str, account: str, uses: int, ttl_s: float, roots_pem: str
    ) -> MadeToken:
        """Make a token and the join file that carries it; `account` "" is the service's name.

        Raises:
            Refused: A name that is none, uses or time out of range.
        """
        account = account or service
        for what, name in (("service", service), ("namespace", namespace), ("account", account)):
            try:
                grammar.parse_label(name)
            except ValueError as problem:
                raise Refused(f"token: {what}: {problem}") from None
        if names.svid_path(namespace, account) == names.CONTROL_PLANE_PATH:
            # Whoever had it would be obeyed by every sidecar that it can make connect to it.
            raise Refused(
                f"token: account {account} of namespace {namespace} is the control plane's own identity",
                "choose another account",
            )
        if not 1 <= uses <= MAX_USES:
            raise Refused(f"token: {uses} uses (1 to {MAX_USES} are allowed)", "make several tokens")
        if not 1.0 <= ttl_s <= MAX_TTL_S:
            raise Refused(f"token: a life of {ttl_s:g} s (1 s to {MAX_TTL_S:g} s are allowed)", "name a shorter --ttl")
        identifier, secret = secrets.token_urlsafe(9), secrets.token_urlsafe(32)
        expires_s = self._clock() + ttl_s
        token = Token(_sha256(secret), namespace, account, service, uses, expires_s)
        await self._store.txn([_put(identifier, token)], [Expect(_key(identifier), 0)])
        return MadeToken(identifier, join_file(roots_pem, f"{identifier}.{secret}"), expires_s)

    async def look(self, text: str, request: bytes) -> None:
        """Raise TokenError when `spend` would; takes nothing."""
        await self._find(text, _mark(request))

    async def spend(self, text: str, request: bytes) -> Token:
        """Take one use for the signing request `request`, durably, and grant the service to the account.

        Raises:
            TokenError: Unknown, expired, or used up.
        """
        mark = _mark(request)
        for _ in range(_TRIES):
            entry, token = await self._find(text, mark)
            if mark in token.spent:
                return token
            spent = replace(token, spent=(*token.spent, mark))
            identifier = entry.key.removeprefix("token/")
            try:
                operations = [_put(identifier, spent), Put(_grant_key(token), b"{}")]
                await self._store.txn(operations, [Expect(entry.key, entry.revision)])
                return spent
            except Conflict:
                continue
        raise TokenError("too many sidecars join with this token at once", "try again")

    async def granted(self, namespace: str, account: str) -> frozenset[str]:
        """Services of `namespace` that the account may say hello as."""
        listing = await self._store.list(f"grant/{namespace}/{account}/")
        return frozenset(entry.key.rpartition("/")[2] for entry in listing.entries)

    async def _find(self, text: str, mark: str) -> tuple[Entry, Token]:
        identifier, _, secret = text.strip().partition(".")
        entry = await self._store.get(_key(identifier)) if _is_id(identifier) else None
        token = None if entry is None else _read(entry.value)
        # An unknown token and a wrong secret look alike: nobody learns which tokens exist.
        if entry is None or token is None or not hmac.compare_digest(token.secret_sha256, _sha256(secret)):
            raise TokenError("the join token is not known here", f"is it another mesh's? {_MAKE}")
        make = f"meshctl token create --service {token.service} --namespace {token.namespace}"
        if token.expires_s <= self._clock():
            raise TokenError("the join token has expired", f"make a new one: {make}")
        if mark not in token.spent and len(token.spent) >= token.uses:
            times = "once" if token.uses == 1 else f"{token.uses} times"
            raise TokenError(f"the join token was used {times}, as often as it may be", f"make a new one: {make}")
        return entry, token


_MAKE = "make a new one: meshctl token create --service SERVICE --namespace NAMESPACE"


def join_file(roots_pem: str, token: str) -> str:
    """The text of a join file: the roots to trust, then the token."""
    body = "\n".join(textwrap.wrap(base64.b64encode(token.encode()).decode(), 64))
    return f"{roots_pem.rstrip()}\n{_BEGIN}\n{body}\n{_END}\n"


def _mark(request: bytes) -> str:
    return hashlib.sha256(request).hexdigest()[:16]


def _put(identifier: str, token: Token) -> Put:
    return Put(_key(identifier), json.dumps(asdict(token)).encode(), token.expires_s + REMEMBERED_S)


def _read(value: bytes) -> Token:
    fields = json.loads(value)
    return Token(**{**fields, "spent": tuple(fields["spent"])})


def _key(identifier: str) -> str:
    return f"token/{identifier}"


def _grant_key(token: Token) -> str:
    return f"grant/{token.namespace}/{token.account}/{token.service}"


def _is_id(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
