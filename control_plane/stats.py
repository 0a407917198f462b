"""Golden signals of services and backends, from the counters that sidecars report.

Told by push.py about each `report`; read by the facade for `stat`. Pure: `now_s` (monotonic seconds) is an argument.
Reports carry counts since a process started, so a lost one loses nothing: a rate is the difference of two reports over
the time between them. The first report of a process is a base line and says nothing by itself.

Bounded: beyond MAX_SERIES sets of (sidecar, reporter, service, backend), MAX_SERIES_OF_NODE of one sidecar, new ones
are left out, and counted.
"""

from array import array
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from control_plane.answers import EjectedRow, StatRow
from sidecar.control.messages import Counter, Report
from sidecar.telemetry.metrics import LATENCY_BUCKETS_MS

WINDOW_S = 10.0
MAX_SERIES = 20_000  # at 300 bytes a sample and 7 samples, about 40 MB
MAX_SERIES_OF_NODE = 2_000  # so that one sidecar with made-up names leaves room for the others
MAX_EJECTED = 1_000  # of one sidecar
MAX_COUNT = 2**48  # of one row of a report; no honest process gets there, and sums stay within 64 bits

# A sample: requests, failures, then cumulative counts by latency bucket.
_WIDTH = 2 + len(LATENCY_BUCKETS_MS)
_Key = tuple[str, str, str]  # reporter, service, backend
_Sample = tuple[float, "array[int]"]


@dataclass(slots=True)
class _Node:
    instance: str
    reported_s: float
    config_version: int = 0
    config_age_s: float = 0.0
    not_after_s: float = 0.0
    ejected: tuple[str, ...] = ()
    series: dict[_Key, deque[_Sample]] = field(default_factory=dict)


class StatsTable:
    """What every sidecar reported within the last `window_s`, and what that amounts to."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self.window_s = window_s
        self.left_out = 0  # sets of labels that did not fit since the start
        self._nodes: dict[str, _Node] = {}
        self._series = 0

    def report(self, node: str, report: Report, now_s: float) -> None:
        """Take a report of `node` (`NAMESPACE/ID`)."""
        known = self._nodes.get(node)
        if known is None or known.instance != report.instance:
            self.forget(node)
            known = self._nodes[node] = _Node(report.instance, now_s)
            before_s = None
        else:
            before_s = known.reported_s
        known.reported_s = now_s
        known.config_version, known.config_age_s = report.config_version, report.config_age_s
        known.not_after_s = report.not_after_s
        known.ejected = report.ejected[:MAX_EJECTED]
        for key, total in _totals(report.counters).items():
            self._sample(known, key, total, before_s, now_s)
        self._prune(known, now_s)

    def forget(self, node: str) -> None:
        """Drop all of a node: its lease is over."""
        known = self._nodes.pop(node, None)
        if known is not None:
            self._series -= len(known.series)

    def config_age_s(self, node: str, now_s: float) -> float | None:
        """How old the configuration is that the node serves; None before its first report."""
        known = self._nodes.get(node)
        return None if known is None else known.config_age_s + (now_s - known.reported_s)

    def not_after_s(self, node: str) -> float | None:
        """Unix time at which the node's certificate ends; None when it reported none."""
        known = self._nodes.get(node)
        return (known.not_after_s or None) if known is not None else None

    def rows(self, now_s: float) -> tuple[StatRow, ...]:
        """Each service, followed by its backends when they say more than the service itself.

        Callers' view where there is one (`reporter` source): only callers see what never arrived.
        """
        whole: dict[str, dict[_Key, _Sum]] = {"source": {}, "destination": {}}
        for key, summed in self._sums(now_s).items():
            if key[0] in whole:
                whole[key[0]][key] = summed
        seen = {service for _, service, _ in whole["source"]}
        parts = {**whole["source"], **{key: each for key, each in whole["destination"].items() if key[1] not in seen}}
        by_service: dict[str, list[tuple[str, _Sum]]] = defaultdict(list)
        for (_, service, backend), summed in parts.items():
            by_service[service].append((backend, summed))
        rows: list[StatRow] = []
        for service, backends in sorted(by_service.items()):
            total = _added([summed for _, summed in backends])
            rows.append(total.row(service, "", None))
            rows += [summed.row(service, backend, total) for backend, summed in sorted(backends, key=lambda b: b[0])]
        return tuple(rows)

    def ejected(self) -> tuple[EjectedRow, ...]:
        """Endpoints that are out somewhere, in order of name."""
        by: dict[str, list[str]] = defaultdict(list)
        for node, known in sorted(self._nodes.items()):
            for endpoint in known.ejected:
                by[endpoint].append(node)
        return tuple(EjectedRow(endpoint, tuple(nodes)) for endpoint, nodes in sorted(by.items()))

    def _sample(self, node: _Node, key: _Key, total: "array[int]", before_s: float | None, now_s: float) -> None:
        samples = node.series.get(key)
        if samples is None:
            if self._series >= MAX_SERIES or len(node.series) >= MAX_SERIES_OF_NODE:
                self.left_out += 1
                return
            self._series += 1
            samples = node.series[key] = deque()
            if before_s is not None:  # not there at the last report: nothing had been counted then
                samples.append((before_s, array("Q", bytes(8 * _WIDTH))))
        elif samples and any(new < old for new, old in zip(total, samples[-1][1], strict=True)):
            samples.clear()  # the sidecar forgot idle counters; this is a new base line
        samples.append((now_s, total))
        # One sample at or before the window's start is kept, so that the window is covered whole.
        while len(samples) > 2 and samples[1][0] <= now_s - self.window_s:
            samples.popleft()

    def _prune(self, node: _Node, now_s: float) -> None:
        for key in [key for key, samples in node.series.items() if samples[-1][0] < now_s - 3 * self.window_s]:
            del node.series[key]
            self._series -= 1

    def _sums(self, now_s: float) -> dict[_Key, "_Sum"]:
        sums: dict[_Key, _Sum] = {}
        for node in self._nodes.values():
            for key, samples in node.series.items():
                first, last = samples[0], samples[-1]
                if len(samples) < 2 or last[0] < now_s - self.window_s:
                    continue
                sums.setdefault(key, _Sum()).add(first[1], last[1], last[0] - first[0])
        return sums


class _Sum:
    """What several sidecars counted for one key."""

    __slots__ = ("buckets", "failures", "rate", "requests")

    def __init__(self) -> None:
        self.rate = 0.0
        self.requests = 0
        self.failures = 0
        self.buckets = [0] * len(LATENCY_BUCKETS_MS)

    def add(self, first: "array[int]", last: "array[int]", took_s: float) -> None:
        requests = last[0] - first[0]
        self.requests += requests
        self.failures += last[1] - first[1]
        self.rate += requests / took_s if took_s > 0 else 0.0
        self.buckets = [have + new - old for have, new, old in zip(self.buckets, last[2:], first[2:], strict=True)]

    def row(self, service: str, backend: str, whole: "_Sum | None") -> StatRow:
        some = self.requests > 0
        return StatRow(
            service=service,
            backend=backend,
            rate=round(self.rate, 3),
            success=1.0 - self.failures / self.requests if some else None,
            share=None if whole is None or not whole.requests else self.requests / whole.requests,
            p50_ms=quantile_ms(self.buckets, self.requests, 0.5),
            p99_ms=quantile_ms(self.buckets, self.requests, 0.99),
        )


def quantile_ms(buckets: Sequence[int], count: int, ratio: float) -> float | None:
    """The quantile of a histogram of cumulative counts, milliseconds; None when it is empty.

    Within a bucket values are taken as evenly spread (Prometheus' `histogram_quantile`); above the last bound it is
    that bound.
    """
    if count <= 0:
        return None
    rank = ratio * count
    place = bisect_left(buckets, rank)
    if place >= len(buckets):
        return LATENCY_BUCKETS_MS[-1]
    low_ms = LATENCY_BUCKETS_MS[place - 1] if place else 0.0
    below = buckets[place - 1] if place else 0
    inside = buckets[place] - below
    return low_ms + (LATENCY_BUCKETS_MS[place] - low_ms) * ((rank - below) / inside if inside else 1.0)


def failed(code: str, flags: str) -> bool:
    """Whether requests counted so failed: 5xx, or no answer at all unless the client left by itself."""
    return code.startswith("5") or (code in ("", "0") and flags != "DC")


def _totals(counters: Iterable[Counter]) -> dict[_Key, "array[int]"]:
    totals: dict[_Key, array[int]] = {}
    for counter in counters:
        if max(counter.requests, *counter.latency_ms_buckets, 0) > MAX_COUNT:
            continue
        key = (counter.reporter, counter.service, counter.backend)
        total = totals.get(key)
        if total is None:
            total = totals[key] = array("Q", bytes(8 * _WIDTH))
        total[0] += counter.requests
        total[1] += counter.requests if failed(counter.code, counter.flags) else 0
        if len(counter.latency_ms_buckets) == len(LATENCY_BUCKETS_MS):
            for place, count in enumerate(counter.latency_ms_buckets, start=2):
                total[place] += count
    return totals


def _added(sums: Iterable[_Sum]) -> _Sum:
    total = _Sum()
    for each in sums:
        total.rate += each.rate
        total.requests += each.requests
        total.failures += each.failures
        total.buckets = [have + more for have, more in zip(total.buckets, each.buckets, strict=True)]
    return total
