"""The text of the disk cache: what survives a restart, as bytes with a checksum, and back.

A header line with the format and the SHA-256 of all that follows; then one JSON object a line: facts, identity (or
null), every resource. Pure; cache.py reads and writes the file.

Refuses whole what is damaged or of another format. In a file that is whole, a resource or identity that this version
cannot use (it was downgraded) is left out by itself, with a problem for the log.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from certs.loopback import IdentityError
from sidecar.control.fields import Fields, plain
from sidecar.control.push import Item, Push
from sidecar.control.state import Parse, apply_push
from sidecar.control.wire import MAX_PUSH_BYTES, VERSION_MAX, WireError
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.transport.identity import Identity

FORMAT = 1
MAX_FILE_BYTES = 4 * MAX_PUSH_BYTES  # what a push may hold, escaped

_MAGIC = b"sidecar-mesh-cache"
_MAX_PEM = 256 * 1024
_MAX_NAMES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheContent:
    """What survives a restart.

    Attributes:
        saved_at_s: When it was written, unix seconds.
        wants: Services asked for.
        identity: None before the first join, or when the identity comes from files.
        joined_with: Digest of the join file that the identity was got with; "" for none.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    saved_at_s: float = 0.0
    wants: frozenset[ServiceKey] = frozenset()
    identity: Identity | None = None
    joined_with: str = ""


class CacheDamagedError(Exception):
    """A cache file that cannot be used; str() says why."""


def encode(content: CacheContent) -> bytes:
    """The file's bytes."""
    facts = {
        "saved_at_s": content.saved_at_s,
        "version": content.snapshot.version,
        "absent": sorted(map(str, content.snapshot.absent)),
        "wants": sorted(map(str, content.wants)),
        "joined_with": content.joined_with,
    }
    who = content.identity
    identity = who and {"chain": who.chain_pem.decode(), "key": who.key_pem.decode(), "bundle": who.bundle_pem.decode()}
    resources = (
        plain(Item(name=each.name, version=each.version, document=each.document))
        for each in content.snapshot.resources.values()
    )
    lines = [json.dumps(line, separators=(",", ":")) for line in (facts, identity, *resources)]
    body = "\n".join([*lines, ""]).encode("ascii")
    return b"%s %d sha256=%s\n%s" % (_MAGIC, FORMAT, hashlib.sha256(body).hexdigest().encode(), body)


def decode(data: bytes, parse: Parse) -> tuple[CacheContent, list[str]]:
    """What `encode` made, and a problem for each part that was left out.

    Raises CacheDamagedError: nothing in it can be trusted.
    """
    body = _checked_body(data)
    try:
        facts, identity, *resources = (json.loads(line) for line in body.decode("ascii").splitlines())
        content = _facts(_fields(facts, "facts"))
        items = tuple(Item.parse(_fields(each, "resource")) for each in resources)
    except (ValueError, WireError, RecursionError) as problem:  # the checksum is right, so it was written like this
        raise CacheDamagedError(f"it holds what this version does not read ({problem})") from None
    snapshot, problems = _snapshot(content.snapshot, items, parse)
    who = None
    if identity is not None:
        try:
            who = _identity(_fields(identity, "identity"))
        except (IdentityError, WireError) as problem:
            problems.append(f"the cached identity is left out: {problem}")
    return replace(content, snapshot=snapshot, identity=who), problems


def _checked_body(data: bytes) -> bytes:
    header, newline, body = data.partition(b"\n")
    match header.split(b" "):
        case [magic, number, checksum] if newline and magic == _MAGIC:
            if checksum != b"sha256=" + hashlib.sha256(body).hexdigest().encode():
                raise CacheDamagedError("its checksum does not match, so it is damaged or cut off")
            if number != b"%d" % FORMAT:
                raise CacheDamagedError("its format is another version's")
            return body
    raise CacheDamagedError("it does not begin as a cache file does, so it is damaged or cut off")


def _fields(value: Any, what: str) -> Fields:  # noqa: ANN401  whatever JSON holds
    if not isinstance(value, dict):
        raise WireError(f"{what}: not an object")
    return Fields(value, what)


def _facts(fields: Fields) -> CacheContent:
    return CacheContent(
        snapshot=Snapshot(version=fields.number("version", most=VERSION_MAX), absent=_keys(fields, "absent")),
        saved_at_s=fields.decimal("saved_at_s"),
        wants=_keys(fields, "wants"),
        joined_with=fields.text("joined_with", longest=128),
    )


def _keys(fields: Fields, name: str) -> frozenset[ServiceKey]:
    return frozenset(service_key(each) for each in fields.names(name, most=_MAX_NAMES))


def service_key(name: str) -> ServiceKey:
    """The key of `NAME.NAMESPACE`, the form of the wire (a service's name has no dot)."""
    service, _, namespace = name.partition(".")
    return ServiceKey(namespace, service)


def _snapshot(empty: Snapshot, items: tuple[Item, ...], parse: Parse) -> tuple[Snapshot, list[str]]:
    applied = apply_push(empty, Push(version=empty.version, set=items), parse, wants=empty.absent)
    return applied.snapshot, [f"cached {name} is left out: {why}" for name, why in applied.rejected.items()]


def _identity(fields: Fields) -> Identity:
    chain, key, roots = (fields.text(name, longest=_MAX_PEM).encode() for name in ("chain", "key", "bundle"))
    return Identity.from_pem(chain, key, roots)
