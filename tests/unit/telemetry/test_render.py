"""What `/metrics` prints is read by Prometheus' own tools, and says what was counted."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.policy.outlier import Ejected, Why
from sidecar.telemetry.facts import Facts, ProcessStats
from sidecar.telemetry.families import families, stats
from sidecar.telemetry.metrics import Histogram, Metrics
from sidecar.telemetry.observer import PeerRefused
from sidecar.telemetry.render import Family, Histograms, Scalars, label_text, render, wants_openmetrics
from tests.support import needs
from tests.unit.telemetry.told import FRONTEND_ID, ORDERS, ORDERS_1, ORDERS_ID, ORDERS_V1, done, inbound

parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_families  # it carries no types itself

PROCESS = ProcessStats(
    cpu_s=1.5, resident_bytes=26_000_000, virtual_bytes=90_000_000, open_fds=12, max_fds=1024, started_unix_s=1.79e9
)
FACTS = Facts(
    version="0.1.0",
    config_version=7,
    config_age_s=0.25,
    config_rejected=1,
    cert_not_after_s=1.8e9,
    log_dropped=2,
    spans_exported=3,
    spans_dropped=4,
    upstream_connections=[("orders-v1.shop", "idle", 5)],
    loop_lag_s=0.0001,
)


def busy() -> Metrics:
    """A sidecar of `frontend` that has seen one of everything."""
    metrics = Metrics(service="frontend", namespace="shop", version="v1")
    metrics.principal = FRONTEND_ID
    metrics.request_done(done(attempts=2, bytes_received=500))
    metrics.request_done(done(cluster=ClusterKey(ORDERS, 9090), endpoint=None, status=503, flags="UH", principal=""))
    metrics.request_done(done(service=None, cluster=None, endpoint=None, status=404, flags="NR", tls=False))
    metrics.request_done(inbound(status=403, flags="RBAC", retry_denied="policy"))
    metrics.ejected(Ejected(ORDERS_V1, "orders-1", 200.0, 5.0, 5, shadow=False, why=Why.FAILURES))
    metrics.downstream_opened("inbound")
    metrics.upstream_dialled(ORDERS_V1, "ok")
    metrics.shadowed("AuthorizationPolicy", ORDERS, "deny")
    metrics.peer_refused(
        PeerRefused(at_s=1.0, reporter="source", peer="a", principal="", reason="wrong-identity", details="d")
    )
    return metrics


def page(metrics: Metrics, *, openmetrics: bool) -> str:
    return b"".join(render(families(metrics, FACTS, PROCESS, 110.0), openmetrics=openmetrics)).decode()


def samples(parsed: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in parsed:
        for sample in family.samples:
            labels = {name: str(float(value)) if name == "le" else value for name, value in sample.labels.items()}
            key = (sample.name, frozenset(labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def test_both_forms_parse_and_say_the_same() -> None:
    metrics = busy()
    text = samples(parse_text(page(metrics, openmetrics=False)))
    opened = samples(parse_openmetrics(page(metrics, openmetrics=True)))
    assert text == opened
    assert ("sidecar_retries_total", frozenset({("service", "orders.shop"), ("result", "success")})) in text
    assert text["process_resident_memory_bytes", frozenset()] == 26_000_000


def test_openmetrics_ends_with_eof_and_text_does_not() -> None:
    assert page(busy(), openmetrics=True).endswith("\n# EOF\n")
    assert "# EOF" not in page(busy(), openmetrics=False)
    assert "_created" not in page(busy(), openmetrics=True)


@pytest.mark.needs("promtool")
def test_promtool_complains_of_istios_unit_only() -> None:
    promtool = needs.find("promtool")
    assert promtool is not None
    text = page(busy(), openmetrics=False)
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=20)
    lines = [line for line in (checked.stdout + checked.stderr).splitlines() if line]
    assert lines == ['istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"']


def requests(metrics: Metrics) -> list[dict[str, str]]:
    family = next(one for one in parse_text(page(metrics, openmetrics=False)) if one.name == "istio_requests")
    return [sample.labels for sample in family.samples]


def test_labels_at_the_source() -> None:
    labels = requests(busy())[0]
    assert labels == {
        "reporter": "source",
        "source_workload": "frontend-v1",
        "source_workload_namespace": "shop",
        "source_principal": FRONTEND_ID,
        "source_app": "frontend",
        "source_version": "v1",
        "source_canonical_service": "frontend",
        "source_canonical_revision": "v1",
        "source_cluster": "unknown",
        "destination_workload": "orders-v1",
        "destination_workload_namespace": "shop",
        "destination_principal": ORDERS_ID,
        "destination_app": "orders",
        "destination_version": "v1",
        "destination_canonical_service": "orders",
        "destination_canonical_revision": "v1",
        "destination_cluster": "unknown",
        "destination_service": "orders-v1.shop.svc.cluster.local",
        "destination_service_name": "orders-v1",
        "destination_service_namespace": "shop",
        "destination_port": "8080",
        "requested_service": "orders.shop",
        "request_protocol": "http",
        "response_code": "200",
        "response_flags": "-",
        "grpc_response_status": "",
        "connection_security_policy": "mutual_tls",
    }


def test_calls_of_grpc_say_so_and_how_they_ended() -> None:
    metrics = busy()
    metrics.request_done(done(grpc_status="14"))
    labels = requests(metrics)[-1]
    assert (labels["request_protocol"], labels["grpc_response_status"], labels["response_code"]) == (
        "grpc",
        "14",
        "200",
    )


def test_labels_without_a_route_are_unknown() -> None:
    labels = requests(busy())[2]
    assert labels["destination_service"] == labels["destination_workload"] == labels["requested_service"] == "unknown"
    assert labels["connection_security_policy"] == "none"


def test_labels_at_the_destination_tell_the_caller_by_its_identity_alone() -> None:
    labels = requests(busy())[3]
    assert labels["reporter"] == "destination"
    assert labels["source_principal"] == FRONTEND_ID
    assert labels["source_workload_namespace"] == "shop"
    assert labels["source_workload"] == labels["source_app"] == "unknown"
    assert labels["destination_workload"] == "frontend-v1"


def test_a_new_identity_shows_in_series_printed_before() -> None:
    metrics = busy()
    requests(metrics)
    metrics.principal = "spiffe://mesh.local/ns/shop/sa/other"
    assert requests(metrics)[0]["source_principal"] == "spiffe://mesh.local/ns/shop/sa/other"


def test_series_under_other_say_so() -> None:
    metrics = Metrics(service="frontend", namespace="shop", max_series=0)
    metrics.request_done(done())
    labels = requests(metrics)[0]
    assert labels["destination_service"] == labels["requested_service"] == labels["response_flags"] == "other"
    assert labels["response_code"] == "2xx"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_any_label_value_survives_printing(values: list[str]) -> None:
    names = ["a", "b", "c"][: len(values)]
    text = b"".join(
        render([Scalars("x_total", "counter", "X.", [(label_text(names, values), 1)])], openmetrics=False)
    ).decode()
    (family,) = parse_text(text)
    assert family.samples[0].labels == dict(zip(names, values, strict=True))


@given(st.floats(allow_nan=False))
def test_any_number_survives_printing(value: float) -> None:
    text = b"".join(render([Scalars("x", "gauge", "X.", [("", value)])], openmetrics=True)).decode()
    (family,) = parse_openmetrics(text)
    assert family.samples[0].value == value


def test_histogram_without_labels_and_not_a_number() -> None:
    histogram = Histogram((1.0, 2e6))
    histogram.observe(5.0)
    two: list[Family] = [
        Histograms("h", "H.", (1.0, 2e6), [("", histogram)]),
        Scalars("n", "gauge", "N.", [("", float("nan"))]),
    ]
    text = b"".join(render(two, openmetrics=False)).decode()
    assert text.splitlines()[2:] == [
        'h_bucket{le="1.0"} 0', 'h_bucket{le="2e+06"} 1', 'h_bucket{le="+Inf"} 1', "h_sum 5.0", "h_count 1",
        "# HELP n N.", "# TYPE n gauge", "n NaN",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (None, False),
        (b"*/*", False),
        (b"text/plain;version=0.0.4", False),
        (b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3", True),
    ],
)
def test_openmetrics_is_given_to_whoever_asks(accept: bytes | None, answer: bool) -> None:
    assert wants_openmetrics(accept) is answer


def test_big_page_comes_in_blocks_in_linear_time() -> None:
    metrics = Metrics(service="frontend", namespace="shop")
    for number in range(1_000):
        cluster = ClusterKey(ServiceKey("shop", f"s{number}"), 80)
        metrics.request_done(done(service=cluster.service, cluster=cluster, endpoint=ORDERS_1))
    started_s = time.process_time()
    blocks = list(render(families(metrics, FACTS, PROCESS, 110.0), openmetrics=False))
    took_s = time.process_time() - started_s
    assert max(map(len, blocks)) < 100_000
    # 0.02 s on an idle core; ten times that still tells it from a renderer with an object per sample.
    assert took_s < 0.2


def test_stats_is_json_with_the_reports_rows() -> None:
    shown = json.loads(json.dumps(stats(busy(), FACTS, None, 110.0)))
    assert [row["requests"] for row in shown["requests"]] == [1, 1, 1, 1]
    assert shown["values"]["sidecar_ejected_endpoints"] == [{"labels": {"service": "orders-v1.shop"}, "value": 1}]
    assert shown["values"]["sidecar_config_version"] == [{"labels": {}, "value": 7}]
    assert "process_open_fds" not in shown["values"]


def test_no_certificate_no_expiry() -> None:
    text = b"".join(render(families(busy(), Facts(version="0"), None, 110.0), openmetrics=False)).decode()
    assert "sidecar_cert_expiry" not in text
    assert "sidecar_loop_lag" not in text
