"""Counts on their way from a worker process to the holder's metrics, as values that JSON can carry.

What travels is what was added since the last time: the holder adds it to its own, so that nothing it shows goes down
when a worker dies, and a new worker begins at zero. Gauges are the owner's business: only it knows who is alive.
Times are each process's own; what travels are seconds from now. Pure.
"""

from dataclasses import astuple
from typing import Any

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.telemetry.labels import Labels
from sidecar.telemetry.metrics import Metrics

Parcel = dict[str, Any]


def take(metrics: Metrics, since_s: float, now_s: float) -> Parcel:
    """What was counted since the last `take`, which was at `since_s`. The counters begin anew; their series stay."""
    requests = []
    for series in metrics.values():
        if series.requests or series.last_s > since_s:
            parts = (series.duration_ms, series.received, series.sent)
            requests.append((_plain(series.labels), [part.take() for part in parts]))
    connections = []
    for tcp in metrics.tcp():
        counts = (tcp.opened, tcp.closed, tcp.received_bytes, tcp.sent_bytes)
        if any(counts) or tcp.last_s > since_s:
            connections.append((_plain(tcp.labels), counts))
            tcp.opened = tcp.closed = tcp.received_bytes = tcp.sent_bytes = 0
    small = {name: list(counter.items()) for name, counter in metrics.small.items() if counter}
    for counter in metrics.small.values():
        counter.clear()
    return {"requests": requests, "tcp": connections, "small": small, "ejected": metrics.ejected_for(now_s)}


def add(metrics: Metrics, parcel: Parcel, now_s: float) -> None:
    """Add what another process took."""
    for labels, parts in parcel["requests"]:
        series = metrics.of(_labels(labels), now_s)
        for part, (counts, total) in zip((series.duration_ms, series.received, series.sent), parts, strict=True):
            part.put(counts, total)
        series.last_s = now_s
    for labels, (opened, closed, received_bytes, sent_bytes) in parcel["tcp"]:
        tcp = metrics.tcp_of(_labels(labels), now_s)
        tcp.opened += opened
        tcp.closed += closed
        tcp.received_bytes += received_bytes
        tcp.sent_bytes += sent_bytes
    for name, rows in parcel["small"].items():
        for values, count in rows:
            metrics.count(name, tuple(values), count)
    for (service, port), endpoint, left_s in parcel["ejected"]:
        metrics.hold_ejected(ClusterKey(ServiceKey(*service), port), endpoint, now_s + left_s)


def _plain(labels: Labels) -> tuple[object, ...]:
    return astuple(labels)


def _labels(plain: list[Any]) -> Labels:
    values: list[Any] = [ServiceKey(*value) if isinstance(value, list | tuple) else value for value in plain]
    return Labels(*values)
