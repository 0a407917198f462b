"""TCP connections count in metrics of their own, while they live and at their end, and never as requests."""

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.model.bootstrap import LogWhen
from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.facts import Facts
from sidecar.telemetry.families import families
from sidecar.telemetry.labels import OTHER
from sidecar.telemetry.metrics import IDLE_S, Metrics
from sidecar.telemetry.observer import TCP, Observer, Observers, RequestDone, failed
from sidecar.telemetry.render import render
from tests.unit.telemetry.told import FRONTEND_ID, ORDERS_ID, done, inbound


def fresh(max_series: int = 2_000) -> Metrics:
    return Metrics(service="frontend", namespace="shop", version="v1", max_series=max_series)


def connection(**changed: Any) -> RequestDone:
    """A TCP connection that went well."""
    values: dict[str, Any] = {"protocol": TCP, "status": 0, "method": b"", "target": b"", "authority": b""}
    return done(**(values | changed))


def numbers(metrics: Metrics) -> list[tuple[int, int, int, int]]:
    return [(one.opened, one.closed, one.received_bytes, one.sent_bytes) for one in metrics.tcp()]


def test_bytes_count_while_it_lives_and_the_rest_at_its_end() -> None:
    metrics = fresh()
    metrics.tcp_opened(connection())
    metrics.tcp_progress(connection(), 100, 1_000)
    assert numbers(metrics) == [(1, 0, 100, 1_000)]

    metrics.request_done(connection(bytes_received=150, bytes_sent=1_000, tcp_told=(100, 1_000)))
    assert numbers(metrics) == [(1, 1, 150, 1_000)]
    assert metrics.values() == []
    assert metrics.totals() == []


def test_a_connection_that_got_nowhere_was_opened_and_closed_under_its_flag() -> None:
    metrics = fresh()
    metrics.request_done(connection(flags="UF", endpoint=None, attempts=3, retry_denied="attempts"))
    (series,) = metrics.tcp()
    assert series.labels.flags == "UF"
    assert numbers(metrics) == [(1, 1, 0, 80)]
    assert metrics.small["retries"]["orders.shop", "failure"] == 2


def test_an_idle_connection_that_is_told_of_keeps_its_series() -> None:
    metrics = fresh()
    metrics.tcp_opened(connection(ended_s=100))
    metrics.tcp_progress(connection(ended_s=700), 0, 0)
    metrics.expire(700 + IDLE_S)
    assert numbers(metrics) == [(1, 0, 0, 0)]
    metrics.expire(701 + IDLE_S)
    assert numbers(metrics) == []


def test_beyond_the_limit_everything_new_is_other() -> None:
    metrics = fresh(max_series=10)
    for number in range(100):
        cluster = ClusterKey(ServiceKey("shop", f"s{number}"), 80)
        metrics.tcp_opened(connection(service=cluster.service, cluster=cluster))
        metrics.tcp_progress(inbound(protocol=TCP, service=cluster.service, cluster=cluster), 1, 1)
    assert metrics.size <= 10 + 2
    assert sum(one.opened for one in metrics.tcp()) == 100
    assert {one.labels.reporter for one in metrics.tcp() if one.labels.service == OTHER} == {"source", "destination"}


def printed(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    text = b"".join(render(families(metrics, Facts(version="1"), None, 110.0), openmetrics=False)).decode()
    return {one.name: [(sample.labels, sample.value) for sample in one.samples] for one in parse_text(text)}


def test_istios_names_and_labels_are_printed() -> None:
    metrics = fresh()
    metrics.principal = FRONTEND_ID
    metrics.tcp_opened(connection())
    metrics.request_done(connection(bytes_received=7, bytes_sent=9, tcp_told=(0, 0)))
    metrics.request_done(inbound(protocol=TCP, bytes_received=70, bytes_sent=90, tcp_told=(60, 80)))
    found = printed(metrics)

    assert [value for _, value in found["istio_tcp_connections_opened"]] == [1, 0]
    assert [value for _, value in found["istio_tcp_connections_closed"]] == [1, 1]
    assert [value for _, value in found["istio_tcp_received_bytes"]] == [7, 10]
    assert [value for _, value in found["istio_tcp_sent_bytes"]] == [9, 10]
    source, destination = (labels for labels, _ in found["istio_tcp_sent_bytes"])
    assert source["destination_principal"] == ORDERS_ID
    assert source["destination_service"] == "orders-v1.shop.svc.cluster.local"
    assert source["request_protocol"] == "tcp"
    assert source["response_flags"] == "-"
    assert source["connection_security_policy"] == "mutual_tls"
    assert "response_code" not in source
    assert "grpc_response_status" not in source
    assert destination["source_principal"] == FRONTEND_ID
    assert found["istio_requests"] == []


def test_what_was_detected_is_counted_by_listener() -> None:
    metrics = fresh()
    observers = Observers((Observer(), metrics))
    for kind in ("http1", "http1", "timeout"):
        observers.protocol_detected("inbound:8080", kind)
    assert printed(metrics)["sidecar_protocol_detected"] == [
        ({"listener": "inbound:8080", "protocol": "http1"}, 2),
        ({"listener": "inbound:8080", "protocol": "timeout"}, 1),
    ]


def test_what_peers_did_and_met_is_counted() -> None:
    metrics = fresh()
    observers = Observers((metrics,))
    observers.codec_noted("rapid-reset")
    observers.limit_reached("firstRequest")
    found = printed(metrics)
    assert found["sidecar_codec_notes"] == [({"kind": "rapid-reset"}, 1)]
    assert found["sidecar_limits_reached"] == [({"limit": "firstRequest"}, 1)]


def test_observers_tell_each_of_a_connection() -> None:
    one, other = fresh(), fresh()
    observers = Observers((one, other))
    observers.tcp_opened(connection())
    observers.tcp_progress(connection(), 1, 2)
    assert numbers(one) == numbers(other) == [(1, 0, 1, 2)]


class Lines:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)


def test_a_connection_has_one_line_in_the_log() -> None:
    sink = Lines()
    log = AccessLog(sink, LogWhen.ALL, 0)
    log.tcp_opened(connection())
    log.tcp_progress(connection(), 1, 1)
    log.request_done(connection(ended_s=160.0, bytes_received=7, bytes_sent=9, flags="UR", details="reset"))
    (line,) = map(json.loads, sink.lines)

    assert line["protocol"] == "TCP"
    assert line["duration_ms"] == 60_000
    assert (line["bytes_received"], line["bytes_sent"], line["response_flags"]) == (7, 9, "UR")
    assert line["upstream_cluster"] == "orders-v1.shop:8080"


def test_only_a_flag_makes_a_connection_an_error() -> None:
    assert not failed(connection())
    assert failed(connection(flags="UR"))
