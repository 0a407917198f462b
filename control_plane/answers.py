"""What the control plane answers: frozen values whose field names are the JSON of the API.

Made by `facade.py`, written out by `api/` (`dataclasses.asdict` is the encoder) and read by `cli/`. Nothing is decided
here. Names of resources are `KIND/NAMESPACE/NAME`; names of nodes are `NAMESPACE/ID`; times ending in `_s` are Unix
seconds when they name a moment (`not_after_s`) and seconds when they name a length (`age_s`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Why something was refused. The API maps these to 422, 404, 409 and 409."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    AMBIGUOUS = "ambiguous"


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not a fault of the program
    """A request that the control plane does not carry out; nothing was changed.

    Attributes:
        message: One sentence: what is wrong, where.
        hint: One sentence: what to do.
        details: Complete lines, one per problem (`file:line:column: path: what`).
        kind: Which sort of refusal.
    """

    def __init__(self, message: str, hint: str = "", details: tuple[str, ...] = (), kind: Kind = Kind.INVALID) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Version:
    """Answer of `version`."""

    version: str
    trust_domain: str
    revision: int
    started_s: float


@dataclass(frozen=True, slots=True)
class Applied:
    """Answer of `apply` and `delete`. With nothing changed, `revision` is the present one.

    Attributes:
        warnings: Complete lines about what has no effect yet.
    """

    revision: int
    changed: tuple[str, ...]
    unchanged: tuple[str, ...] = ()
    dry_run: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredResource:
    """One resource.

    Attributes:
        origin: `user` (applied), `registered` (a Workload made by a sidecar) or `generated` (compiled from those).
        version: Revision that last changed it.
        document: The JSON object, as `sidecar.config` writes it.
    """

    name: str
    origin: str
    version: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Backend:
    """A share of a service's traffic. `name` is the Service (`orders-v1`), `label` the short form (`v1`)."""

    name: str
    label: str
    port: int
    weight: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """How a service's traffic is split. `route` is `KIND/NS/NAME`, empty when no route steers the service."""

    revision: int
    namespace: str
    service: str
    route: str
    backends: tuple[Backend, ...]
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RejectedResource:
    """A resource that a sidecar did not take; its last good version stays there."""

    node: str
    name: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Waited:
    """Answer of `wait_revision`. Done means that nobody is waiting; a sidecar that rejected it is not waiting."""

    revision: int
    done: bool
    acked: tuple[str, ...]
    waiting: tuple[str, ...]
    rejected: tuple[RejectedResource, ...]


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A join token, inside the join file that a sidecar reads. The secret is not kept: this is the only copy."""

    id: str
    join_file: str
    expires_s: float


@dataclass(frozen=True, slots=True)
class SidecarRow:
    """One sidecar as the control plane sees it.

    Attributes:
        node: `NAMESPACE/ID`.
        connected: A stream is open now.
        applied, latest: Push version that it acknowledged, and the one that it should have; equal: in sync.
        ready: Its app takes requests.
        registered: It is an endpoint of its service (a pure caller is not).
        lease_left_s: Seconds until its registration ends; None without one.
        held: Its lease is over, but too many ended at once (see registry.py).
        config_age_s: Age of the configuration it serves, as it reported; None before the first report.
        cert_not_after_s: End of its certificate; None before the first report.
    """

    node: str
    service: str
    version: str
    account: str
    address: str
    sidecar_version: str
    connected: bool
    ready: bool
    registered: bool
    applied: int
    latest: int
    in_sync: bool
    rejected: tuple[RejectedResource, ...]
    lease_left_s: float | None
    held: bool
    config_age_s: float | None
    cert_not_after_s: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """Answer of `status`."""

    revision: int
    trust_domain: str
    sidecars: tuple[SidecarRow, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One thing looked at. A line that is not ok says why and what to do."""

    what: str
    ok: bool
    cause: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """A certificate of the trust domain. `kind` is `root`, `issuer`, `control-plane` or `sidecar`."""

    kind: str
    name: str
    spiffe_id: str
    not_before_s: float | None
    not_after_s: float


@dataclass(frozen=True, slots=True)
class Certificates:
    """Answer of `certs`. `bundle` is the PEM of the roots."""

    trust_domain: str
    rows: tuple[CertificateRow, ...]
    bundle: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """Answer of `rotate`: how many sidecars were asked to renew, spread over how long."""

    asked: int
    spread_s: float


@dataclass(frozen=True, slots=True)
class StatRow:
    """Golden signals of a service (`backend` empty) or of one backend of it, over the last `window_s` seconds.

    Attributes:
        service: `orders.shop`; `backend`: `orders-v1.shop:8080`, or empty for the whole service.
        rate: Requests a second.
        success: Share of requests that did not fail (no 5xx, no fault of the sidecar), 0 to 1; None without requests.
        share: Part of the service's requests that this backend took, 0 to 1; None without requests.
        p50_ms, p99_ms: Milliseconds, from histogram buckets; None without requests.
    """

    service: str
    backend: str
    rate: float
    success: float | None
    share: float | None
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """The registered endpoints of one version of a service."""

    service: str
    version: str
    endpoints: int
    ready: int


@dataclass(frozen=True, slots=True)
class EjectedRow:
    """An endpoint that at least one sidecar took out, with the nodes that did so."""

    endpoint: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """Answer of `stats`."""

    window_s: float
    rows: tuple[StatRow, ...]
    versions: tuple[VersionRow, ...]
    ejected: tuple[EjectedRow, ...]
