"""What `/metrics` and `/stats` show: names, labels and help of every metric, read from `Metrics` and `Facts`.

Traffic carries Istio's standard names and labels, so that dashboards and canary tools made for them work unchanged;
`requested_service` and `destination_port` are added, because a route may lead elsewhere than the caller asked.
Everything else is ours: `sidecar_*` in base units, and the usual `process_*`. Pure; the text is made by `render.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from sidecar.model.clusters import ServiceKey
from sidecar.telemetry.facts import Facts, ProcessStats
from sidecar.telemetry.labels import OTHER, UNKNOWN, Labels
from sidecar.telemetry.metrics import LATENCY_BUCKETS_MS, SIZE_BUCKETS_BYTES, Metrics, Series
from sidecar.telemetry.observer import DESTINATION, SOURCE
from sidecar.telemetry.render import Family, Histograms, Scalars, label_text
from sidecar.telemetry.tcp import TcpSeries

# What Istio prints after the service's name; canary tools match on the whole of it.
SERVICE_DOMAIN = "svc.cluster.local"

_SIDE = ("workload", "workload_namespace", "principal", "app", "version", "canonical_service", "canonical_revision",
         "cluster")  # fmt: skip
_OWN_SOURCE = ("reporter", *(f"source_{name}" for name in _SIDE))
_OWN_DESTINATION = ("reporter", *(f"destination_{name}" for name in _SIDE))
_ASKED = ("destination_service", "destination_service_name", "destination_service_namespace", "destination_port",
          "requested_service", "request_protocol")  # fmt: skip
_REQUEST = (*_ASKED, "response_code", "response_flags", "grpc_response_status", "connection_security_policy")
_CONNECTION = (*_ASKED, "response_flags", "connection_security_policy")
_FAR_SIDE = {
    SOURCE: tuple(f"destination_{name}" for name in _SIDE),
    DESTINATION: tuple(f"source_{name}" for name in _SIDE),
}


# Our own metrics: (kind, labels, help).
_TABLE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "sidecar_build_info": ("gauge", ("version",), "Always 1; the label says which version runs."),
    "sidecar_config_version": ("gauge", (), "Revision of the newest configuration applied."),
    "sidecar_config_age_seconds": ("gauge", (), "Since the configuration was last known to be current."),
    "sidecar_config_rejected_total": ("counter", (), "Resources refused; the last good one stays."),
    "sidecar_config_reloads_total": ("counter", ("result",), "Times that the static folder was read again."),
    "sidecar_cert_expiry_timestamp_seconds": ("gauge", (), "When the workload's certificate ends, Unix time."),
    "sidecar_retries_total": ("counter", ("service", "result"), "Tries after the first, by how the request ended."),
    "sidecar_retries_refused_total": ("counter", ("service", "reason"), "Failed tries that no further one followed."),
    "sidecar_ejections_total": (
        "counter", ("service", "mode", "reason"), "Endpoints taken out, or in shadow would have been."),
    "sidecar_ejected_endpoints": ("gauge", ("service",), "Endpoints that take no new requests because they failed."),
    "sidecar_upstream_dials_total": ("counter", ("service", "result"), "Connections dialled, by result."),
    "sidecar_upstream_connections": ("gauge", ("service", "state"), "Connections to endpoints, in use or kept idle."),
    "sidecar_downstream_connections": ("gauge", ("listener",), "Client connections open now."),
    "sidecar_downstream_connections_opened_total": ("counter", ("listener",), "Client connections accepted."),
    "sidecar_peers_refused_total": ("counter", ("reporter", "reason"), "Connections closed for who the peer is."),
    "sidecar_protocol_detected_total": (
        "counter", ("listener", "protocol"), "Connections to ports without a declared protocol, by what they spoke."
    ),
    "sidecar_limits_reached_total": ("counter", ("limit",), "Connections that a limit ended or made wait."),
    "sidecar_requests_by_path_total": (
        "counter", ("path", "why"), "Requests by the path that served them, and why not the fast one."
    ),
    "sidecar_codec_notes_total": ("counter", ("kind",), "What peers did that a codec refused or counted."),
    "sidecar_shadow_decisions_total": (
        "counter", ("service", "policy", "decision"), "What policies in mode shadow would have done."
    ),
    "sidecar_metric_series": ("gauge", (), "Sets of labels that requests are counted under."),
    "sidecar_log_dropped_total": ("counter", (), "Log lines dropped because nobody took them in time."),
    "sidecar_spans_exported_total": ("counter", (), "Spans that the collector took."),
    "sidecar_spans_dropped_total": ("counter", (), "Spans that did not reach the collector."),
    "sidecar_workers": ("gauge", (), "Worker processes that serve."),
    "sidecar_worker_restarts_total": ("counter", (), "Times that a worker process ended and was started again."),
    "sidecar_loop_lag_seconds": ("gauge", (), "How late the event loop last ran."),
    "process_cpu_seconds_total": ("counter", (), "CPU time used, user and system."),
    "process_resident_memory_bytes": ("gauge", (), "Memory in RAM."),
    "process_virtual_memory_bytes": ("gauge", (), "Address space."),
    "process_open_fds": ("gauge", (), "Open file descriptors."),
    "process_max_fds": ("gauge", (), "Limit of open file descriptors."),
    "process_start_time_seconds": ("gauge", (), "When the process started, Unix time."),
}  # fmt: skip

_TCP: tuple[tuple[str, str, Callable[[TcpSeries], int]], ...] = (
    ("istio_tcp_connections_opened_total", "TCP connections opened.", lambda series: series.opened),
    ("istio_tcp_connections_closed_total", "TCP connections closed.", lambda series: series.closed),
    ("istio_tcp_received_bytes_total", "Bytes from clients of TCP connections.", lambda series: series.received_bytes),
    ("istio_tcp_sent_bytes_total", "Bytes to clients of TCP connections.", lambda series: series.sent_bytes),
)

_Rows = list[tuple[tuple[str, ...], float]]  # (label values in the order of the table, value)


def families(metrics: Metrics, facts: Facts, process: ProcessStats | None, now_s: float) -> Iterator[Family]:
    """All families to render. Expires idle series first; monotonic seconds."""
    metrics.expire(now_s)
    rows = _series_rows(metrics)
    requests = ((text, series.requests) for text, series in rows)
    yield Scalars("istio_requests_total", "counter", "Requests, by who called whom and how it ended.", requests)
    took = ((text, series.duration_ms) for text, series in rows)
    yield Histograms("istio_request_duration_milliseconds", "From request head to last byte.", LATENCY_BUCKETS_MS, took)
    received = ((text, series.received) for text, series in rows)
    yield Histograms("istio_request_bytes", "Sizes of request bodies.", SIZE_BUCKETS_BYTES, received)
    sent = ((text, series.sent) for text, series in rows)
    yield Histograms("istio_response_bytes", "Sizes of response bodies.", SIZE_BUCKETS_BYTES, sent)
    tcp = _tcp_rows(metrics)
    for name, help_text, read in _TCP:
        yield Scalars(name, "counter", help_text, ((text, read(series)) for text, series in tcp))
    values = own_values(metrics, facts, process, now_s)
    for name, (kind, labels, help_text) in _TABLE.items():
        if name in values:
            yield Scalars(name, kind, help_text, [(label_text(labels, of), value) for of, value in values[name]])


def stats(metrics: Metrics, facts: Facts, process: ProcessStats | None, now_s: float) -> dict[str, object]:
    """The same as JSON for `/stats`: `requests` as the report has them, and `values` by metric name."""
    metrics.expire(now_s)
    return {
        "requests": [total.row() for total in metrics.totals()],
        "values": {
            name: [{"labels": dict(zip(_TABLE[name][1], of, strict=True)), "value": value} for of, value in rows]
            for name, rows in own_values(metrics, facts, process, now_s).items()
        },
    }


def own_values(metrics: Metrics, facts: Facts, process: ProcessStats | None, now_s: float) -> dict[str, _Rows]:
    """Our own metrics by name. What does not apply (no certificate, no /proc) is left out."""
    small = metrics.small
    ejected = Counter(str(cluster.service) for cluster, _ in metrics.ejected_now(now_s))
    values: dict[str, _Rows] = {
        "sidecar_build_info": [((facts.version,), 1)],
        "sidecar_config_reloads_total": [((result,), count) for result, count in facts.config_reloads],
        "sidecar_retries_total": list(small["retries"].items()),
        "sidecar_retries_refused_total": list(small["retries_refused"].items()),
        "sidecar_ejections_total": list(small["ejections"].items()),
        "sidecar_ejected_endpoints": [((service,), count) for service, count in ejected.items()],
        "sidecar_upstream_dials_total": list(small["dials"].items()),
        "sidecar_upstream_connections": [((service, state), n) for service, state, n in facts.upstream_connections],
        "sidecar_downstream_connections": [((listener,), count) for listener, count in metrics.downstream.items()],
        "sidecar_downstream_connections_opened_total": list(small["opened"].items()),
        "sidecar_peers_refused_total": list(small["peers_refused"].items()),
        "sidecar_protocol_detected_total": list(small["detected"].items()),
        "sidecar_limits_reached_total": list(small["limits"].items()),
        "sidecar_requests_by_path_total": list(small["paths"].items()),
        "sidecar_codec_notes_total": list(small["codec_notes"].items()),
        "sidecar_shadow_decisions_total": list(small["shadowed"].items()),
    }
    single: dict[str, float | None] = {
        "sidecar_config_version": facts.config_version,
        "sidecar_config_age_seconds": facts.config_age_s,
        "sidecar_config_rejected_total": facts.config_rejected,
        "sidecar_cert_expiry_timestamp_seconds": facts.cert_not_after_s,
        "sidecar_metric_series": metrics.size,
        "sidecar_log_dropped_total": facts.log_dropped,
        "sidecar_spans_exported_total": facts.spans_exported,
        "sidecar_spans_dropped_total": facts.spans_dropped,
        "sidecar_workers": facts.workers,
        "sidecar_worker_restarts_total": facts.worker_restarts,
        "sidecar_loop_lag_seconds": facts.loop_lag_s,
    }
    if process is not None:
        single |= {
            "process_cpu_seconds_total": process.cpu_s,
            "process_resident_memory_bytes": process.resident_bytes,
            "process_virtual_memory_bytes": process.virtual_bytes,
            "process_open_fds": process.open_fds,
            "process_max_fds": process.max_fds,
            "process_start_time_seconds": process.started_unix_s,
        }
    return values | {name: [((), value)] for name, value in single.items() if value is not None}


# --- Istio's labels ---------------------------------------------------------------------------------------------------


def _series_rows(metrics: Metrics) -> list[tuple[str, Series]]:
    """(printed labels, series) of every series. What a series says of itself is printed once and kept."""
    own_of = _own_labels(metrics)
    rows = []
    for series in metrics.values():
        if not series.text:
            series.text = _text(series.labels, _REQUEST, _request(series.labels))
        rows.append((own_of[series.labels.reporter] + series.text, series))
    return rows


def _tcp_rows(metrics: Metrics) -> list[tuple[str, TcpSeries]]:
    """The same of TCP connections."""
    own_of = _own_labels(metrics)
    rows = []
    for series in metrics.tcp():
        if not series.text:
            series.text = _text(series.labels, _CONNECTION, _connection(series.labels))
        rows.append((own_of[series.labels.reporter] + series.text, series))
    return rows


def _own_labels(metrics: Metrics) -> dict[str, str]:
    """What each reporter says of this workload itself, with a comma after it."""
    own_workload = _side(ServiceKey(metrics.namespace, metrics.service), metrics.version, metrics.principal)
    return {
        reporter: label_text(names, (reporter, *own_workload)) + ","
        for reporter, names in ((SOURCE, _OWN_SOURCE), (DESTINATION, _OWN_DESTINATION))
    }


def _text(labels: Labels, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Printed labels of the far side, then `names` with their `values`."""
    if labels.reporter == SOURCE:
        side = _side(labels.workload, labels.workload_version, labels.principal)
    else:
        # Of a caller only its verified identity is known; its namespace is a part of that.
        caller = _side(None, "", labels.principal)
        side = (caller[0], _namespace_of(labels.principal), *caller[2:])
    return label_text((*_FAR_SIDE[labels.reporter], *names), (*side, *values))


def _side(workload: ServiceKey | None, version: str, principal: str) -> tuple[str, ...]:
    """Values of `_SIDE`. The workload is named like the Service of its version: `orders-v1`."""
    if workload is None or not workload.name:
        return (UNKNOWN, UNKNOWN, principal or UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    name = f"{workload.name}-{version}" if version else workload.name
    known = version or UNKNOWN
    return (name, workload.namespace, principal or UNKNOWN, workload.name, known, workload.name, known, UNKNOWN)


def _request(labels: Labels) -> tuple[str, ...]:
    """Values of `_REQUEST`."""
    protocol = "grpc" if labels.grpc_status else "http"
    return (*_asked(labels), protocol, labels.code, labels.flags, labels.grpc_status, _security(labels))


def _connection(labels: Labels) -> tuple[str, ...]:
    """Values of `_CONNECTION`."""
    return (*_asked(labels), "tcp", labels.flags, _security(labels))


def _asked(labels: Labels) -> tuple[str, ...]:
    """Values of `_ASKED` but for the protocol."""
    service = labels.backend_service
    if service is not None:
        named = (f"{service.name}.{service.namespace}.{SERVICE_DOMAIN}", service.name, service.namespace)
    else:
        named = (OTHER,) * 3 if labels.service == OTHER else (UNKNOWN,) * 3
    port = labels.backend.rpartition(":")[2] if ":" in labels.backend else UNKNOWN
    return (*named, port, labels.service or UNKNOWN)


def _security(labels: Labels) -> str:
    return "mutual_tls" if labels.tls else "none"


def _namespace_of(principal: str) -> str:
    """`shop` of `spiffe://mesh.local/ns/shop/sa/frontend`."""
    parts = principal.split("/")
    return parts[4] if len(parts) == 7 and parts[3] == "ns" else UNKNOWN
