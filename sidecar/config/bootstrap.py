"""The bootstrap file: text and environment -> `model/bootstrap.py`.

One function for each section; `checks` at the end looks across sections. Defaults are the model's own. Relative paths
are relative to the file. Opens nothing: `files.py` reads, and whether a certificate is there is seen at the start.
"""

from collections.abc import Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from urllib.parse import urlsplit

from sidecar.config import grammar
from sidecar.config.bootstrap_checks import check_bootstrap
from sidecar.config.capture import read_inbound, read_outbound
from sidecar.config.environment import override
from sidecar.config.grammar import shown
from sidecar.config.limits import read_limits
from sidecar.config.node import Fields, Node, Source
from sidecar.config.problems import Problems
from sidecar.config.protocols import port_protocol
from sidecar.config.workloads import version_of
from sidecar.config.yaml_text import read_yaml
from sidecar.model.bootstrap import (
    INBOUND_CAPTURE_LISTEN,
    MAX_WORKERS,
    OUTBOUND_CAPTURE_LISTEN,
    AccessLogConfig,
    AdminConfig,
    Bootstrap,
    ControlPlaneConfig,
    HostPort,
    IdentityFiles,
    InboundConfig,
    InboundPort,
    LogWhen,
    MetricsConfig,
    MtlsMode,
    NodeInfo,
    OutboundConfig,
    ProcessLimits,
    TracingConfig,
    UnixPath,
    Upstream,
)
from sidecar.model.capture import UnknownDestination
from sidecar.model.clusters import EMPTY, Protocol

_SECTIONS = (
    *("node", "control_plane", "static", "identity", "inbound", "outbound", "admin", "metrics", "tracing"),
    *("access_log", "limits", "workers", "fast_path"),
)
_UNKNOWN = NodeInfo(service="unknown", id="unknown", account="unknown")
_SOCKET_PATH_BYTES = 107  # the kernel's sun_path, without its final zero


def read_bootstrap(text: str, file: str, environment: Mapping[str, str], problems: Problems) -> tuple[Bootstrap, Node]:
    """The bootstrap in `text`, and its tree for later checks. With errors in `problems` it must not be used."""
    source = Source(file, problems)
    seen = problems.count
    documents = read_yaml(text, source)
    empty: dict[str, Node] = {}
    root = documents[0] if documents else Node(source, empty, 1, 1)
    if problems.count != seen and not documents:
        return Bootstrap(node=_UNKNOWN, source=file), root
    for extra in documents[1:]:
        extra.complain("a bootstrap file is one document; resources belong into the folder that `static` names")
    override(root, environment)
    several = root.find("workloads")
    if several is not None:
        several.complain_at_key(
            "one process serves one workload in this version: give node, identity, inbound, outbound at the top level"
        )
    bootstrap = _bootstrap(root.fields(*_SECTIONS, ignored=("workloads",)), file)
    check_bootstrap(bootstrap, root)
    return bootstrap, root


def _bootstrap(got: Fields, file: str) -> Bootstrap:
    folder = Path(file).parent
    node = got.maybe("node", _node, _UNKNOWN)
    return Bootstrap(
        node=node,
        source=file,
        control_plane=got.maybe("control_plane", lambda field: _control_plane(field, folder), None),
        static=got.maybe("static", lambda field: folder / text if (text := field.text()) else None, None),
        identity=got.maybe("identity", lambda field: _identity(field, folder), None),
        inbound=got.maybe("inbound", _inbound, None),
        outbound=got.maybe("outbound", lambda field: _outbound(field, node.namespace), OutboundConfig()),
        admin=got.maybe("admin", lambda field: _admin(field, folder), AdminConfig()),
        metrics=got.maybe("metrics", _metrics, MetricsConfig()),
        tracing=got.maybe("tracing", _tracing, None),
        access_log=got.maybe("access_log", lambda field: _access_log(field, folder), AccessLogConfig()),
        limits=got.maybe("limits", read_limits, ProcessLimits()),
        workers=got.maybe("workers", lambda field: field.integer(1, MAX_WORKERS), 1),
        fast_path=got.maybe("fast_path", Node.boolean, True),
    )


def _path(node: Node, folder: Path) -> Path:
    return folder / node.text(4096)


def _node(node: Node) -> NodeInfo:
    got = node.fields("service", "namespace", "version", "id", "account", "zone", "labels")
    service = got.need("service", "the service that this sidecar stands beside").label()
    version = version_of(got.get("version"), service)
    own_id = f"{service}-{version}" if version else service
    labels: dict[str, str] = got.maybe("labels", Node.labels, {})
    return NodeInfo(
        service=service,
        namespace=got.maybe("namespace", Node.label, _UNKNOWN.namespace),
        version=version,
        id=got.maybe("id", lambda field: field.parsed(grammar.parse_subdomain, ""), own_id),
        account=got.maybe("account", Node.label, service),
        zone=got.maybe("zone", lambda field: field.parsed(grammar.parse_label_value, ""), ""),
        labels=MappingProxyType(labels) if labels else EMPTY,
    )


def _control_plane(node: Node, folder: Path) -> ControlPlaneConfig:
    got = node.fields("address", "join_file", "cache", "report_interval")
    return ControlPlaneConfig(
        address=got.need("address", "host:port of the control plane's stream port, such as 127.0.0.1:15012").address(),
        join_file=got.maybe("join_file", lambda field: _path(field, folder), None),
        cache=got.maybe("cache", lambda field: _path(field, folder), folder / "cache"),
        report_interval_s=got.maybe("report_interval", lambda field: field.seconds(at_least=0.5), 2.0),
    )


def _identity(node: Node, folder: Path) -> IdentityFiles:
    got = node.fields("cert", "key", "bundle")
    return IdentityFiles(
        cert=_path(got.need("cert", "PEM file with the certificate chain"), folder),
        key=_path(got.need("key", "PEM file with the private key"), folder),
        bundle=_path(got.need("bundle", "PEM file with the trusted roots"), folder),
    )


def _listeners(node: Node) -> tuple[HostPort, ...]:
    """A list of addresses, or one address."""
    if isinstance(node.value, str):
        return (node.address(lowest_port=0),)
    return tuple(item.address(lowest_port=0) for item in node.items())


def _inbound(node: Node) -> InboundConfig:
    got = node.fields("listen", "mtls", "ports", "app", "capture")
    listen = got.get("listen")
    if listen is not None and listen.value == []:
        listen.complain("is an empty list; leave `inbound` out for a pure caller")
    if ("ports" in got) == ("app" in got):
        node.complain("give exactly one of: ports (a list), app (host:port, the short form for one port)")
    ports = got.maybe("ports", _inbound_ports, ()) or got.maybe("app", _short_port, ())
    capture = got.maybe("capture", read_inbound, None)
    default = InboundConfig(ports=()).listen if capture is None else INBOUND_CAPTURE_LISTEN
    return InboundConfig(
        listen=default if listen is None else _listeners(listen),
        mtls=got.maybe("mtls", lambda field: field.choice(MtlsMode), MtlsMode.STRICT),
        ports=ports,
        capture=capture,
    )


def _short_port(node: Node) -> tuple[InboundPort, ...]:
    app = node.address()
    return (InboundPort(port=app.port, app=app),)


def _inbound_ports(node: Node) -> tuple[InboundPort, ...]:
    ports: dict[int, InboundPort] = {}
    for item in node.items(at_least=1):
        seen = node.source.problems.count
        got = item.fields("port", "protocol", "app")
        number = got.need("port", "the port that callers know").port()
        if number in ports and node.source.problems.count == seen:
            item.complain(f"port {number} is declared twice")
        ports[number] = InboundPort(
            port=number,
            protocol=got.maybe("protocol", port_protocol, Protocol.AUTO),
            app=got.maybe("app", Node.address, HostPort("127.0.0.1", number)),
        )
    return tuple(ports.values())


def _outbound(node: Node, namespace: str) -> OutboundConfig:
    got = node.fields("listen", "capture", "unknown", "upstreams")
    capture = got.maybe("capture", read_outbound, None)
    default = OutboundConfig().listen if capture is None else OUTBOUND_CAPTURE_LISTEN
    return OutboundConfig(
        listen=got.maybe("listen", _listeners, default),
        capture=capture,
        unknown=got.maybe("unknown", lambda field: field.choice(UnknownDestination), OutboundConfig().unknown),
        upstreams=tuple(
            _upstream(item, namespace, captured=capture is not None) for item in got.maybe("upstreams", Node.items, [])
        ),
    )


def _upstream(node: Node, namespace: str, *, captured: bool) -> Upstream:
    got = node.fields("service", "port", "listen")
    here = (
        None
        if captured and "listen" not in got
        else got.need("listen", "the local address for the app, such as 127.0.0.1:9001")
    )
    return Upstream(
        service=got.need("service", "the service to call, such as stock.shop").service(namespace),
        port=got.need("port", "the service's port").port(),
        listen=None if here is None else here.address(lowest_port=0),
    )


def _admin(node: Node, folder: Path) -> AdminConfig:
    listen = node.fields("listen").get("listen")
    if listen is None:
        return AdminConfig()
    if isinstance(listen.value, str) and listen.value.startswith("unix:"):
        path = folder / listen.value.removeprefix("unix:")
        if len(str(path).encode("utf-8", "replace")) > _SOCKET_PATH_BYTES or not listen.text(4096):
            listen.complain(f"the path of a unix socket may have at most {_SOCKET_PATH_BYTES} bytes")
        return AdminConfig(listen=UnixPath(path))
    address = listen.address(lowest_port=0)
    if not (address.host in ("localhost", "::1") or address.host.startswith("127.")):
        listen.complain(f"{shown(listen.value)} is not on this machine only; use 127.0.0.1, [::1] or unix:PATH")
    return AdminConfig(listen=address)


def _metrics(node: Node) -> MetricsConfig:
    got = node.fields("listen")
    return MetricsConfig(listen=got.maybe("listen", lambda field: field.address(lowest_port=0), MetricsConfig().listen))


def _tracing(node: Node) -> TracingConfig:
    got = node.fields("otlp", "sample")
    collector, path = _otlp(got.need("otlp", "the collector, such as http://127.0.0.1:4318"))
    sample = got.maybe("sample", lambda field: field.number(0, 1), TracingConfig(collector=collector).sample)
    return TracingConfig(collector=collector, path=path, sample=sample)


def _otlp(node: Node) -> tuple[HostPort, str]:
    text = node.text(2048)
    try:
        url = urlsplit(text)
        if text and (url.scheme != "http" or url.query or url.fragment or "@" in url.netloc):
            raise ValueError("only plain http, without user, query and fragment, is supported")
        collector = grammar.parse_host_port(url.netloc) if text else HostPort("", 0)
    except ValueError as refusal:
        node.complain(f"{shown(text)} is not a collector such as http://127.0.0.1:4318: {refusal}")
        return HostPort("", 0), ""
    return collector, TracingConfig(collector=collector).path if url.path in ("", "/") else url.path


def _access_log(node: Node, folder: Path) -> AccessLogConfig:
    got = node.fields("path", "format", "when")
    path = got.maybe("path", lambda field: field.text(4096), "-")
    return AccessLogConfig(
        path=path if path == "-" else str(folder / PurePath(path)),
        format=got.maybe("format", lambda field: field.one_of(("json",)), "json"),
        when=got.maybe("when", lambda field: field.choice(LogWhen), LogWhen.ERRORS),
    )
