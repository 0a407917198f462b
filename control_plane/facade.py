"""The control plane as its API and command line see it: one class, one exception, values in and out.

`run` opens the store and the trust domain, serves the sidecar streams, and hands out a `ControlPlane`. Everything that
a caller can do goes through it; a call that cannot be carried out raises `Refused` and changes nothing. The decisions
are in resources, traffic and checks (pure), the changes in ledger; this file joins them.
"""

import errno
import random
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import trio

from control_plane import checks, resources, traffic
from control_plane.answers import (
    Applied,
    CertificateRow,
    Certificates,
    CheckLine,
    MadeToken,
    Refused,
    Rotation,
    Stats,
    Status,
    StoredResource,
    Traffic,
    Version,
    VersionRow,
    Waited,
)
from control_plane.authority import Authority, open_authority
from control_plane.compile import Content, Edit
from control_plane.ledger import Ledger, Outcome, open_ledger
from control_plane.metrics import Metrics
from control_plane.push import Hub
from control_plane.serve import Streams
from control_plane.sessions import Standing
from control_plane.settings import ServeConfig, one_line
from control_plane.store.contract import Put, Store, StoreError
from control_plane.store.sqlite import open_store
from control_plane.tokens import Tokens
from sidecar import __version__
from sidecar.config.grammar import parse_host_port
from sidecar.config.resources import Parsed

BACKLOG = 512
LONGEST_SPREAD_S = 3_600.0
GATHER_S = 0.01  # a thousand acknowledgements are not looked at one by one


class ControlPlane:
    """Use it from the trio task tree that `run` serves in; every method raises `Refused` for what it does not do.

    Attributes:
        stream_address: Where sidecars connect to, `HOST:PORT` as it is bound.
    """

    def __init__(
        self,
        config: ServeConfig,
        store: Store,
        ledger: Ledger,
        hub: Hub,
        authority: Authority,
        tokens: Tokens,
        metrics: Metrics,
        stream_address: str,
    ) -> None:
        """For `run`, which opens what is passed."""
        self.config = config
        self.stream_address = stream_address
        self._store = store
        self._ledger = ledger
        self._hub = hub
        self._authority = authority
        self._tokens = tokens
        self._metrics = metrics
        self._started_s = time.time()
        self._parsing = trio.CapacityLimiter(1)  # a YAML text of megabytes costs seconds of CPU; never two at once

    async def version(self) -> Version:
        """Program version, trust domain, present revision."""
        await trio.lowlevel.checkpoint()
        return Version(__version__, self._authority.name, self._ledger.revision, self._started_s)

    # -- resources ----------------------------------------------------------------------------------------------------

    async def apply(self, text: str, source: str = "<input>", *, dry_run: bool = False) -> Applied:
        """Check YAML documents and store them, all or nothing. `source` is the name that problems are reported with."""
        source = one_line(source, 200) or "<input>"
        documents = await trio.to_thread.run_sync(resources.parse, text, source, limiter=self._parsing)
        return await self._apply(documents, source, dry_run=dry_run)

    async def resources(self, kind: str = "", namespace: str = "") -> list[StoredResource]:
        """Everything known, in order of name: applied, registered and generated."""
        await trio.lowlevel.checkpoint()
        prefix = resources.full_name(kind, "", "").removesuffix("/") if kind else ""
        return [
            each
            for name, each in resources.every(
                self._ledger.content, self._ledger.registered_at, self._ledger.snapshot
            ).items()
            if name.startswith(prefix) and namespace in ("", name.split("/")[1])
        ]

    async def resource(self, kind: str, namespace: str, name: str) -> StoredResource:
        """One resource; `kind` in any case, also in plural."""
        await trio.lowlevel.checkpoint()
        full = resources.full_name(kind, namespace, name)
        content, snapshot = self._ledger.content, self._ledger.snapshot
        found = resources.every(content, self._ledger.registered_at, snapshot).get(full)
        if found is None:
            raise resources.missing(full, content, snapshot)
        return found

    async def delete(self, kind: str, namespace: str, name: str, *, dry_run: bool = False) -> Applied:
        """Remove an applied resource, a registered Workload whose sidecar is away, or a Service without endpoints."""
        full = resources.full_name(kind, namespace, name)
        connected = {node for node, each in self._hub.sidecars.items() if each.peer is not None}

        def decide(content: Content) -> Edit:
            return resources.deletion(content, self._ledger.snapshot, connected, full)

        if dry_run:
            decide(self._ledger.content)
            return Applied(self._ledger.revision, (full,), dry_run=True)
        outcome = await self._ledger.change(decide)
        for node in outcome.edit.registered:
            self._hub.forget(node)
        return Applied(outcome.revision, (full,))

    # -- traffic ------------------------------------------------------------------------------------------------------

    async def traffic_show(self, namespace: str, service: str) -> Traffic:
        """How the service's traffic is split."""
        await trio.lowlevel.checkpoint()
        return traffic.show(self._ledger.content, self._ledger.snapshot, self._ledger.revision, namespace, service)

    async def traffic_set(self, namespace: str, service: str, weights: Mapping[str, int]) -> Traffic:
        """Change the weights of the named backends; others keep theirs. Makes a route when there is none."""
        named = dict(weights)
        source = f"traffic set {service}"

        def decide(content: Content) -> Edit:
            parsed = traffic.retarget(content, self._ledger.snapshot, namespace, service, named)
            parsed.node.source.file = source
            return resources.application(content, [parsed], self._authority.name, source).edit

        outcome = await self._ledger.change(decide)
        return traffic.show(self._ledger.content, self._ledger.snapshot, outcome.revision, namespace, service)

    async def wait_revision(self, revision: int, timeout_s: float) -> Waited:
        """Wait until every sidecar that uses what `revision` changed has taken or rejected it, at most `timeout_s`."""
        if not 0 <= revision <= self._ledger.revision:
            raise Refused(f"revision {revision} is not there yet", f"the newest is {self._ledger.revision}")
        with trio.move_on_after(max(0.0, timeout_s)):
            while Standing.WAITING in self._hub.standings(revision).values():
                await self._hub.moved()
                await trio.sleep(GATHER_S)
        await trio.lowlevel.checkpoint()
        return self._waited(revision)

    # -- identity -----------------------------------------------------------------------------------------------------

    async def create_token(
        self, *, service: str, namespace: str, account: str = "", uses: int = 1, ttl_s: float = 3600.0
    ) -> MadeToken:
        """A token that lets `uses` sidecars join as `account` (default: the service's name) and serve `service`."""
        roots = self._authority.bundle_pem.decode()
        return await self._tokens.create(
            service=service, namespace=namespace, account=account, uses=uses, ttl_s=ttl_s, roots_pem=roots
        )

    async def certs(self) -> Certificates:
        """Roots, issuer, own certificate, and the sidecars' as they reported them."""
        await trio.lowlevel.checkpoint()
        rows = [*self._signers(), *self._sidecar_certificates()]
        return Certificates(self._authority.name, tuple(rows), self._authority.bundle_pem.decode())

    async def rotate(self, spread_s: float = 30.0) -> Rotation:
        """Renew the own certificate, and ask every connected sidecar to renew its within `spread_s`."""
        if not 0.0 <= spread_s <= LONGEST_SPREAD_S:
            raise Refused(f"a spread of {spread_s:g} s (0 to {LONGEST_SPREAD_S:g} are allowed)", "name a shorter one")
        await self._authority.renew_own()
        return Rotation(self._hub.rotate(spread_s), spread_s)

    # -- what is going on ---------------------------------------------------------------------------------------------

    async def status(self) -> Status:
        """Every sidecar with its versions and rejections."""
        await trio.lowlevel.checkpoint()
        return Status(self._ledger.revision, self._authority.name, self._hub.rows(), self._hub.registry.held())

    async def check(self) -> list[CheckLine]:
        """What a person would look at first, one line each."""
        lines = [CheckLine(f"control plane {__version__} is up, revision {self._ledger.revision}", True)]
        lines.append(await self._store_line())
        lines += checks.signer_lines(self._signers(), time.time())
        return lines + checks.sidecar_lines(self._hub.rows(), time.time())

    async def stats(self) -> Stats:
        """Golden signals of the last seconds, from the sidecars' reports."""
        await trio.lowlevel.checkpoint()
        table = self._hub.stats
        counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for each in self._ledger.content.workloads():
            count = counts[f"{each.service}.{each.namespace}", each.version]
            count[0] += 1
            count[1] += each.ready
        versions = tuple(VersionRow(*key, *count) for key, count in sorted(counts.items()))
        return Stats(table.window_s, table.rows(trio.current_time()), versions, table.ejected())

    def metrics(self) -> bytes:
        """The control plane's own metrics in Prometheus text format."""
        metrics = self._metrics
        metrics.sidecars.set(self._hub.connected)
        metrics.leases.set(len(self._hub.registry))
        metrics.held.set(len(self._hub.registry.held()))
        metrics.revision.set(self._ledger.revision)
        metrics.resources.set(len(self._ledger.snapshot.resources))
        metrics.issuer_ends.set(self._authority.issuer_ends_s)
        return metrics.text()

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _apply(self, documents: list[Parsed], source: str, *, dry_run: bool) -> Applied:
        decided: list[resources.Application] = []

        def decide(content: Content) -> Edit:
            decided[:] = [resources.application(content, documents, self._authority.name, source)]
            return decided[0].edit

        if dry_run:
            await trio.lowlevel.checkpoint()
            decide(self._ledger.content)
            outcome = Outcome(self._ledger.revision, Edit())
        else:
            outcome = await self._ledger.change(decide)
        (made,) = decided
        return Applied(outcome.revision, made.changed, made.unchanged, dry_run, made.warnings)

    def _waited(self, revision: int) -> Waited:
        standings = self._hub.standings(revision)
        names = self._ledger.changed_at(revision)

        def nodes(wanted: Standing) -> tuple[str, ...]:
            return tuple(node for node, standing in standings.items() if standing is wanted)

        waiting, rejecting = nodes(Standing.WAITING), nodes(Standing.REJECTED)
        rejected = tuple(
            rejection
            for node in rejecting
            for rejection in self._hub.sidecars[node].rejected
            if names is None or rejection.name in names
        )
        return Waited(revision, not waiting, nodes(Standing.ACKED), waiting, rejected)

    def _signers(self) -> list[CertificateRow]:
        own = self._authority.own
        name = "control plane's own"
        mine = CertificateRow("control-plane", name, own.spiffe_id, own.not_before_s, own.not_after_s)
        return [*self._authority.signers, mine]

    def _sidecar_certificates(self) -> list[CertificateRow]:
        rows = []
        for row in self._hub.rows():
            if row.cert_not_after_s is not None:
                spiffe_id = f"spiffe://{self._authority.name}/ns/{row.node.split('/')[0]}/sa/{row.account}"
                rows.append(CertificateRow("sidecar", row.node, spiffe_id, None, row.cert_not_after_s))
        return rows

    async def _store_line(self) -> CheckLine:
        what = "the store can be written"
        try:
            with trio.move_on_after(5.0) as limit:
                await self._store.txn([Put("probe", b"", expires_s=time.time() + 60.0)])
        except StoreError as problem:
            return CheckLine(what, False, str(problem), "give it space and the right to write")
        if limit.cancelled_caught:
            return CheckLine(what, False, "no answer from the disk for 5 s", "look at the disk")
        return CheckLine(what, True)


async def run(config: ServeConfig, *, task_status: trio.TaskStatus[ControlPlane] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled; hands the ControlPlane out once the streams are open.

    Raises:
        StoreError: The store cannot be used.
        certs.ca.TrustDomainError: The trust domain cannot be used.
        OSError: The stream address cannot be listened on; `filename` is the address.
    """

    def say(line: str) -> None:
        config.say(one_line(line, 2_000))

    listener = await _listen(config.stream)
    try:
        store = await open_store(config.data)
        try:
            await _serve(config, store, listener, say, task_status)
        finally:
            await store.aclose()
    finally:
        await listener.aclose()


async def _serve(
    config: ServeConfig,
    store: Store,
    listener: trio.SocketListener,
    say: Callable[[str], None],
    task_status: trio.TaskStatus[ControlPlane],
) -> None:
    metrics = Metrics()
    authority = await open_authority(
        config.data / "trust",
        config.trust_domain,
        config.certificate_s,
        on_signed=metrics.signed.inc,
        rng=random.Random(),
    )
    ledger = await open_ledger(store, authority.name)
    tokens = Tokens(store)
    hub = Hub(ledger, tokens, config.intervals, metrics, say)
    streams = Streams(hub, authority, tokens, config.intervals, metrics, say, config.max_sessions)
    address = _address(listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.run)
        nursery.start_soon(hub.run)
        nursery.start_soon(authority.keep_fresh, say)
        nursery.start_soon(_keep_house, store, config, say)
        nursery.start_soon(streams.serve, listener)
        say(f"listening streams {address}")
        task_status.started(ControlPlane(config, store, ledger, hub, authority, tokens, metrics, address))


async def _keep_house(store: Store, config: ServeConfig, say: Callable[[str], None]) -> None:
    """Sweep keys whose time is over, and forget old history."""
    while True:
        await trio.sleep(config.intervals.compact_s)
        try:
            await store.expire()
            await store.compact(config.intervals.keep_revisions)
        except StoreError as problem:
            say(f"cannot tidy the store: {problem}")


async def _listen(address: str) -> trio.SocketListener:
    host, port = parse_host_port(address, 0)
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        bound = trio.socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await bound.bind(where)
            bound.listen(BACKLOG)
        except BaseException:
            bound.close()
            raise
    except OSError as problem:
        code = problem.errno or errno.EADDRNOTAVAIL
        raise OSError(code, f"cannot listen on it: {(problem.strerror or str(problem)).lower()}", address) from problem
    return trio.SocketListener(bound)


def _address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
