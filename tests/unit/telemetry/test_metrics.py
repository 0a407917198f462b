"""Metrics count requests under bounded labels, forget idle ones, and never let the report's sums go down."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.policy.outlier import Ejected, Why
from sidecar.telemetry.labels import OTHER
from sidecar.telemetry.metrics import (
    IDLE_S,
    LATENCY_BUCKETS_MS,
    Histogram,
    Metrics,
    by_reporter,
)
from sidecar.telemetry.observer import DESTINATION, SOURCE, Observers, PeerRefused
from tests.unit.telemetry.told import ORDERS, ORDERS_1, ORDERS_V1, done, inbound


def fresh(max_series: int = 2_000) -> Metrics:
    return Metrics(service="frontend", namespace="shop", version="v1", max_series=max_series)


def test_equal_requests_share_a_series() -> None:
    metrics = fresh()
    for _ in range(3):
        metrics.request_done(done())
    (series,) = metrics.values()
    assert series.requests == 3
    assert series.received.sum == 0
    assert series.sent.sum == 240
    assert round(series.duration_ms.sum) == 36


def test_label_of_the_workload_is_the_service_that_registered_it() -> None:
    metrics = fresh()
    metrics.request_done(done())
    labels = metrics.values()[0].labels
    assert labels.service == "orders.shop"
    assert labels.backend == "orders-v1.shop:8080"
    assert labels.workload == ORDERS
    assert labels.workload_version == "v1"


def test_endpoints_of_one_version_share_a_series() -> None:
    metrics = fresh()
    metrics.request_done(done())
    metrics.request_done(done(endpoint=replace(ORDERS_1, id="orders-2", host="10.0.0.6")))
    metrics.request_done(done(endpoint=replace(ORDERS_1, id="orders-3", version="v2")))
    assert [series.requests for series in metrics.values()] == [2, 1]


def test_request_without_route_is_counted() -> None:
    metrics = fresh()
    metrics.request_done(done(service=None, cluster=None, endpoint=None, status=404, flags="NR", principal=""))
    labels = metrics.values()[0].labels
    assert (labels.service, labels.backend, labels.code, labels.flags) == ("", "", "404", "NR")


@given(st.lists(st.floats(0, 1e7), max_size=50))
def test_histogram_counts_up_to_each_bound(values: list[float]) -> None:
    histogram = Histogram(LATENCY_BUCKETS_MS)
    for value in values:
        histogram.observe(value)
    expected = [sum(value <= bound for value in values) for bound in LATENCY_BUCKETS_MS]
    assert histogram.cumulative() == [*expected, len(values)]


def test_beyond_the_limit_everything_new_is_other() -> None:
    metrics = fresh(max_series=10)
    for number in range(500):
        cluster = ClusterKey(ServiceKey("shop", f"s{number}"), 80)
        metrics.request_done(done(service=cluster.service, cluster=cluster, status=200 + number % 400))
    series = metrics.values()
    assert sum(one.requests for one in series) == 500
    assert len(series) <= 10 + 6
    others = {one.labels.code for one in series if one.labels.service == OTHER}
    assert others == {"2xx", "3xx", "4xx", "5xx"}
    assert len(metrics._hot) <= 4 * 10


def test_idle_series_make_room_before_anything_becomes_other() -> None:
    metrics = fresh(max_series=1)
    metrics.request_done(done(status=200))
    metrics.request_done(done(status=201, ended_s=100.0 + IDLE_S + 1))
    assert [series.labels.code for series in metrics.values()] == ["201"]


def test_series_expires_after_ten_idle_minutes_and_its_counts_stay_in_the_totals() -> None:
    metrics = fresh()
    metrics.request_done(done())
    metrics.request_done(done(status=503, flags="UH", ended_s=500.0))
    assert metrics.expire(100.012 + IDLE_S) == 0
    assert metrics.expire(100.013 + IDLE_S) == 1
    assert [series.labels.code for series in metrics.values()] == ["503"]
    metrics.request_done(done(ended_s=800.0))
    rows = {total.code: total.row()["requests"] for total in metrics.totals()}
    assert rows == {"200": 2, "503": 1}


@given(st.lists(st.tuples(st.sampled_from([200, 404, 503]), st.booleans(), st.floats(0, 700)), max_size=30))
def test_totals_never_go_down(story: list[tuple[int, bool, float]]) -> None:
    metrics, now_s = fresh(), 0.0
    before: dict[str, int] = {}
    for status, tls, gap_s in story:
        now_s += gap_s
        metrics.expire(now_s)
        metrics.request_done(done(status=status, tls=tls, started_s=now_s, ended_s=now_s))
        after = {total.code: total.duration_ms.cumulative()[-1] for total in metrics.totals()}
        assert all(after[code] >= count for code, count in before.items())
        before = after
    assert sum(before.values()) == len(story)


def test_reading_totals_changes_nothing() -> None:
    metrics = fresh()
    metrics.request_done(done())
    first = metrics.totals()
    metrics.request_done(done())
    assert first[0].duration_ms.cumulative()[-1] == 1
    assert metrics.totals()[0].duration_ms.cumulative()[-1] == 2
    assert metrics.values()[0].requests == 2


def test_row_is_the_form_of_the_report() -> None:
    metrics = fresh()
    metrics.request_done(done())
    metrics.request_done(inbound())
    assert len(by_reporter(metrics.totals(), DESTINATION)) == 1
    (total,) = by_reporter(metrics.totals(), SOURCE)
    row = total.row()
    buckets = row.pop("latency_ms_buckets")
    assert row == {
        "reporter": "source",
        "service": "orders.shop",
        "backend": "orders-v1.shop:8080",
        "code": "200",
        "flags": "-",
        "grpc_status": "",
        "requests": 1,
        "latency_ms_sum": 12.0,
    }
    assert buckets == [0] * 4 + [1] * (len(LATENCY_BUCKETS_MS) - 4)


def test_retries_and_refusals_are_counted_by_service() -> None:
    metrics = fresh()
    metrics.request_done(done(attempts=3))
    metrics.request_done(done(attempts=2, status=503, flags="URX", retry_denied="attempts"))
    assert metrics.small["retries"] == {("orders.shop", "success"): 2, ("orders.shop", "failure"): 1}
    assert metrics.small["retries_refused"] == {("orders.shop", "attempts"): 1}


def test_calls_of_grpc_are_told_apart_by_their_status() -> None:
    metrics = fresh()
    for status in ("0", "14", "14"):
        metrics.request_done(done(grpc_status=status, attempts=2))
    assert [(total.grpc_status, total.row()["requests"]) for total in metrics.totals()] == [("0", 1), ("14", 2)]
    assert metrics.small["retries"] == {("orders.shop", "success"): 1, ("orders.shop", "failure"): 2}


def test_small_counters_are_bounded() -> None:
    metrics = fresh()
    for number in range(2_000):
        metrics.upstream_dialled(ClusterKey(ServiceKey("shop", f"s{number}"), 80), "ok")
    dials = metrics.small["dials"]
    assert len(dials) <= 501
    assert dials["other", "other"] == 1_500


def ejection(endpoint: str, until_s: float, *, shadow: bool = False) -> Ejected:
    return Ejected(ORDERS_V1, endpoint, until_s, 5.0, 5, shadow, Why.FAILURES)


def test_ejected_endpoint_is_shown_until_it_passes_again() -> None:
    metrics = fresh()
    metrics.ejected(ejection("orders-1", 10.0))
    metrics.ejected(ejection("orders-2", 20.0))
    metrics.ejected(ejection("orders-3", 20.0, shadow=True))
    assert metrics.ejected_now(9.0) == [(ORDERS_V1, "orders-1"), (ORDERS_V1, "orders-2")]
    assert metrics.ejected_now(10.0) == [(ORDERS_V1, "orders-2")]
    metrics.expire(20.0)
    assert metrics._ejected_until_s == {}
    assert metrics.small["ejections"] == {
        ("orders-v1.shop", "enforce", "failures"): 2,
        ("orders-v1.shop", "shadow", "failures"): 1,
    }


def test_ejections_are_bounded() -> None:
    metrics = fresh(max_series=4)
    for number in range(20):
        metrics.ejected(ejection(f"e{number}", 1_000.0))
    assert len(metrics.ejected_now(0.0)) == 4
    metrics.ejected(ejection("late", 2_000.0))
    assert metrics.ejected_now(1_500.0) == [(ORDERS_V1, "late")]


def test_observers_tell_each() -> None:
    each = (fresh(), fresh())
    observers = Observers(each)
    observers.request_done(done())
    observers.ejected(ejection("orders-1", 10.0))
    observers.downstream_opened("inbound")
    observers.downstream_opened("inbound")
    observers.downstream_closed("inbound")
    observers.upstream_dialled(ORDERS_V1, "ok")
    observers.shadowed("AuthorizationPolicy", ORDERS, "deny")
    observers.peer_refused(
        PeerRefused(at_s=1.0, reporter="destination", peer="a", principal="", reason="no-certificate", details="d")
    )
    for metrics in each:
        assert len(metrics.values()) == 1
        assert metrics.downstream == {"inbound": 1}
        assert {name: dict(counter) for name, counter in metrics.small.items() if counter} == {
            "ejections": {("orders-v1.shop", "enforce", "failures"): 1},
            "opened": {("inbound",): 2},
            "dials": {("orders-v1.shop", "ok"): 1},
            "shadowed": {("orders.shop", "AuthorizationPolicy", "deny"): 1},
            "peers_refused": {("destination", "no-certificate"): 1},
        }
