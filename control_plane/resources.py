"""What users apply, get and delete: from text to an edit of the content, or to every reason why not.

Called by the facade, before anything is written. Pure. A text is judged by the sidecar's own parser, and then against
what is there: a route may not name a backend that does not exist, and nothing may be taken away that a stored route
leads to. What only has no effect yet (a policy for a service that is still to come) is a warning.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from control_plane.answers import Kind, Refused, StoredResource
from control_plane.compile import Content, Edit, kept
from sidecar.config.check import check_references, known_services, listed
from sidecar.config.problems import Problems
from sidecar.config.resources import SNAPSHOT_KINDS, USER_KINDS, Parsed, parse_documents, parse_json, to_document
from sidecar.errors import ConfigError
from sidecar.model.clusters import ServiceKey
from sidecar.model.mesh import MeshPolicy
from sidecar.model.routes import AnyRoute
from sidecar.model.snapshot import Snapshot

MAX_RESOURCES = 20_000  # applied by users
MAX_DOCUMENT_BYTES = 1024 * 1024  # must fit into a frame of 4 MiB, escaped once more
KINDS = tuple(dict.fromkeys((*USER_KINDS, *SNAPSHOT_KINDS)))


@dataclass(frozen=True, slots=True)
class Application:
    """What applying comes to."""

    edit: Edit
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    warnings: tuple[str, ...]


def parse(text: str, source: str) -> list[Parsed]:
    """The documents of a YAML text. Slow for a large one: call it in a thread. Raises Refused with every problem."""
    try:
        parsed = parse_documents(text, source)
    except ConfigError as problem:
        raise _refused(source, tuple(problem.problems)) from None
    large = [each.name for each in parsed if len(each.document) > MAX_DOCUMENT_BYTES]
    if large:
        raise Refused(f"{large[0]} has more than {MAX_DOCUMENT_BYTES} bytes", "split it into several resources")
    if not parsed:
        raise Refused(f"{source}: holds no document", "is it the right file?")
    return parsed


def stored_form(parsed: Parsed) -> Parsed:
    """The same document as it is read from the store after a restart; problems are told with its name."""
    stored = parse_json(parsed.document, strict=False)
    stored.node.source.file = stored.name
    return stored


def application(content: Content, documents: Iterable[Parsed], trust_domain: str, source: str) -> Application:
    """What applying `documents` changes. Raises Refused when it may not be."""
    new = {each.name: each for each in documents}
    edit = Edit(user=new)
    problems = _reference_problems(content, content.edited(edit), {source, ""})
    for parsed in new.values():
        if isinstance(parsed.body, MeshPolicy) and parsed.body.trust_domain not in ("", trust_domain):
            message = f"this control plane's trust domain is {trust_domain}; leave the field out"
            problems.add(parsed.node.at("spec", "trustDomain").problem(message))
    if problems.errors:
        raise _refused(source, tuple(problems.lines()))
    if len(content.user.keys() | new.keys()) > MAX_RESOURCES:
        raise Refused(f"more than {MAX_RESOURCES} resources", "delete those that are not used", kind=Kind.CONFLICT)
    same = {name for name, each in new.items() if _same(content.user.get(name), each)}
    changed = {name: stored_form(each) for name, each in new.items() if name not in same}
    return Application(Edit(user=changed), tuple(changed), tuple(sorted(same)), tuple(problems.warning_lines()))


def deletion(content: Content, snapshot: Snapshot, connected: Collection[str], name: str) -> Edit:
    """The edit that removes the resource `name`.

    Args:
        connected: Nodes with an open stream.

    Raises:
        Refused: Not there, made by something else, or still needed.
    """
    kind, namespace, short = name.split("/")
    if name in content.user:
        edit = Edit(user={name: None})
    elif kind == "Workload" and f"{namespace}/{short}" in content.registered:
        if f"{namespace}/{short}" in connected:
            raise Refused(f"{name} is registered by a sidecar that is connected", "end the sidecar", kind=Kind.CONFLICT)
        edit = Edit(registered={f"{namespace}/{short}": None})
    elif kind == "Service" and (key := ServiceKey(namespace, short)) in kept(content, {}) and _is_empty(content, key):
        versions = [each for each, known in content.remembered.items() if _is_version_of(each, known.version_of, key)]
        edit = Edit(remembered=dict.fromkeys([key, *versions]))
    elif name in snapshot.resources:
        raise Refused(f"{name} is made from others", _why_made(kind), kind=Kind.CONFLICT)
    else:
        raise missing(name, content, snapshot)
    problems = _reference_problems(content, content.edited(edit), set())
    if problems.errors:
        raise Refused(
            f"{name} is still needed", "change these first", details=tuple(problems.lines()), kind=Kind.CONFLICT
        )
    return edit


def every(content: Content, registered_at: Mapping[str, int], snapshot: Snapshot) -> dict[str, StoredResource]:
    """All resources by name: applied, registered, generated."""
    found = {
        name: StoredResource(name, "generated", each.version, json.loads(each.document))
        for name, each in snapshot.resources.items()
    }
    for node, workload in content.registered.items():
        name = f"Workload/{node}"
        found[name] = StoredResource(name, "registered", registered_at.get(node, 0), to_document(workload))
    for name, parsed in content.user.items():
        found[name] = StoredResource(name, "user", parsed.version, json.loads(parsed.document))
    return dict(sorted(found.items()))


def full_name(kind: str, namespace: str, name: str) -> str:
    """`KIND/NAMESPACE/NAME` from a kind in any case, also in plural. Raises Refused for an unknown kind."""
    asked = kind.lower()
    for known in KINDS:
        lower = known.lower()
        if asked in (lower, lower + "s", lower.removesuffix("y") + "ies"):
            return f"{known}/{namespace}/{name}"
    raise Refused(f"kind {kind[:64]!r} is not known", f"known: {', '.join(KINDS)}", kind=Kind.NOT_FOUND)


def missing(name: str, content: Content, snapshot: Snapshot) -> Refused:
    """The refusal for a resource that is not there, with near names."""
    kind = name.partition("/")[0]
    known = {*content.user, *snapshot.resources, *(f"Workload/{node}" for node in content.registered)}
    names = sorted(each for each in known if each.startswith(kind + "/"))
    return Refused(f"there is no {name}", listed(names, name), kind=Kind.NOT_FOUND)


def _reference_problems(before: Content, after: Content, own: set[str]) -> Problems:
    """Problems of the content `after` that `before` did not have, and warnings about the files `own`."""
    found = _references(after)
    foreign = [problem for problem in found.errors if problem.file not in own]
    if foreign:
        # By place, not by message: what is known, and listed in it, may have changed.
        old = {(problem.file, problem.path) for problem in _references(before).errors}
        found.errors = [each for each in found.errors if each.file in own or (each.file, each.path) not in old]
    found.warnings = [warning for warning in found.warnings if warning.file in own]
    return found


def _references(content: Content) -> Problems:
    documents = list(content.user.values())
    registered = {key: {port.port for port in each.ports} for key, each in content.remembered.items()}
    problems = Problems()
    check_references(documents, problems, services=registered, complete=False)
    strict = Problems()
    routes = [each for each in documents if isinstance(each.body, AnyRoute)]
    check_references(routes, strict, services={**registered, **known_services(documents)}, complete=True)
    dangling = [problem for problem in strict.errors if ".backendRefs[" in problem.path]
    for problem in dangling:
        problems.add(problem)
    problems.warnings = [each for each in problems.warnings if each not in dangling]
    return problems


def _refused(source: str, lines: tuple[str, ...]) -> Refused:
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return Refused(f"{count} in {source}", "nothing was changed; correct this and apply again", details=lines)


def _same(stored: Parsed | None, new: Parsed) -> bool:
    return stored is not None and stored.document == new.document


def _is_empty(content: Content, key: ServiceKey) -> bool:
    return all((each.namespace, each.service) != key for each in content.workloads())


def _is_version_of(key: ServiceKey, version_of: str, service: ServiceKey) -> bool:
    return bool(version_of) and ServiceKey(key.namespace, version_of) == service


def _why_made(kind: str) -> str:
    if kind in ("Service", "Endpoints"):
        return "it is there as long as its workloads are; end those"
    return "delete what it is made from"
