"""What a push does to the configuration in force: each resource by itself, all good ones together, in one new snapshot.

The app's Sink calls `apply_push` for every whole push (push.PushJoiner) and puts `Applied.snapshot` in force;
session.py answers with a NACK for each of `Applied.rejected` and the ACK. Pure.

A resource that cannot be used never stands in the way of the others: its last good version stays. That holds for kinds
that this version does not know, too: they are refused with a reason rather than ignored, because somebody who applied
one must hear from `meshctl status` that this sidecar does not obey it.

When the version that stays is a route, the Services and Endpoints it leads to stay as well, even if the push drops
them (the control plane counts with the new route). They go as soon as a good version of the route comes, or it goes.

A NACK is only ever the answer to a push that brings the resource: a refusal that stands is not repeated by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sidecar.control.push import Item, Push
from sidecar.errors import ConfigError
from sidecar.model.clusters import ServiceKey
from sidecar.model.routes import AnyRoute, services_of
from sidecar.model.snapshot import Resource, Snapshot

Parse = Callable[[str, int, str], Resource]

MAX_REASON = 500  # a refusal is a line in a table; the first problems of a document say enough


@dataclass(frozen=True, slots=True)
class Rejection:
    """A resource whose newest version is refused. `version` is that version, not the one in force."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The configuration after a push, and what to answer.

    Attributes:
        snapshot: To put in force.
        rejected: Reason by name, for each resource of this push that is refused: a NACK each.
        standing: Every refusal that stands, this push's and earlier ones.
        held: Resources that the control plane dropped and that stay because a route that stayed leads there.
        acked_version: The push's version: it is in force, but for `rejected`.
    """

    snapshot: Snapshot
    rejected: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    standing: Mapping[str, Rejection] = field(default_factory=lambda: MappingProxyType({}))
    held: frozenset[str] = frozenset()
    acked_version: int = 0

    def after(self, push: Push, parse: Parse, wants: frozenset[ServiceKey] = frozenset()) -> "Applied":
        """`apply_push` with what this one left standing and held."""
        return apply_push(self.snapshot, push, parse, wants=wants, standing=self.standing, held=self.held)


def apply_push(
    snapshot: Snapshot,
    push: Push,
    parse: Parse,
    *,
    wants: frozenset[ServiceKey] = frozenset(),
    standing: Mapping[str, Rejection] = MappingProxyType({}),
    held: frozenset[str] = frozenset(),
) -> Applied:
    """The snapshot after `push`, which is whole. Never raises for what the push holds.

    Args:
        parse: config.parse_wire: (name, version, document) -> Resource, raising ConfigError.
        wants: Services asked for; of these, one that the push drops or an earlier one dropped is ABSENT.
        standing: `Applied.standing` of the push before.
        held: `Applied.held` of the push before.
    """
    good, bad = _parsed(push, parse)
    told = good.keys() | bad.keys()
    dropped = set(push.unset) - told  # put and dropped by the same push: put counts
    stays = {name: each for name, each in standing.items() if name not in told and name not in dropped}
    stays.update(bad)
    going = (dropped | (held - told)) & snapshot.resources.keys()
    needed = set(_led_to(snapshot, stays)) if going and stays else set()
    made = snapshot.changed(good.values(), going - needed, version=push.version)
    gone = dropped | going
    absent = frozenset(
        key
        for key in wants
        if _service(key) not in made.resources and (key in snapshot.absent or _service(key) in gone)
    )
    return Applied(
        snapshot=replace(made, absent=absent),
        rejected=MappingProxyType({name: each.reason for name, each in bad.items()}),
        standing=MappingProxyType(stays),
        held=frozenset(going & needed),
        acked_version=push.version,
    )


def _parsed(push: Push, parse: Parse) -> tuple[dict[str, Resource], dict[str, Rejection]]:
    """Good resources and refusals by name; a name that is there twice counts as it stands last."""
    good: dict[str, Resource] = {}
    bad: dict[str, Rejection] = {}
    for item in push.set:
        made = _one(item, parse)
        if isinstance(made, Resource):
            good[item.name] = made
            bad.pop(item.name, None)
        else:
            bad[item.name] = Rejection(item.version, made)
            good.pop(item.name, None)
    return good, bad


def _one(item: Item, parse: Parse) -> Resource | str:
    """The resource, or why it is refused."""
    try:
        made = parse(item.name, item.version, item.document)
    except ConfigError as problem:
        return _shortened("; ".join(problem.problems))
    except Exception as bug:
        # A fault of ours in reading one document is one refusal. Let through, it would end the process, which would
        # get the same document after its restart: a single resource could take every sidecar down for good.
        return _shortened(f"this sidecar failed to read it ({type(bug).__name__}: {bug}); please report this")
    if made.name != item.name:
        return _shortened(f"the document is {made.name}, not {item.name}")
    return made


def _led_to(snapshot: Snapshot, stays: Mapping[str, Rejection]) -> Iterator[str]:
    """Names of the Services and Endpoints that routes lead to whose old version stays in force."""
    for name in stays:
        old = snapshot.resources.get(name)
        if old is None or not isinstance(old.body, AnyRoute):
            continue
        for key in services_of(old.body):
            yield _service(key)
            yield f"Endpoints/{key.namespace}/{key.name}"


def _service(key: ServiceKey) -> str:
    return f"Service/{key.namespace}/{key.name}"


def _shortened(reason: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in reason.replace("\n", "; "))
    return printable if len(printable) <= MAX_REASON else printable[: MAX_REASON - 3] + "..."
