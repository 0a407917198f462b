"""The hub: every sidecar that is known, what its messages change, and when something is pushed to it.

serve.py hands over each message of an identified stream; the rules are in registry, sessions, register, stats (pure)
and ledger; this file calls them and sends what they return.

Changes of the snapshot are gathered for a moment (sessions.Debounce) and pushed to all; the answer to a sidecar's own
message goes out at once. Nothing here waits for a sidecar: each has one push under way, and gets the newest state then.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import trio

from control_plane import register
from control_plane.answers import SidecarRow
from control_plane.ledger import Ledger
from control_plane.metrics import Metrics
from control_plane.registry import Registry
from control_plane.sessions import Change, Debounce, Session, Standing
from control_plane.settings import Intervals, one_line
from control_plane.sidecars import Peer, Sidecar, keys, row_of, row_of_registered
from control_plane.stats import StatsTable
from control_plane.store.contract import StoreError
from control_plane.tokens import Tokens
from sidecar.control.messages import Ack, Beat, Bye, Error, Hello, Message, Nack, Report, Rotate, Unwant, Want
from sidecar.control.push import Item, split_push
from sidecar.control.wire import WireError
from sidecar.model.clusters import ServiceKey, Workload

ANSWER_S = 30.0  # a push that is not answered for so long: the sidecar hangs
MOST_NAMED = 5  # nodes in one line
MAX_OF_ACCOUNT = 1_024  # sidecars with a lease; half of the streams that there may be
MAX_WANTS_OF_ACCOUNT = 100_000  # of all its sidecars together, 250 bytes each
STALL_S = 5.0  # this process did not look at leases for so long: it stood still, and nobody could renew


class Hub:
    """All sidecars. Use it from one trio task tree; `run` must be running.

    Attributes:
        sidecars: By node (`NAMESPACE/ID`), connected or with a live lease.
        registry, stats: Leases, and what sidecars counted.
    """

    def __init__(
        self, ledger: Ledger, tokens: Tokens, intervals: Intervals, metrics: Metrics, say: Callable[[str], None]
    ) -> None:
        self.sidecars: dict[str, Sidecar] = {}
        self.registry = Registry(intervals.lease_s)
        self.stats = StatsTable()
        self._ledger = ledger
        self._tokens = tokens
        self._intervals = intervals
        self._metrics = metrics
        self._say = say
        self._gathered = Debounce(intervals.debounce_s, intervals.debounce_max_s)
        self._wake = trio.Event()
        self._moved = trio.Event()
        ledger.listeners.append(self._snapshot_changed)
        self.registry.restore(ledger.content.registered, trio.current_time())

    # -- what a stream tells ------------------------------------------------------------------------------------------

    async def hello(self, peer: Peer, hello: Hello, identity: tuple[str, str], peer_address: str) -> Sidecar:
        """Take a sidecar in; `identity` is the certificate's (namespace, account).

        Raises:
            HelloRefused: It may not be what it says.
            StoreError: It could not be registered.
        """
        node = hello.node
        register.check_identity(node, *identity, await self._tokens.granted(*identity))
        workload = register.workload_of(hello, peer_address)
        name = f"{node.namespace}/{node.id}"
        former, registered = self.sidecars.get(name), self._ledger.content.registered.get(name)
        register.check_owner(node, former.hello.node.account if former is not None else "")
        register.check_owner(node, registered.account if registered is not None else "")
        self._check_share(name, hello, identity)
        if workload is not None:
            register.registration(self._ledger.content, workload)  # raises what it would raise later
        # The lease comes first: whoever ends registrations leaves those with a lease alone.
        another = self.registry.hello(name, hello.instance, trio.current_time(), workload=workload is not None)
        try:
            await self._register(name, workload)
        except BaseException:
            if name not in self.sidecars:
                self.registry.bye(name, hello.instance)
            raise
        return self._admit(name, peer, hello, workload, peer_address, another=bool(another))

    async def take(self, sidecar: Sidecar, peer: Peer, message: Message) -> None:
        """Take one message of an admitted sidecar. Raises StoreError when a change could not be kept."""
        if sidecar.peer is not peer:
            return  # another stream took over, or the lease is over; this one is being closed
        session = sidecar.session
        self.registry.beat(sidecar.name, session.instance, trio.current_time())
        match message:
            case Beat():
                await self._beat(sidecar, message.ready)
            case Ack():
                session.ack(message.version)
                self._settle(sidecar)
            case Nack():
                self._nack(sidecar, message)
            case Unwant():  # before Want, which it extends
                session.unwant(keys(message.names))
                self._settle(sidecar)
            case Want():
                self._want(sidecar, peer, message)
            case Report():
                if message.instance == session.instance:
                    self.stats.report(sidecar.name, message, trio.current_time())
            case Bye():
                self.registry.bye(sidecar.name, session.instance)
                await self._unregister([sidecar.name])
                if sidecar.peer is peer:
                    self._drop(sidecar.name, "bye")
            case _:
                pass

    def lost(self, sidecar: Sidecar, peer: Peer) -> None:
        """The stream ended. The lease goes on: the sidecar may be back in a moment."""
        if sidecar.peer is peer:
            sidecar.peer = None
            sidecar.session.connected = False
            sidecar.session.flight = None
            sidecar.session.forget_unknown(self._ledger.snapshot)
            self._move()

    # -- what the control plane does by itself -------------------------------------------------------------------------

    async def run(self) -> None:
        """Push gathered changes and look at leases, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push_gathered)
            nursery.start_soon(self._watch_leases)

    def rotate(self, spread_s: float) -> int:
        """Ask every connected sidecar to renew its certificate within `spread_s`; return how many."""
        peers = [each.peer for each in self.sidecars.values() if each.peer is not None]
        for peer in peers:
            peer.send(Rotate(spread_s=spread_s))
        return len(peers)

    def forget(self, node: str) -> None:
        """Drop the lease of a node whose registration was deleted."""
        self.registry.drop(node)
        self._drop(node, "its registration was deleted")

    # -- what others ask ----------------------------------------------------------------------------------------------

    def standings(self, revision: int) -> dict[str, Standing]:
        """How each node that is concerned stands towards `revision`, in order of node."""
        names = self._ledger.changed_at(revision)
        if names is not None and not names:
            return {}
        closures = self._ledger.closures
        found = {each.name: each.session.standing(revision, names, closures) for each in self.sidecars.values()}
        # Registered, but not heard of since this process started: what it subscribes to is not known.
        found.update(dict.fromkeys(set(self.registry.nodes()) - self.sidecars.keys(), Standing.WAITING))
        return {name: standing for name, standing in sorted(found.items()) if standing is not Standing.UNCONCERNED}

    async def moved(self) -> None:
        """Return when a sidecar came, went, or answered a push."""
        await self._moved.wait()

    def rows(self) -> tuple[SidecarRow, ...]:
        """Every sidecar that is connected or has a lease, in order of node."""
        now_s = trio.current_time()
        rows = [row_of(each, self._ledger, self.registry, self.stats, now_s) for each in self.sidecars.values()]
        for node, workload in self._ledger.content.registered.items():
            if node not in self.sidecars:
                rows.append(row_of_registered(node, workload, self._ledger, self.registry, now_s))
        return tuple(sorted(rows, key=lambda row: row.node))

    @property
    def connected(self) -> int:
        """How many sidecars have a stream."""
        return sum(1 for each in self.sidecars.values() if each.peer is not None)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _admit(
        self, name: str, peer: Peer, hello: Hello, workload: Workload | None, peer_address: str, *, another: bool
    ) -> Sidecar:
        own = ServiceKey(hello.node.namespace, hello.node.service)
        session = Session(name, hello.instance, own, hello.node.version, keys(hello.wants), dict(hello.have))
        former = self.sidecars.get(name)
        if former is not None:
            session.resume(former.session)
            self._supersede(former, another=another)
        ready = workload.ready if workload is not None else True
        slim = replace(hello, have={}, wants=())  # the session has them
        sidecar = self.sidecars[name] = Sidecar(name, slim, peer_address, workload, session, peer, ready)
        self._settle(sidecar)
        return sidecar

    def _supersede(self, former: Sidecar, *, another: bool) -> None:
        peer, former.peer = former.peer, None
        if peer is None:
            return
        if another:
            message = f"another process says that it is node {former.name}; the newest one counts"
            peer.send(Error(message=message, hint="give every sidecar its own node.id", final=True))
        peer.close(f"another stream is node {former.name} now")

    async def _register(self, name: str, workload: Workload | None) -> None:
        if workload is not None:
            await self._ledger.change(lambda content: register.registration(content, workload))
        elif name in self._ledger.content.registered:
            await self._ledger.change(lambda content: register.removal(content, [name]))

    async def _unregister(self, nodes: Iterable[str]) -> None:
        """End the registrations of nodes that have no lease at the moment when it is decided."""
        await self._ledger.change(
            lambda content: register.removal(content, [each for each in nodes if not self.registry.has(each)])
        )

    async def _beat(self, sidecar: Sidecar, ready: bool) -> None:
        sidecar.ready = ready
        registered = self._ledger.content.registered.get(sidecar.name)
        if registered is not None and registered.ready != ready:
            await self._ledger.change(lambda content: register.readiness(content, sidecar.name, ready))

    def _check_share(self, name: str, hello: Hello, identity: tuple[str, str]) -> None:
        """One account must not take the room of all. Raises HelloRefused."""
        namespace, account = identity
        others = [each for each in self._of_account(identity) if each.name != name]
        who = f"account {account} of namespace {namespace}"
        if len(others) >= MAX_OF_ACCOUNT:
            message = f"{who} has {MAX_OF_ACCOUNT} sidecars, as many as one account may"
            raise register.HelloRefused(message, "end some, or give part of them another account", final=False)
        if sum(len(each.session.wants) for each in others) + len(hello.wants) > MAX_WANTS_OF_ACCOUNT:
            message = f"{who} wants more than {MAX_WANTS_OF_ACCOUNT} services"
            raise register.HelloRefused(message, "its sidecars together call too many names", final=False)

    def _of_account(self, identity: tuple[str, str]) -> list[Sidecar]:
        nodes = ((each, each.hello.node) for each in self.sidecars.values())
        return [each for each, node in nodes if (node.namespace, node.account) == identity]

    def _want(self, sidecar: Sidecar, peer: Peer, message: Want) -> None:
        node, wanted = sidecar.hello.node, keys(message.names)
        everybody = self._of_account((node.namespace, node.account))
        total = sum(len(each.session.wants) for each in everybody) + len(wanted - sidecar.session.wants)
        if total <= MAX_WANTS_OF_ACCOUNT and sidecar.session.want(wanted):
            self._settle(sidecar)
        else:
            peer.send(Error(message="too many services are wanted at once", hint="unwant those that are not called"))

    def _nack(self, sidecar: Sidecar, message: Nack) -> None:
        reason = one_line(message.reason)
        if sidecar.session.nack(message.version, message.name, reason):
            self._metrics.nacks.inc()
            self._say(f"rejected {message.name} by {sidecar.name}: {reason}")

    def _drop(self, node: str, why: str) -> None:
        sidecar = self.sidecars.pop(node, None)
        if sidecar is not None and sidecar.peer is not None:
            peer, sidecar.peer = sidecar.peer, None
            peer.close(why)
        self.stats.forget(node)
        self._move()

    def _snapshot_changed(self) -> None:
        self._gathered.changed(trio.current_time())
        self._wake.set()

    async def _push_gathered(self) -> None:
        while True:
            due_s = self._gathered.due_s
            if due_s is None:
                await self._wake.wait()
                self._wake = trio.Event()
            elif due_s > trio.current_time():
                await trio.sleep_until(due_s)  # later changes may have moved it: look again
            else:
                self._gathered.done()
                for sidecar in list(self.sidecars.values()):
                    self._settle(sidecar)
                    await trio.lowlevel.checkpoint()  # a thousand sidecars: let their messages in between

    def _settle(self, sidecar: Sidecar) -> None:
        """Send what is owed, if nothing is under way."""
        if sidecar.peer is not None:
            change = sidecar.session.plan(self._ledger.closures, trio.current_time())
            if change is not None:
                self._send(sidecar.peer, change)
        self._move()

    def _send(self, peer: Peer, change: Change) -> None:
        items = [Item(name=each.name, version=each.version, document=each.document) for each in change.resources]
        try:
            parts = split_push(change.version, items, change.unset)
        except WireError as problem:
            self._say(f"cannot push: {problem}")
            peer.close("a resource does not fit into a frame")
            return
        for part in parts:
            peer.send(part)
        self._metrics.pushes.inc()

    async def _watch_leases(self) -> None:
        looked_s = trio.current_time()
        while True:
            await trio.sleep(self._intervals.lease_check_s)
            now_s = trio.current_time()
            registered = self._ledger.content.registered
            if now_s - looked_s > self._intervals.lease_check_s + STALL_S:
                self.registry.renew_all(now_s)
            # A registration whose hello broke off in the middle has no lease yet; nothing stays for ever.
            self.registry.restore(registered.keys() - set(self.registry.nodes()), now_s)
            looked_s = now_s
            swept = self.registry.sweep(now_s)
            if swept.held:
                more = f", and {len(swept.held) - MOST_NAMED} more" if len(swept.held) > MOST_NAMED else ""
                names = ", ".join(swept.held[:MOST_NAMED]) + more
                self._say(f"held {names}: too many sidecars fell silent at once; their endpoints stay for now")
                self._move()
            await self._end(swept.ended)
            self._close_hanging(now_s)

    async def _end(self, nodes: tuple[str, ...]) -> None:
        if not nodes:
            return
        try:
            await self._unregister(nodes)
        except StoreError as problem:
            self._say(f"cannot end leases: {problem}")  # they get a new one at the next look, and end then
        for node in nodes:
            if not self.registry.has(node):  # not back meanwhile
                self._say(f"gone {node}: its lease is over")
                self._drop(node, "its lease is over")

    def _close_hanging(self, now_s: float) -> None:
        for sidecar in list(self.sidecars.values()):
            flight = sidecar.session.flight
            if sidecar.peer is not None and flight is not None and flight.sent_s < now_s - ANSWER_S:
                sidecar.peer.close(f"no answer to push {flight.change.version} for {ANSWER_S:g} s")

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
