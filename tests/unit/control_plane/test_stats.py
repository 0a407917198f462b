"""Reports in, golden signals out."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import stats
from control_plane.answers import EjectedRow, StatRow
from control_plane.stats import StatsTable, failed, quantile_ms
from sidecar.control.messages import Counter, Report
from sidecar.telemetry.metrics import LATENCY_BUCKETS_MS

PLACES = len(LATENCY_BUCKETS_MS)


def buckets(count: int, below_ms: float) -> tuple[int, ...]:
    """`count` requests, all within the bucket that ends at `below_ms`."""
    return tuple(count if bound >= below_ms else 0 for bound in LATENCY_BUCKETS_MS)


def counter(
    requests: int,
    backend: str = "orders-v1.shop:8080",
    *,
    code: str = "200",
    flags: str = "-",
    below_ms: float = 50.0,
    reporter: str = "source",
    service: str = "orders.shop",
) -> Counter:
    return Counter(
        reporter=reporter,
        service=service,
        backend=backend,
        code=code,
        flags=flags,
        requests=requests,
        latency_ms_sum=0.0,
        latency_ms_buckets=buckets(requests, below_ms),
    )


def report(*counters: Counter, instance: str = "a", ejected: tuple[str, ...] = ()) -> Report:
    return Report(
        instance=instance, counters=counters, ejected=ejected, config_version=7, config_age_s=3.0, not_after_s=9e9
    )


def row(table: StatsTable, now_s: float, backend: str = "") -> StatRow:
    (found,) = [each for each in table.rows(now_s) if each.backend == backend]
    return found


def test_the_first_report_of_a_process_is_a_base_line() -> None:
    table = StatsTable()
    table.report("shop/f", report(counter(1_000_000)), 0.0)
    assert table.rows(1.0) == ()


def test_the_rate_is_the_difference_over_the_time_between() -> None:
    table = StatsTable()
    for second in range(0, 21, 2):
        table.report("shop/f", report(counter(1000 + 50 * second)), float(second))
    assert row(table, 20.0).rate == 50.0
    assert row(table, 21.0).rate == 50.0


def test_only_the_window_counts() -> None:
    table = StatsTable()
    for second in range(0, 41, 2):
        table.report("shop/f", report(counter(100 * min(second, 20))), float(second))
    assert row(table, 40.0).rate == 0.0
    assert row(table, 40.0).success is None
    assert table.rows(51.0) == ()  # and a process that fell silent counts no more


def test_success_share_and_quantiles_of_service_and_backends() -> None:
    table = StatsTable()
    v2 = "orders-v2.shop:8080"
    table.report("shop/f", report(), 0.0)
    table.report(
        "shop/f",
        report(counter(150), counter(30, code="503", flags="UF"), counter(20, v2, code="404", below_ms=250.0)),
        2.0,
    )
    assert [(each.backend, each.rate, each.success, each.share) for each in table.rows(2.0)] == [
        ("", 100.0, 0.85, None),
        ("orders-v1.shop:8080", 90.0, pytest.approx(150 / 180), 0.9),
        (v2, 10.0, 1.0, 0.1),
    ]
    assert row(table, 2.0, v2).p50_ms == 175.0  # the middle of 100 to 250
    assert row(table, 2.0).p99_ms == pytest.approx(235.0)


def test_sidecars_add_up() -> None:
    table = StatsTable()
    for node in ("shop/f", "shop/g"):
        table.report(node, report(), 0.0)
        table.report(node, report(counter(20)), 2.0)
    assert row(table, 2.0).rate == 20.0


def test_a_restarted_process_starts_from_a_new_base_line() -> None:
    table = StatsTable()
    table.report("shop/f", report(counter(1000)), 0.0)
    table.report("shop/f", report(counter(5), instance="b"), 2.0)
    assert table.rows(2.0) == ()
    table.report("shop/f", report(counter(25), instance="b"), 4.0)
    assert row(table, 4.0).rate == 10.0


def test_counters_that_shrink_are_a_new_base_line() -> None:
    table = StatsTable()
    table.report("shop/f", report(counter(1000), counter(50, code="404")), 0.0)
    table.report("shop/f", report(counter(1000)), 2.0)
    assert table.rows(2.0) == ()
    table.report("shop/f", report(counter(1010)), 4.0)
    assert row(table, 4.0).rate == 5.0


def test_the_callers_view_is_preferred() -> None:
    table = StatsTable()
    table.report("shop/f", report(), 0.0)
    table.report("shop/f", report(counter(20)), 2.0)
    table.report("shop/o", report(), 0.0)
    inbound = counter(10, "app", reporter="destination")
    elsewhere = counter(6, "app", reporter="destination", service="stock.shop")
    table.report("shop/o", report(inbound, elsewhere), 2.0)
    assert [(each.service, each.backend, each.rate) for each in table.rows(2.0)] == [
        ("orders.shop", "", 10.0),
        ("orders.shop", "orders-v1.shop:8080", 10.0),
        ("stock.shop", "", 3.0),
        ("stock.shop", "app", 3.0),
    ]


def test_ejections_name_who_took_the_endpoint_out() -> None:
    table = StatsTable()
    table.report("shop/g", report(ejected=("shop/orders/8080/orders-2",)), 0.0)
    table.report("shop/f", report(ejected=("shop/orders/8080/orders-2", "shop/stock/8080/s")), 0.0)
    assert table.ejected() == (
        EjectedRow("shop/orders/8080/orders-2", ("shop/f", "shop/g")),
        EjectedRow("shop/stock/8080/s", ("shop/f",)),
    )
    table.forget("shop/f")
    assert table.ejected() == (EjectedRow("shop/orders/8080/orders-2", ("shop/g",)),)


def test_age_and_certificate_as_reported() -> None:
    table = StatsTable()
    assert (table.config_age_s("shop/f", 0.0), table.not_after_s("shop/f")) == (None, None)
    table.report("shop/f", report(), 10.0)
    assert (table.config_age_s("shop/f", 12.0), table.not_after_s("shop/f")) == (5.0, 9e9)
    table.report("shop/f", dataclasses.replace(report(), not_after_s=0.0), 12.0)
    assert table.not_after_s("shop/f") is None


def test_series_are_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_SERIES", 3)
    table = StatsTable()
    table.report("shop/f", report(*(counter(1, f"b{number}") for number in range(5))), 0.0)
    assert table.left_out == 2
    table.forget("shop/f")
    table.report("shop/g", report(*(counter(1, f"b{number}") for number in range(3))), 0.0)
    assert table.left_out == 2
    table.report("shop/g", report(counter(1, "b0")), 31.0)  # idle ones go
    table.report("shop/g", report(counter(1, "new"), counter(1, "b0")), 32.0)
    assert table.left_out == 2


def test_one_sidecar_does_not_take_the_place_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_SERIES_OF_NODE", 3)
    table = StatsTable()
    table.report("shop/thief", report(*(counter(1, f"b{number}") for number in range(9))), 0.0)
    assert table.left_out == 6
    table.report("shop/f", report(counter(1)), 0.0)
    assert table.left_out == 6


def test_absurd_counts_are_ignored() -> None:
    table = StatsTable()
    table.report("shop/f", report(), 0.0)
    table.report("shop/f", report(*(counter(2**62, f"b{number % 2}") for number in range(9)), counter(4)), 2.0)
    assert row(table, 2.0).rate == 2.0


def test_a_report_of_other_buckets_still_counts() -> None:
    table = StatsTable()
    table.report("shop/f", report(), 0.0)
    table.report("shop/f", report(dataclasses.replace(counter(10), latency_ms_buckets=(1, 2))), 2.0)
    assert (row(table, 2.0).rate, row(table, 2.0).p50_ms) == (5.0, LATENCY_BUCKETS_MS[-1])


@pytest.mark.parametrize(
    ("code", "flags", "expected"),
    [
        ("200", "-", False),
        ("404", "NR", False),
        ("500", "-", True),
        ("503", "UH", True),
        ("0", "DC", False),
        ("0", "UC", True),
        ("", "-", True),
    ],
)
def test_what_counts_as_a_failure(code: str, flags: str, expected: bool) -> None:
    assert failed(code, flags) is expected


def test_quantiles_of_nothing_and_of_what_is_above_all_bounds() -> None:
    assert quantile_ms([0] * PLACES, 0, 0.5) is None
    assert quantile_ms([0] * PLACES, 10, 0.5) == LATENCY_BUCKETS_MS[-1]


@given(st.lists(st.floats(0.01, 3_000_000.0), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_stands_for(values: list[float], ratio: float) -> None:
    cumulative = [sum(1 for value in values if value <= bound) for bound in LATENCY_BUCKETS_MS]
    found = quantile_ms(cumulative, len(values), ratio)
    assert found is not None
    rank = next(place for place, count in enumerate(cumulative) if count >= ratio * len(values))
    assert (LATENCY_BUCKETS_MS[rank - 1] if rank else 0.0) <= found <= LATENCY_BUCKETS_MS[rank]
