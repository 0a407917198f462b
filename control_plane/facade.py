"""The control plane as its API and command line see it: one class, one exception, values in and out.

`run` opens the store and the trust domain, serves the sidecar streams, and hands out a `ControlPlane`. Everything that
a caller can do goes through it; a call that cannot be carried out raises `Refused` and changes nothing.
"""

from collections.abc import Mapping
from typing import Protocol

from control_plane.answers import (
    Applied,
    Certificates,
    CheckLine,
    MadeToken,
    Rotation,
    Stats,
    Status,
    StoredResource,
    Traffic,
    Version,
    Waited,
)
from control_plane.settings import ServeConfig


class ControlPlane(Protocol):
    """Use from the trio task tree that `run` serves in; every method raises `Refused` for what it does not do."""

    config: ServeConfig
    stream_address: str

    async def version(self) -> Version:
        """Program version, trust domain, present revision."""

    async def apply(self, text: str, source: str = "<input>", *, dry_run: bool = False) -> Applied:
        """Check YAML documents and store them, all or nothing. `source` is the name that problems are reported with."""

    async def resources(self, kind: str = "", namespace: str = "") -> list[StoredResource]:
        """Everything known, in order of name: applied, registered and generated."""

    async def resource(self, kind: str, namespace: str, name: str) -> StoredResource:
        """One resource; `kind` in any case, also in plural."""

    async def delete(self, kind: str, namespace: str, name: str, *, dry_run: bool = False) -> Applied:
        """Remove an applied resource, a registered Workload whose sidecar is away, or a Service without endpoints."""

    async def traffic_show(self, namespace: str, service: str) -> Traffic:
        """How the service's traffic is split."""

    async def traffic_set(self, namespace: str, service: str, weights: Mapping[str, int]) -> Traffic:
        """Change the weights of the named backends; others keep theirs. Makes HTTPRoute/SERVICE when there is none."""

    async def wait_revision(self, revision: int, timeout_s: float) -> Waited:
        """Wait until every sidecar that uses what `revision` changed has taken or rejected it, at most `timeout_s`."""

    async def create_token(
        self, *, service: str, namespace: str, account: str = "", uses: int = 1, ttl_s: float = 3600.0
    ) -> MadeToken:
        """A token that lets `uses` sidecars join as `account` (default: the service's name) and serve `service`."""

    async def status(self) -> Status:
        """Every sidecar with its versions and rejections."""

    async def check(self) -> list[CheckLine]:
        """What a person would look at first, one line each."""

    async def certs(self) -> Certificates:
        """Roots, issuer, own certificate, and the sidecars' as they reported them."""

    async def rotate(self, spread_s: float = 30.0) -> Rotation:
        """Ask every connected sidecar for a new certificate, spread over `spread_s`."""

    async def stats(self) -> Stats:
        """Golden signals of the last seconds, from the sidecars' reports."""

    def metrics(self) -> bytes:
        """The control plane's own metrics in Prometheus text format."""
