"""What one sidecar process is told at its start: who it is, where it listens, where its configuration comes from.

Made by `config/bootstrap.py` from a file and the environment, or by `app` from flags; read once by `app`.
Frozen; every default stands here with its reason. Nothing here can change while the process runs: what can, is a
resource of the snapshot. Times are in seconds; paths are ready to open (relative ones are joined to the file's folder).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from sidecar.model.capture import InboundCapture, OutboundCapture, UnknownDestination
from sidecar.model.clusters import EMPTY, Protocol, ServiceKey


class HostPort(NamedTuple):
    """An address to listen on or to dial; printed as users write it, IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


MAX_WORKERS = 64  # one for each core of a big machine; each costs memory of its own

# The ports of the product: Istio's numbers, so that firewalls and habits carry over.
INBOUND_LISTEN = HostPort("0.0.0.0", 15006)  # noqa: S104 - peers are on other machines
OUTBOUND_LISTEN = HostPort("127.0.0.1", 15001)
# With transparent capture both families are heard: where the kernel's redirection lands (`config/capture.py: landing`).
INBOUND_CAPTURE_LISTEN = (INBOUND_LISTEN, HostPort("::", 15006))
OUTBOUND_CAPTURE_LISTEN = (OUTBOUND_LISTEN, HostPort("::1", 15001))
ADMIN_LISTEN = HostPort("127.0.0.1", 15000)
METRICS_LISTEN = HostPort("0.0.0.0", 15020)  # noqa: S104 - scrapers are on other machines


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A unix socket; written `unix:/run/mesh/admin.sock`."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


class MtlsMode(StrEnum):
    """What the inbound listener accepts."""

    STRICT = "strict"  # mutual TLS only
    PERMISSIVE = "permissive"  # plain text too, so that a mesh can be entered service by service
    OFF = "off"  # plain text only


class LogWhen(StrEnum):
    """Which requests get a line in the access log."""

    NEVER = "never"
    ERRORS = "errors"  # a flag is set, or the status is 500 or more
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """Who this sidecar is.

    Attributes:
        service: The service it stands beside; a pure caller names itself here too.
        version: Version of the service; makes the Service `SERVICE-VERSION` beside `SERVICE`.
        id: Unique among the workloads of the namespace. Default: `SERVICE-VERSION`, or `SERVICE` without a version.
        account: The identity's last part, `spiffe://.../ns/NAMESPACE/sa/ACCOUNT`. Default: the service's name.
    """

    service: str
    namespace: str = "default"  # Kubernetes' own default
    version: str = ""
    id: str
    account: str
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY, hash=False)

    @property
    def key(self) -> ServiceKey:
        """The full name of the service."""
        return ServiceKey(self.namespace, self.service)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneConfig:
    """Where configuration and identity come from.

    Attributes:
        join_file: Root certificate and token for the first contact; None when identity files are given instead.
        cache: Folder of the last good resources and the identity, so that a restart needs no control plane.
    """

    address: HostPort
    join_file: Path | None = None
    cache: Path
    report_interval_s: float = 2.0  # what the canary judge and `meshctl stat` can see at best


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFiles:
    """An X.509-SVID kept by somebody else; all PEM."""

    cert: Path
    key: Path
    bundle: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """A declared port of the app and where the app really listens."""

    port: int
    protocol: Protocol = Protocol.AUTO
    app: HostPort


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundConfig:
    """The side that callers reach; `ports` are all that can be reached through it.

    Attributes:
        capture: Set when connections to the app's own ports may be redirected here.
    """

    listen: tuple[HostPort, ...] = (INBOUND_LISTEN,)
    mtls: MtlsMode = MtlsMode.STRICT  # plain text must be asked for
    ports: tuple[InboundPort, ...]
    capture: InboundCapture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A port of a service that the app calls.

    Attributes:
        listen: A local listener that the app dials instead of the service; None, with transparent capture, only says
            that the service is called: its addresses are then known before the first call.
    """

    service: ServiceKey
    port: int
    listen: HostPort | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundConfig:
    """The side that the app calls through. `listen` is the explicit proxy by `Host`; empty switches it off.

    Attributes:
        capture: Set when connections of the app to any address may be redirected here.
        unknown: What becomes of those to an address of no known service. Passing them is the default, as in Istio: a
            sidecar put beside a running service must not cut it off from its database.
    """

    listen: tuple[HostPort, ...] = (OUTBOUND_LISTEN,)
    capture: OutboundCapture | None = None
    unknown: UnknownDestination = UnknownDestination.PASS
    upstreams: tuple[Upstream, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """Loopback or a unix socket only: `/quit` and `/tap` are for whoever is on the machine."""

    listen: HostPort | UnixPath = ADMIN_LISTEN


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Open to scrapers; shows numbers only."""

    listen: HostPort = METRICS_LISTEN


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """Where spans go: OTLP over plain HTTP, to a collector nearby.

    Attributes:
        path: Path of the traces endpoint; `/v1/traces` is OTLP's.
        sample: Share of new traces that are kept, 0.0 to 1.0; a caller's own decision is always obeyed.
    """

    collector: HostPort
    path: str = "/v1/traces"
    sample: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogConfig:
    """`path` `-` is standard output."""

    path: str = "-"
    format: str = "json"
    when: LogWhen = LogWhen.ERRORS  # a line for each request costs more than proxying it


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Bounds of the process and of each connection to it, so that no peer can take what others need.

    A connection that one of them ends counts in `sidecar_limits_reached_total{limit}`, under the setting's name; a
    request that one of them ends shows its flag besides. Zero switches off those that say so. What is not a setting,
    because other parts rest on it: a head has at most 100 fields and 60 KiB (431 DPE, codec/grammar.py), a connection
    buffers at most 64 KiB each way and as much ahead of its turn (transport/stream.py), 64 KiB of each HTTP/2 stream.

    Attributes:
        connections: Clients at once, all listeners; more wait in the kernel's backlog. Each may need a connection to an
            endpoint too, so the process also stays below half of its descriptor limit, and says so when that is less.
        head_timeout_s: For a whole request head from its first byte, 408 DPE. One that trickles in for longer is an
            attack; NGINX gives 60.
        first_request_s: For the first byte on a new connection. Who connects and says nothing holds a place for
            nothing; browsers connect ahead of need, and give up within a minute themselves.
        idle_s: Between requests on a kept connection. Long, because only the client knows when it needs it next;
            Envoy's.
        body_idle_s: A request body without one byte, 408 DPE; also the grace that `body_min_bytes_per_s` gives.
        body_min_bytes_per_s: Slowest request body, 408 DPE, while we wait for the client; 0: off. 1 KiB/s is below any
            modem, and bounds what a connection can hold up by sending one byte now and then.
        write_progress_s: A client that takes no byte of its answer, DC. As long as a mobile phone may be in a tunnel.
        tunnel_idle_s: Bytes in neither direction of a tunnel that no route's policy speaks for; 0: off. Envoy's for
            TCP.
        detect_s: For what a client speaks to show, where no protocol is declared. Then it is taken for a protocol in
            which the server speaks first, and its endpoint has been dialled meanwhile.
        connection_age_s: Of a mutual TLS connection to us, give or take a tenth; then it ends in order (GOAWAY,
            `Connection: close`). 0: off. Bounds how long an identity that was withdrawn or renewed stays in use.
        http2_streams: Requests at once on one HTTP/2 connection; RFC 9113 section 6.5.2 recommends no fewer.
        http2_ping_s: Silence on an HTTP/2 connection with streams open before we ask whether its peer is there; 0: off.
        http2_ping_timeout_s: For the answer. Then the connection is closed.
        drain_delay_s: Time for callers to hear that this endpoint leaves, before it stops accepting.
        drain_timeout_s: Then requests under way may end; Kubernetes kills after 30 s by default.
    """

    connections: int = 10_000
    head_timeout_s: float = 10.0
    first_request_s: float = 60.0
    idle_s: float = 3600.0
    body_idle_s: float = 30.0
    body_min_bytes_per_s: int = 1024
    write_progress_s: float = 30.0
    tunnel_idle_s: float = 3600.0
    detect_s: float = 0.2
    connection_age_s: float = 3600.0
    http2_streams: int = 100
    http2_ping_s: float = 30.0
    http2_ping_timeout_s: float = 10.0
    drain_delay_s: float = 5.0
    drain_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """A whole bootstrap file. Exactly one of `control_plane` and `static` is set when it came from a file.

    Attributes:
        source: The file's path as the user gave it; "" when made from flags.
        static: Folder of resources, when there is no control plane.
        inbound: None for a pure caller.
        tracing: None records no spans; trace headers are passed on all the same.
        workers: Processes that serve traffic. One is enough for about one core; with more, every limit, budget and
            ejection holds for each of them, not for all together.
        take_over: Listen beside the process that has these addresses now and is to end. A flag's, never a file's.
        fast_path: False sends every request along the full path; to find out which one is at fault.
    """

    node: NodeInfo
    source: str = ""
    control_plane: ControlPlaneConfig | None = None
    static: Path | None = None
    identity: IdentityFiles | None = None
    inbound: InboundConfig | None = None
    outbound: OutboundConfig = field(default_factory=OutboundConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    tracing: TracingConfig | None = None
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    workers: int = 1
    take_over: bool = False
    fast_path: bool = True
