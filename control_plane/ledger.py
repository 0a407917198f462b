"""The mesh's content and what it compiles to: the one place that changes either.

Requests to change come from the facade (users), push.py (registrations) and the lease check. One task takes them, as
many as there are, decides each on the content as it then is, compiles the result, and writes inputs and the digests of
the compiled resources in one transaction: one revision for what belongs together, one sync for a burst of hellos, and
nothing half done. A request that is refused leaves the others alone.

A compiled resource's version is the revision that last changed its digest; so it survives a restart, and a sidecar
that comes back is sent differences only.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import trio

from control_plane.closure import Closures
from control_plane.compile import Compiler, Content, Edit, Remembered, difference, next_snapshot
from control_plane.store.contract import Delete, Listing, Operation, Put, Store, StoreError
from sidecar.config.resources import Parsed, parse_json, to_document, to_json
from sidecar.errors import ConfigError
from sidecar.model.clusters import Protocol, ServiceKey, ServicePort, Workload
from sidecar.model.snapshot import Resource, Snapshot

MAX_WAITING = 1_024  # requests; whoever comes then waits at the door
MAX_BATCH = 256
MAX_LOG = 4_096  # revisions whose changed names are known

Decide = Callable[[Content], Edit]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to: the revision at which it holds, and the edit that was made (empty: nothing to do)."""

    revision: int
    edit: Edit


@dataclass(slots=True, eq=False)
class _Request:
    decide: Decide
    done: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome | None = None
    failure: Exception | None = None

    def finish(self, outcome: Outcome | None, failure: Exception | None = None) -> None:
        self.outcome, self.failure = outcome, failure
        self.done.set()


class Ledger:
    """Open it with `open_ledger`; its `run` must be running for `change` to return.

    Attributes:
        content: The inputs.
        snapshot: What they compile to; `closures` answers what each sidecar sees of it.
        revision: That of the newest change of the content.
        registered_at: Revision that last changed each registered workload, by node.
        listeners: Called after each change of the snapshot, in the task of `run`; must not block.
    """

    def __init__(
        self, store: Store, compiler: Compiler, content: Content, registered_at: dict[str, int], snapshot: Snapshot
    ) -> None:
        self.content = content
        self.snapshot = snapshot
        self.closures = Closures(snapshot)
        self.revision = snapshot.version
        self.registered_at = registered_at
        self.listeners: list[Callable[[], None]] = []
        self._store = store
        self._compiler = compiler
        self._changed: dict[int, frozenset[str]] = {}
        self._send, self._receive = trio.open_memory_channel[_Request](MAX_WAITING)

    async def change(self, decide: Decide) -> Outcome:
        """Let `decide` look at the content and return an edit; durable when this returns.

        Raises:
            StoreError: The store failed; nothing was changed.
            Exception: Whatever `decide` raised; nothing was changed.
        """
        request = _Request(decide)
        await self._send.send(request)
        await request.done.wait()
        if request.failure is not None:
            raise request.failure
        assert request.outcome is not None
        return request.outcome

    def changed_at(self, revision: int) -> frozenset[str] | None:
        """Names of the snapshot that `revision` changed; None when that is no longer, or not yet, known."""
        return self._changed.get(revision)

    async def run(self) -> None:
        """Serve requests until cancelled."""
        async for request in self._receive:
            batch = [request]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            try:
                await self._commit(batch)
            except Exception as failure:  # a fault must reach whoever asks, and must not end the task that all ask
                for each in batch:
                    if not each.done.is_set():
                        each.finish(None, failure)

    async def _commit(self, batch: list[_Request]) -> None:
        content = self.content
        accepted: list[tuple[_Request, Edit]] = []
        for request in batch:
            try:
                edit = request.decide(content)
            except Exception as refusal:  # the caller's own: it gets it back
                request.finish(None, refusal)
                continue
            content = content.edited(edit)
            accepted.append((request, edit))
        operations: dict[str, Operation] = {}
        for _, edit in accepted:
            operations.update((operation.key, operation) for operation in _operations(edit))
        revision = self.revision
        if operations:
            made = self._compiler.compile(content)
            changed = difference(self.snapshot, made)
            operations.update((operation.key, operation) for operation in _digests(made, changed))
            revision = await self._store.txn(list(operations.values()))
            self._take(content, made, changed, revision, [edit for _, edit in accepted])
        for request, edit in accepted:
            request.finish(Outcome(revision if edit else self.revision, edit))

    def _take(
        self, content: Content, made: dict[str, Resource], changed: frozenset[str], revision: int, edits: list[Edit]
    ) -> None:
        """Make what was written the present."""
        versions = {name: revision for edit in edits for name in edit.user}
        user = {name: replace(p, version=versions.get(name, p.version)) for name, p in content.user.items()}
        self.content = replace(content, user=MappingProxyType(user)) if versions else content
        for node in [node for edit in edits for node in edit.registered]:
            self.registered_at[node] = revision
        for node in self.registered_at.keys() - content.registered.keys():
            del self.registered_at[node]
        self.revision = revision
        self._changed[revision] = changed
        if len(self._changed) > MAX_LOG:
            del self._changed[next(iter(self._changed))]
        if changed:
            self.snapshot = next_snapshot(self.snapshot, made, revision)
            self.closures = Closures(self.snapshot)
            for listener in self.listeners:
                listener()


async def open_ledger(store: Store, trust_domain: str) -> Ledger:
    """Read the content, compile it, and write what compiles differently than when it was written.

    Raises:
        StoreError: The store failed, or holds a document that this version cannot read.
    """
    workloads = await store.list("workload/")
    content = Content(
        user=MappingProxyType(_users(await store.list("resource/"))),
        registered=MappingProxyType(_workloads(workloads)),
        remembered=MappingProxyType(_remembered(await store.list("service/"))),
    )
    compiler = Compiler(trust_domain)
    made = compiler.compile(content)
    written = {entry.key.removeprefix("compiled/"): entry for entry in (await store.list("compiled/")).entries}
    same = {n: r for n, r in made.items() if n in written and written[n].value == _digest(r.document)}
    changed = frozenset((made.keys() | written.keys()) - same.keys())
    if changed:  # another version of this program compiled it, or the last start ended half way
        await store.txn(_digests(made, changed))
    revision = await store.revision()
    before = Snapshot(MappingProxyType({n: replace(r, version=written[n].revision) for n, r in same.items()}))
    registered_at = {entry.key.removeprefix("workload/"): entry.revision for entry in workloads.entries}
    return Ledger(store, compiler, content, registered_at, next_snapshot(before, made, revision))


def _users(listing: Listing) -> dict[str, Parsed]:
    return {parsed.name: parsed for parsed in (_read(each.key, each.value, each.revision) for each in listing.entries)}


def _workloads(listing: Listing) -> dict[str, Workload]:
    found = {}
    for entry in listing.entries:
        body = _read(entry.key, entry.value, entry.revision).body
        if not isinstance(body, Workload):
            raise StoreError(f"{entry.key}: holds no Workload")
        found[f"{body.namespace}/{body.name}"] = body
    return found


def _read(key: str, value: bytes, revision: int) -> Parsed:
    try:
        parsed = parse_json(value.decode(), version=revision, strict=False)
    except (ConfigError, UnicodeDecodeError) as problem:
        raise StoreError(
            f"the store holds {key}, which this version cannot read ({problem}); start the version that wrote it"
        ) from None
    parsed.node.source.file = parsed.name  # later problems are told with it
    return parsed


def _remembered(listing: Listing) -> dict[ServiceKey, Remembered]:
    found = {}
    for entry in listing.entries:
        _, namespace, name = entry.key.split("/")
        fields = json.loads(entry.value)
        ports = tuple(ServicePort(port, Protocol(protocol), label) for port, protocol, label in fields["ports"])
        found[ServiceKey(namespace, name)] = Remembered(ports, fields["versionOf"])
    return found


def _operations(edit: Edit) -> list[Operation]:
    made: list[Operation] = []
    for name, parsed in edit.user.items():
        made.append(_operation(f"resource/{name}", None if parsed is None else parsed.document))
    for node, workload in edit.registered.items():
        made.append(_operation(f"workload/{node}", None if workload is None else to_json(to_document(workload))))
    for key, remembered in edit.remembered.items():
        text = None
        if remembered is not None:
            ports = [[port.port, port.protocol.value, port.name] for port in remembered.ports]
            text = json.dumps({"ports": ports, "versionOf": remembered.version_of})
        made.append(_operation(f"service/{key.namespace}/{key.name}", text))
    return made


def _operation(key: str, text: str | None) -> Operation:
    return Delete(key) if text is None else Put(key, text.encode())


def _digests(made: dict[str, Resource], changed: frozenset[str]) -> list[Operation]:
    return [
        Put(f"compiled/{name}", _digest(made[name].document)) if name in made else Delete(f"compiled/{name}")
        for name in sorted(changed)
    ]


def _digest(document: str) -> bytes:
    return hashlib.sha256(document.encode()).hexdigest().encode()
