"""Configuration and identity from a control plane: the holder's side of `ControlClient`.

Puts pushes in force, registers the app, and reports counters. What the disk cache holds is served from the start, so a
restart needs no control plane; how old it is shows in `/config`, in the metrics and in one line at the start.
"""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

import trio

from sidecar.config.resources import parse_wire
from sidecar.control.client import ControlClient
from sidecar.control.push import Push
from sidecar.control.state import Applied
from sidecar.model.bootstrap import Bootstrap
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.proxy.worker import Directory
from sidecar.telemetry.metrics import Metrics
from sidecar.transport.identity import Identity

_ANY_ADDRESS = frozenset(("0.0.0.0", "::", ""))  # noqa: S104 - compared with, not listened on
FAREWELL_S = 2.0


class Home(Protocol):
    """What the source needs of the holder."""

    bootstrap: Bootstrap
    listening: list[tuple[str, str]]

    @property
    def metrics(self) -> Metrics:
        """What was counted, of all workers."""

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""

    def identify(self, identity: Identity) -> None:
        """Use this identity for new connections."""

    def app_ready(self) -> bool:
        """Whether callers should send requests to the app."""

    def end(self, *, delay: bool) -> None:
        """Drain and end the process."""


class _Directory:
    """The data plane's way to ask for a service."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self.used: Callable[[ServiceKey], None] = client.want

    async def find(self, key: ServiceKey, timeout_s: float) -> Known:
        """See `Directory`."""
        return await self._client.wait_known(key, timeout_s)


class MeshSource:
    """`Source` and `Sink`: see module."""

    def __init__(self, bootstrap: Bootstrap, home: Home, rng: Random, say: Callable[[str], None]) -> None:
        assert bootstrap.control_plane is not None
        self._home = home
        self._say = say
        self._rejected_total = 0
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.client = ControlClient(
            bootstrap.control_plane,
            bootstrap.node,
            self,
            rng=rng,
            now_unix=time.time,
            declared=[upstream.service for upstream in bootstrap.outbound.upstreams],
            identity_files=bootstrap.identity,
            log=say,
        )
        self._directory = _Directory(self.client)
        self._restored = False

    # Source.

    @property
    def snapshot(self) -> Snapshot:
        """See `Source`."""
        return self.client.applied.snapshot

    @property
    def directory(self) -> Directory:
        """See `Source`."""
        return self._directory

    def start(self) -> None:
        """Serve what the disk cache holds."""
        content = self.client.restore()
        if content is None:
            return
        self._restored = True
        self._home.switch(content.snapshot)
        if content.identity is not None:
            self._home.identify(content.identity)
        age_s = self.client.age_s()
        self._say(f"serving {len(content.snapshot.resources)} resources from the cache, {age_s:.0f} s old")

    async def run(self) -> None:
        """See `Source`."""
        try:
            with self._scope:
                await self.client.run()
        finally:
            self._ended.set()

    def age_s(self) -> float:
        """See `Source`."""
        return self.client.age_s()

    def not_ready(self) -> list[str]:
        """See `Source`."""
        if self._restored or self.client.connected:
            return []
        return ["no configuration yet: the control plane has not answered and the cache is empty"]

    def rejected_total(self) -> int:
        """See `Source`."""
        return self._rejected_total

    def rejections(self) -> list[dict[str, object]]:
        """See `Source`."""
        standing = self.client.applied.standing
        return [
            {"name": name, "version": standing[name].version, "reason": standing[name].reason}
            for name in sorted(standing)
        ]

    def describe(self) -> dict[str, object]:
        """See `Source`."""
        return {"kind": "control plane", **self.client.status()}

    def reloads(self) -> Sequence[tuple[str, int]]:
        """See `Source`: a push is not a reload."""
        return ()

    def reread(self) -> None:
        """See `Source`: the control plane says when there is something new."""

    def ready_changed(self) -> None:
        """See `Source`."""
        self.client.ready_changed()

    async def farewell(self) -> None:
        """Say `bye`, so that the lease ends at once."""
        self._scope.cancel()
        with trio.move_on_after(FAREWELL_S):
            await self._ended.wait()

    # Sink.

    def apply(self, push: Push) -> Applied:
        """See `Sink`."""
        applied = self.client.applied.after(push, parse_wire, self.client.wants())
        self._rejected_total += len(applied.rejected)
        self._restored = True
        self._home.switch(applied.snapshot)
        return applied

    def identity_changed(self, identity: Identity) -> None:
        """See `Sink`."""
        self._home.identify(identity)
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(identity.not_after_s))
        self._say(f"identity {identity.spiffe_id} until {until}")

    def report(self) -> dict[str, Any]:
        """See `Sink`."""
        metrics, who = self._home.metrics, self.client.keeper.identity
        ejected = metrics.ejected_now(trio.current_time())
        return {
            "counters": [total.row() for total in metrics.totals()],
            "ejected": [f"{key.service.namespace}/{key.service.name}/{key.port}/{name}" for key, name in ejected],
            "config": {"version": self.snapshot.version, "age_s": self.age_s()},
            "cert": None if who is None else {"spiffe_id": who.spiffe_id, "not_after_s": who.not_after_s},
        }

    def drain(self) -> None:
        """See `Sink`."""
        self._home.end(delay=True)

    def ready(self) -> bool:
        """See `Sink`."""
        return self._home.app_ready()

    def workload(self) -> dict[str, Any] | None:
        """See `Sink`. The address is the inbound listener's, or left to the control plane when that is any."""
        inbound = self._home.bootstrap.inbound
        if inbound is None:
            return None
        bound = next((address for name, address in self._home.listening if name == "inbound"), "")
        host, _, port = bound.rpartition(":")
        host = host.strip("[]")
        return {
            "address": "" if host in _ANY_ADDRESS else host,
            "inbound": int(port) if port else None,
            "ports": [{"port": one.port, "protocol": one.protocol.value} for one in inbound.ports],
            "ready": self._home.app_ready(),
        }
