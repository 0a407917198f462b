"""`balancing` of a TrafficPolicy; document <-> model.

```yaml
balancing:
  algorithm: ring-hash                 # ewma (default), least-request, random, round-robin, ring-hash, maglev
  hash: {header: x-user}               # ring-hash and maglev; or {cookie: NAME}, {source: true}, {path: true}
  subset: {labels: {tier: gold}, otherwise: none}
  zone: first                          # or any
  slowStart: 30s                       # 0s: off
  panicPercent: 50                     # 0: never
```
"""

import re

from sidecar.config import grammar
from sidecar.config.node import Fields, Json, Node
from sidecar.model.balancing import (
    DEFAULT_BALANCING,
    HASHING,
    Algorithm,
    Balancing,
    HashKey,
    HashOf,
    Otherwise,
    Subset,
    ZoneRule,
)

MAX_LABELS = 16
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NAMED = (HashOf.HEADER, HashOf.COOKIE)
_OF_DEGREES = ("zone", "slowStart")  # which consistent hashing does not know: a key has one endpoint


def parse_balancing(node: Node) -> Balancing:
    """How an endpoint is chosen."""
    got = node.fields("algorithm", "hash", "subset", "zone", "slowStart", "panicPercent")
    base = DEFAULT_BALANCING
    algorithm = got.maybe("algorithm", lambda field: field.choice(Algorithm), base.algorithm)
    made = Balancing(
        algorithm=algorithm,
        hash_key=got.maybe("hash", parse_hash_key, base.hash_key),
        subset=got.maybe("subset", _subset, base.subset),
        zone=got.maybe("zone", lambda field: field.choice(ZoneRule), base.zone),
        slow_start_s=got.maybe("slowStart", lambda field: field.seconds(at_least=0.0), base.slow_start_s),
        panic_percent=got.maybe("panicPercent", lambda field: field.integer(0, 100), base.panic_percent),
    )
    _check_hash(got, node, algorithm)
    return made


def _check_hash(got: Fields, node: Node, algorithm: Algorithm) -> None:
    if algorithm not in HASHING:
        if "hash" in got:
            node.at("hash").complain_at_key(f"says nothing of {algorithm.value}; only of {_words(HASHING)}")
        return
    if "hash" not in got:
        node.complain(f"{algorithm.value} needs a hash: what of a request decides, such as {{header: x-user}}")
    for name in _OF_DEGREES:
        if name in got:
            node.at(name).complain_at_key(f"says nothing of {algorithm.value}: the key alone chooses the endpoint")


def parse_hash_key(node: Node) -> HashKey:
    """Where a request's key is: exactly one of `header`, `cookie`, `source`, `path`."""
    got = node.fields(*(member.value for member in HashOf))
    given = [member for member in HashOf if member.value in got]
    if len(given) != 1:
        node.complain(f"give exactly one of: {_words(HashOf)}")
        return HashKey(HashOf.PATH)
    (of,) = given
    field = got.need(of.value, "")
    if of not in _NAMED:
        if field.boolean() is False:
            field.complain("is false; give true, or another key")
        return HashKey(of)
    name = field.parsed(_name, "x", 64)
    return HashKey(of, name.lower() if of is HashOf.HEADER else name)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{grammar.shown(text)} is not a name: letters, digits, '-', '_' and '.', at most 64")
    return text


def _words(members: "tuple[Algorithm, ...] | type[HashOf]") -> str:
    return ", ".join(member.value for member in members)


def _subset(node: Node) -> Subset:
    got = node.fields("labels", "otherwise")
    field = got.need("labels", "the labels that an endpoint must have")
    labels = field.labels()
    if not labels and isinstance(field.value, dict):
        field.complain("is empty; name a label, or leave the subset out")
    if len(labels) > MAX_LABELS:
        field.complain(f"has {len(labels)} labels; at most {MAX_LABELS} are allowed")
    otherwise = got.maybe("otherwise", lambda word: word.choice(Otherwise), Otherwise.NONE)
    return Subset(tuple(sorted(labels.items())), otherwise)


def encode_balancing(balancing: Balancing) -> dict[str, Json]:
    """What `parse_balancing` reads."""
    made: dict[str, Json] = {"algorithm": balancing.algorithm.value, "panicPercent": balancing.panic_percent}
    key = balancing.hash_key
    if key is not None:
        made["hash"] = encode_hash_key(key)
    else:
        made["zone"] = balancing.zone.value
        made["slowStart"] = grammar.format_duration(balancing.slow_start_s)
    subset = balancing.subset
    if subset is not None:
        made["subset"] = {"labels": dict(subset.labels), "otherwise": subset.otherwise.value}
    return made


def encode_hash_key(key: HashKey) -> dict[str, Json]:
    """What `parse_hash_key` reads."""
    return {key.of.value: key.name or True}
