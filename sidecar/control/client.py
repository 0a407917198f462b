"""The sidecar's end of port 15012: stays connected, or says why not, and never lets traffic depend on it.

The app calls `restore()` (disk cache), starts `run`, and gives a `Sink` that puts pushes in force. Look-ups call `want`
and `wait_known`. This file joins, dials, runs one session.Session after another, and hands what changed to the disk
cache; what a push means is state.py's, what is subscribed to want.py's, the identity identity.py's.

Between sessions it waits 0.1 s to 5 s, jittered, so that neither a blink of the control plane is felt nor its return
met by everybody at once. When trying again cannot help it says so and waits for a new join file.
"""

import math
import secrets
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any

import trio

from sidecar import __version__
from sidecar.config.resources import parse_wire
from sidecar.control.cache import CacheWriter, cache_path, load
from sidecar.control.cache_file import CacheContent
from sidecar.control.collector import collector_at_rest
from sidecar.control.dial import Dialer, Link
from sidecar.control.fields import Fields
from sidecar.control.identity import IdentityKeeper, MakeRequest, make_key_request
from sidecar.control.link import Trouble, TroubleError
from sidecar.control.lookups import Lookups
from sidecar.control.messages import Bundle, Cert, Drain, Hello, Node, Rotate, WorkloadInfo
from sidecar.control.push import Push
from sidecar.control.session import Other, Session
from sidecar.control.sink import Sink
from sidecar.control.state import Applied
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import ControlPlaneConfig, IdentityFiles, NodeInfo
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.transport.identity import Identity
from sidecar.transport.identity_files import watch_files

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0  # a control plane that returns has everybody back within this
STABLE_S = 30.0  # a session that lived so long starts the delays anew
FINAL_DELAY_S = 60.0  # between tries that cannot help, while there is an identity
LOOK_FOR_FILE_S = 5.0
HOUSEKEEPING_S = 30.0
RESAVE_S = 300.0  # while connected, so that a restart knows how fresh its cache is
WELCOME_S = 1.0


class ControlClient:
    """See module. One trio task tree; nothing here is thread-safe.

    Attributes:
        applied: What the last push left, standing refusals included; before the first one, the disk cache.
        keeper: The identity and its renewal.
        instance: 16 hex digits, new with each process.
    """

    def __init__(
        self,
        config: ControlPlaneConfig,
        node: NodeInfo,
        sink: Sink,
        *,
        rng: Random,
        now_unix: Callable[[], float],
        declared: Iterable[ServiceKey] = (),
        identity_files: IdentityFiles | None = None,
        in_use: Callable[[ServiceKey], bool] = lambda _: False,
        log: Callable[[str], None] = lambda _: None,
        make_request: MakeRequest = make_key_request,
        dial: Callable[[], Awaitable[Link]] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            declared: Services wanted for good (upstreams of the bootstrap file).
            identity_files: Use these instead of joining; they are watched.
            in_use: Whether requests went to a service without a look-up, asked before it is unsubscribed.
            log: Gets one line for each change of fortune.
            dial: How to get a stream, where that is not dial.Dialer's way (tests on virtual time).
        """
        self.applied = Applied(snapshot=Snapshot())
        self.instance = secrets.token_hex(8)
        join_file = config.join_file if identity_files is None else None
        self.keeper = IdentityKeeper(
            join_file, self._identity_changed, self.complain, rng=rng, now_unix=now_unix, make_request=make_request
        )
        self._dial = dial or Dialer(config, self.keeper, identity_files, self.complain).dial
        self._config = config
        self._node = node
        self._sink = sink
        self._rng = rng
        self._now_unix = now_unix
        self._files = identity_files
        self._in_use = in_use
        self._log = log
        self._where = f"the control plane at {config.address}"
        self._lookups = Lookups(declared, lambda key: self.applied.snapshot.knows(key), self._wants_changed)
        self._cache_path = cache_path(config.cache, node.namespace, node.id)
        self._cache = CacheWriter(self._cache_path, log)
        self._session: Session | None = None
        self._up = False
        self._sessions = 0
        self._trouble: Trouble | None = None
        self._said = ""
        self._complaint = ""
        self._since_s = now_unix()
        self._fresh_s = 0.0  # when the control plane last confirmed the configuration, unix seconds

    # -- for the app -------------------------------------------------------------------------------------------------

    def restore(self) -> CacheContent | None:
        """Take what the disk cache holds and return it for the app to serve from; None when there is nothing.

        Call it once, inside trio, before `run`; it blocks on the disk. Problems go to the log.
        """
        loaded = load(self._cache_path, parse_wire)
        for problem in loaded.problems:
            self._log(problem)
        content = loaded.content
        if content is None:
            return None
        self.applied = Applied(snapshot=content.snapshot, acked_version=content.snapshot.version)
        self._fresh_s = content.saved_at_s
        self._lookups.table.remember(sorted(content.wants), trio.current_time())
        if content.identity is not None and self._files is None:
            self.keeper.restore(content.identity, content.joined_with)
        return content

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay connected until cancelled; then say `bye` and write the cache once more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cache.run)
            nursery.start_soon(self._keep_house)
            if self._files is not None:
                await self._start_with_files(nursery, self._files)
            task_status.started()
            await self._stay_connected()

    def wants(self) -> frozenset[ServiceKey]:
        """All services that are wanted now."""
        return self._lookups.table.names()

    def want(self, key: ServiceKey) -> None:
        """Note a use of `key`, and subscribe to it if that is new. Cheap; call it at every look-up."""
        self._lookups.want(key)

    async def wait_known(self, key: ServiceKey, timeout_s: float = 1.0) -> Known:
        """`want`, then wait until the control plane has said whether it exists.

        UNKNOWN after `timeout_s`, or at once within the five seconds after such a wait in vain.
        """
        return await self._lookups.wait_known(key, timeout_s)

    def ready_changed(self) -> None:
        """The sink's `ready()` has another answer: say so at once."""
        if self._session is not None:
            self._session.tell_ready()

    @property
    def connected(self) -> bool:
        """Whether a session stands."""
        return self._up

    def age_s(self) -> float:
        """How long ago the configuration was last confirmed, seconds; 0.0 while connected, and when it never was."""
        return 0.0 if self.connected or not self._fresh_s else max(0.0, self._now_unix() - self._fresh_s)

    def status(self) -> dict[str, Any]:
        """For `/config`: how the stream stands, in plain values."""
        who, trouble = self.keeper.identity, self._trouble
        return {
            "address": str(self._config.address),
            "connected": self.connected,
            "since_s": self._since_s,
            "sessions": self._sessions,
            "error": "" if trouble is None else trouble.sentence,
            "hint": "" if trouble is None else trouble.hint,
            "final": trouble is not None and trouble.final,
            "version": self.applied.snapshot.version,
            "age_s": self.age_s(),
            "rejected": {
                name: {"version": each.version, "reason": each.reason}
                for name, each in sorted(self.applied.standing.items())
            },
            "held": sorted(self.applied.held),
            "wants": sorted(map(str, self.wants())),
            "identity": None if who is None else {"spiffe_id": who.spiffe_id, "not_after_s": who.not_after_s},
            "identity_error": "" if self.keeper.trouble is None else str(self.keeper.trouble),
            "cache": {"path": str(self._cache_path), "failures": self._cache.failures, "error": self._cache.problem},
        }

    # -- for the session (its Desk) ----------------------------------------------------------------------------------

    def ready(self) -> bool:
        """See Sink."""
        return self._sink.ready()

    def report(self) -> dict[str, Any]:
        """See Sink."""
        return self._sink.report()

    def take_push(self, push: Push) -> Applied:
        """Put a push in force, wake who waits for a service, and let the cache be written."""
        former = self.applied.standing
        with collector_at_rest():
            self.applied = self._sink.apply(push)
        self._fresh_s = self._now_unix()
        for name, rejection in self.applied.standing.items():
            if former.get(name) != rejection:
                self._log(f"{name} version {rejection.version} is refused, the last good one stays: {rejection.reason}")
        self._lookups.snapshot_changed()
        self._save()
        return self.applied

    def take(self, message: Other) -> None:
        """Act upon a message that needs no answer."""
        match message:
            case Cert():
                self.keeper.answered(message)
            case Rotate():
                self.keeper.rotate(message)
            case Drain():
                self._log(f"{self._where} asks this sidecar to drain")
                self._sink.drain()
            case Bundle():
                try:
                    self.keeper.take_bundle(message)
                except TroubleError as problem:
                    self.complain(problem.trouble)

    def complain(self, trouble: Trouble) -> None:
        """Something is refused or does not work, and the stream goes on without it; the same thing is said once."""
        if str(trouble) != self._complaint:
            self._complaint = str(trouble)
            self._log(self._complaint)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            started_s = trio.current_time()
            try:
                trouble = await self._one_session()
            except TroubleError as problem:
                trouble = problem.trouble
            self._disconnected(trouble)
            lived_s = trio.current_time() - started_s
            failures = 1 if lived_s >= STABLE_S else failures + 1
            await self._pause(trouble, failures)

    async def _one_session(self) -> Trouble:
        """Connect and speak until the stream ends. Raises TroubleError."""
        link = await self._dial()
        try:
            session = Session(
                link.stream,
                self._hello(),
                self,
                where=self._where,
                roots_from=link.roots_from,
                report_interval_s=self._config.report_interval_s,
            )
            self._session = session
            return await self._speak(session)
        finally:
            await trio.aclose_forcefully(link.stream)

    async def _speak(self, session: Session) -> Trouble:
        async with trio.open_nursery() as nursery:
            if self._files is None:
                nursery.start_soon(self.keeper.keep_fresh, session.send)
            nursery.start_soon(self._welcome, session)
            trouble = await session.run()
            nursery.cancel_scope.cancel()
        return trouble

    def _hello(self) -> Hello:
        node, workload = self._node, self._sink.workload()
        return Hello(
            node=Node(
                service=node.service,
                namespace=node.namespace,
                version=node.version,
                id=node.id,
                account=node.account,
                zone=node.zone,
                labels=node.labels,
            ),
            version=__version__,
            instance=self.instance,
            have={name: each.version for name, each in self.applied.snapshot.resources.items()},
            wants=tuple(sorted(map(str, self.wants()))),
            workload=None if workload is None else WorkloadInfo.parse(Fields(workload, "workload")),
        )

    async def _welcome(self, session: Session) -> None:
        """A session counts once something was heard, or nothing bad for a second: many a refusal comes after hello."""
        with trio.move_on_after(WELCOME_S):
            await session.welcome.wait()
        self._up = True
        self._sessions += 1
        self._trouble = None
        self._since_s = self._now_unix()
        self._say(f"connected to {self._where}")

    def _disconnected(self, trouble: Trouble) -> None:
        self._session = None
        if self._up:
            self._up = False
            self._since_s = self._fresh_s = self._now_unix()
        self._trouble = trouble
        self._say(str(trouble))

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._log(line)

    async def _pause(self, trouble: Trouble, failures: int) -> None:
        ceiling_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 30))
        if not trouble.final:
            await trio.sleep(self._rng.uniform(ceiling_s / 2, ceiling_s))
            return
        limit_s = FINAL_DELAY_S * self._rng.uniform(0.5, 1.0) if self.keeper.usable is not None else math.inf
        with trio.move_on_after(limit_s):
            while True:
                await trio.sleep(LOOK_FOR_FILE_S)
                if self.keeper.join_file_changed():
                    return

    async def _keep_house(self) -> None:
        saved_s = trio.current_time()
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            now_s = trio.current_time()
            if self._lookups.table.expire(now_s, self._in_use):
                self._wants_changed()
            if self.connected and now_s - saved_s >= RESAVE_S:
                saved_s = now_s
                self._save()

    async def _start_with_files(self, nursery: trio.Nursery, files: IdentityFiles) -> None:
        found: Identity | None = None
        try:
            found = Identity.from_files(files.cert, files.key, files.bundle)
        except ConfigError as problem:
            self._log(str(problem))
        else:
            self._files_changed(found)
        nursery.start_soon(watch_files, files, found, self._files_changed, self._log)

    def _files_changed(self, identity: Identity) -> None:
        self.keeper.restore(identity)
        self._sink.identity_changed(identity)

    def _identity_changed(self, identity: Identity) -> None:
        self._sink.identity_changed(identity)
        self._save()

    def _wants_changed(self) -> None:
        if self._session is not None:
            self._session.tell_wants()
        self._save()

    def _save(self) -> None:
        if self.connected:
            self._fresh_s = self._now_unix()
        who = self.keeper.identity if self._files is None else None
        if not self._fresh_s and who is None:
            return  # nothing that is worth a file, and none that is there should be lost for it
        self._cache.put(
            CacheContent(
                snapshot=self.applied.snapshot,
                saved_at_s=self._fresh_s,
                wants=self.wants(),
                identity=who,
                joined_with=self.keeper.joined_with,
            )
        )
