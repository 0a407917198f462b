"""The messages of port 15012 as typed values, both directions.

`parse(message)` turns an object from wire.FrameReader into one of these, or None for a type that this version does not
know (ignored: the peer may be newer); unknown fields are ignored likewise. `to_wire(value)` is the inverse, ready for
wire.encode. A known field of the wrong form is a WireError that names it: `push: set[3].name: ...`.

Pure; refuses nothing but form: who may say what is the caller's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sidecar.control.fields import Fields, plain
from sidecar.control.push import MAX_NAME, Push
from sidecar.control.wire import VERSION_MAX

MAX_REASON = 2_000
MAX_PEM = 256 * 1024
MAX_WANTS = 4_096


# -- from the sidecar ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """First contact: a token for an identity. The only message allowed without a client certificate."""

    token: str
    csr: str

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(token=fields.text("token", longest=4_096), csr=fields.text("csr", longest=MAX_PEM))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Who a sidecar says that it is; the control plane holds it against its certificate and token."""

    service: str
    namespace: str
    version: str = ""
    id: str
    account: str
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            service=fields.name("service"),
            namespace=fields.name("namespace"),
            version=fields.text("version", "", longest=253),
            id=fields.name("id"),
            account=fields.name("account"),
            zone=fields.text("zone", "", longest=253),
            labels=fields.texts_by_name("labels"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PortInfo:
    """A port of the app; `protocol` is one of model.Protocol's values, judged by the control plane."""

    port: int
    protocol: str = "auto"

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            port=fields.number("port", least=1, most=65_535), protocol=fields.text("protocol", "auto", longest=32)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadInfo:
    """What to register for this node.

    Attributes:
        address: Where the app listens; "" means the address that the control plane sees the stream come from.
        inbound: Port of the sidecar's mTLS listener; None: callers dial the app in plain text.
    """

    address: str = ""
    inbound: int | None = None
    ports: tuple[PortInfo, ...] = ()
    ready: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            address=fields.text("address", "", longest=253),
            inbound=fields.number_or_none("inbound", least=1, most=65_535),
            ports=tuple(PortInfo.parse(port) for port in fields.parts("ports", most=64)),
            ready=fields.flag("ready", False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of an identified sidecar: what it is, has, and wants. Answered by the difference to `have`.

    Attributes:
        instance: 16 hex digits, new per process: counters of another instance start from zero.
        have: Version by resource name, of what the sidecar serves from.
        workload: None when there is nothing to register (a pure caller).
    """

    node: Node
    version: str
    instance: str
    have: Mapping[str, int] = field(default_factory=dict)
    wants: tuple[str, ...] = ()
    workload: WorkloadInfo | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        workload = fields.part_or_none("workload")
        return cls(
            node=Node.parse(fields.part("node")),
            version=fields.text("version", longest=64),
            instance=fields.text("instance", longest=64),
            have=fields.numbers_by_name("have"),
            wants=fields.names("wants", most=MAX_WANTS),
            workload=None if workload is None else WorkloadInfo.parse(workload),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """A new certificate for the identity of this connection, please."""

    csr: str

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(csr=fields.text("csr", longest=MAX_PEM))


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Subscribe to services, `NAME.NAMESPACE`, each with all that it leads to."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(names=fields.names("names", most=MAX_WANTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwant(Want):
    """The opposite of Want."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The push of `version` is in force, but for what a Nack of the same version names."""

    version: int

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(version=fields.number("version", most=VERSION_MAX))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack:
    """One resource of the push of `version` is refused; its last good version stays in force."""

    version: int
    name: str
    reason: str

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            version=fields.number("version", most=VERSION_MAX),
            name=fields.text("name", longest=MAX_NAME),
            reason=fields.text("reason", "", longest=MAX_REASON),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Still here. The sidecar says whether its app is ready; in the other direction `ready` means nothing."""

    ready: bool = True

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(ready=fields.flag("ready", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One row of a report, cumulative since the process started; buckets in the order of LATENCY_BUCKETS_MS."""

    reporter: str
    service: str
    backend: str
    code: str
    flags: str
    requests: int
    latency_ms_sum: float
    latency_ms_buckets: tuple[int, ...] = ()
    grpc_status: str = ""

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            reporter=fields.text("reporter", longest=32),
            service=fields.text("service", "", longest=MAX_NAME),
            backend=fields.text("backend", "", longest=MAX_NAME),
            code=fields.text("code", "", longest=16),
            flags=fields.text("flags", "-", longest=64),
            requests=fields.number("requests", most=VERSION_MAX),
            latency_ms_sum=fields.decimal("latency_ms_sum", 0.0),
            latency_ms_buckets=fields.numbers("latency_ms_buckets", most_items=64),
            grpc_status=fields.text("grpc_status", "", longest=16),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a sidecar counted and how it stands; every two seconds.

    Attributes:
        ejected: `NAMESPACE/SERVICE/PORT/ENDPOINT`.
        config_version, config_age_s: The push in force and how long ago it came.
        spiffe_id, not_after_s: The certificate in use, unix seconds; "" and 0.0 without one.
    """

    instance: str
    counters: tuple[Counter, ...] = ()
    ejected: tuple[str, ...] = ()
    config_version: int = 0
    config_age_s: float = 0.0
    spiffe_id: str = ""
    not_after_s: float = 0.0

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        # On the wire `config` and `cert` are objects of their own.
        config = fields.part_or_none("config") or Fields({}, "report: config")
        cert = fields.part_or_none("cert") or Fields({}, "report: cert")
        return cls(
            instance=fields.text("instance", longest=64),
            counters=tuple(Counter.parse(row) for row in fields.parts("counters", most=50_000)),
            ejected=fields.texts("ejected", most=10_000, longest=MAX_NAME),
            config_version=config.number("version", 0, most=VERSION_MAX),
            config_age_s=config.decimal("age_s", 0.0),
            spiffe_id=cert.text("spiffe_id", "", longest=2_048),
            not_after_s=cert.decimal("not_after_s", 0.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """A clean end: the lease ends at once."""

    @classmethod
    def parse(cls, fields: Fields) -> Self:  # noqa: ARG003  every parse has the same form
        return cls()


# -- from the control plane ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cert:
    """Answer to Join and Renew: leaf and issuer, the roots to trust, and the leaf's end in unix seconds."""

    chain: str
    bundle: str
    not_after_s: float

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            chain=fields.text("chain", longest=MAX_PEM),
            bundle=fields.text("bundle", longest=MAX_PEM),
            not_after_s=fields.decimal("not_after_s"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """New roots to trust, all of them."""

    bundle: str

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(bundle=fields.text("bundle", longest=MAX_PEM))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """Please renew now, at a random moment of the next `spread_s`."""

    spread_s: float = 0.0

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(spread_s=fields.decimal("spread_s", 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Please finish what is in flight and end."""

    @classmethod
    def parse(cls, fields: Fields) -> Self:  # noqa: ARG003  every parse has the same form
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """What the sidecar did is refused. `final`: doing it again cannot help; the stream is closed after it."""

    message: str
    hint: str = ""
    final: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            message=fields.text("message", longest=MAX_REASON),
            hint=fields.text("hint", "", longest=MAX_REASON),
            final=fields.flag("final", False),
        )


FromSidecar = Join | Hello | Renew | Want | Unwant | Ack | Nack | Beat | Report | Bye
FromControlPlane = Push | Cert | Bundle | Rotate | Drain | Error | Beat
Message = FromSidecar | FromControlPlane

_KINDS: Mapping[str, Callable[[Fields], Message]] = {
    "join": Join.parse, "hello": Hello.parse, "renew": Renew.parse, "want": Want.parse, "unwant": Unwant.parse,
    "ack": Ack.parse, "nack": Nack.parse, "beat": Beat.parse, "report": Report.parse, "bye": Bye.parse,
    "push": Push.parse, "cert": Cert.parse, "bundle": Bundle.parse, "rotate": Rotate.parse, "drain": Drain.parse,
    "error": Error.parse,
}  # fmt: skip


def parse(message: Mapping[str, Any]) -> Message | None:
    """The typed message, or None for a type that is not known. Raises WireError for a known field of wrong form."""
    kind = message["type"]
    made = _KINDS.get(kind)
    return None if made is None else made(Fields(message, kind))


def to_wire(value: Message) -> dict[str, Any]:
    """The object to hand to wire.encode."""
    made = {"type": type(value).__name__.lower(), **plain(value)}
    if isinstance(value, Report):
        made["config"] = {"version": made.pop("config_version"), "age_s": made.pop("config_age_s")}
        made["cert"] = {"spiffe_id": made.pop("spiffe_id"), "not_after_s": made.pop("not_after_s")}
    return made
