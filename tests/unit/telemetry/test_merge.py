"""Counts of several processes, put together: sums are what one process would have counted, and never go down."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.merge import add, take
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import RequestDone
from tests.unit.telemetry.told import done

KINDS = [
    done(),
    done(status=503, flags="UF", attempts=3, retry_denied="budget"),
    done(status=404, flags="NR", cluster=None, endpoint=None),
    done(bytes_received=10_000, bytes_sent=1),
]


def fresh() -> Metrics:
    return Metrics(service="orders", namespace="shop")


def shown(metrics: Metrics) -> dict[str, object]:
    return {
        "series": {
            series.labels: [
                (part.counts, round(part.sum, 6)) for part in (series.duration_ms, series.received, series.sent)
            ]
            for series in metrics.values()
            if series.requests
        },
        "small": metrics.small,
        "totals": sorted(
            json.dumps(total.row(), sort_keys=True) for total in metrics.totals() if total.row()["requests"]
        ),
    }


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(KINDS), st.booleans()), max_size=40))
def test_the_sum_is_what_one_process_would_have_counted(events: list[tuple[int, RequestDone, bool]]) -> None:
    whole, merged, workers = fresh(), fresh(), [fresh() for _ in range(3)]
    for now_s, (index, kind, carry) in enumerate(events):
        whole.request_done(kind)
        workers[index].request_done(kind)
        if carry:
            before = {total.row()["service"]: total.row()["requests"] for total in merged.totals()}
            add(merged, json.loads(json.dumps(take(workers[index], 0.0, float(now_s)))), float(now_s))
            after = {total.row()["service"]: total.row()["requests"] for total in merged.totals()}
            assert before.keys() <= after.keys()
    for worker in workers:
        add(merged, json.loads(json.dumps(take(worker, 0.0, 99.0))), 99.0)
        assert take(worker, 1e9, 1e9)["requests"] == []
    assert shown(merged) == shown(whole)


def test_more_series_than_there_is_room_for_are_counted_as_others() -> None:
    worker, merged = fresh(), Metrics(service="orders", namespace="shop", max_series=1)
    worker.request_done(done())
    worker.request_done(replace(done(), status=500, flags="UF"))
    add(merged, take(worker, 0.0, 1.0), 1.0)
    assert sum(series.requests for series in merged.values()) == 2
    assert merged.size == 2
