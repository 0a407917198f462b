"""Counts of what happened, as plain values: the observer behind `/metrics`, the report and the judge.

One `Series` per set of labels holds numbers in slots; a request finds its series by one look-up of a tuple. Text is
made only when somebody scrapes (`families.py`, `render.py`). Bounded on every side: at most `max_series` sets of
labels, then everything new is counted under `other`; a series that nobody added to for ten minutes goes. Label values
are names from the configuration, verified identities and members of fixed sets, never a path, a host or an address.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.policy.outlier import Ejected
from sidecar.telemetry.labels import OTHER, Labels, labels_of, overflow, service_name
from sidecar.telemetry.observer import SOURCE, TCP, Observer, PeerRefused, RequestDone, Tally, failed
from sidecar.telemetry.tcp import TcpSeries, TcpTable

# Istio's, so that existing dashboards' quantiles work.
LATENCY_BUCKETS_MS = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0,
    300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0,
)  # fmt: skip
SIZE_BUCKETS_BYTES = (100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0)
IDLE_S = 600.0  # Linkerd's metric retention
MAX_SERIES = 2_000  # about 28 KB of exposition each
_MAX_PAIRS = 500  # of each small counter's label values
_MAX_RETIRED = 2_000

_HotKey = tuple[str, ServiceKey | None, ClusterKey | None, str, str, int, str, str, str, bool]


class Histogram:
    """Counts between bounds, and their sum. `counts` has one more place than the bounds: what lies above them all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a value equal to a bound lies below it, as Prometheus defines `le`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """Counts of values up to each bound; the last is the count of all."""
        return list(accumulate(self.counts))

    def add(self, other: "Histogram") -> None:
        """Add another histogram of the same bounds."""
        self.put(other.counts, other.sum)

    def put(self, counts: list[int], total: float) -> None:
        """Add counts as another histogram of the same bounds holds them, and their sum."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.sum += total

    def take(self) -> tuple[list[int], float]:
        """Counts and sum; both begin anew."""
        taken = (self.counts, self.sum)
        self.counts, self.sum = [0] * len(self.counts), 0.0
        return taken


class Series(Tally):
    """The numbers of one set of labels. The count of requests is the count of any of the histograms."""

    __slots__ = ("duration_ms", "labels", "last_s", "received", "sent", "text")

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.labels = labels
        self.duration_ms = Histogram(LATENCY_BUCKETS_MS)
        self.received = Histogram(SIZE_BUCKETS_BYTES)
        self.sent = Histogram(SIZE_BUCKETS_BYTES)
        self.last_s = 0.0
        self.text = ""  # the printed labels, kept by whoever prints them first

    def observe(self, took_ms: float, received_bytes: int, sent_bytes: int, now_s: float) -> None:
        """Count one request. `Histogram.observe` three times over, without the calls."""
        histogram = self.duration_ms
        histogram.counts[bisect_left(LATENCY_BUCKETS_MS, took_ms)] += 1
        histogram.sum += took_ms
        histogram = self.received
        histogram.counts[bisect_left(SIZE_BUCKETS_BYTES, received_bytes)] += 1
        histogram.sum += received_bytes
        histogram = self.sent
        histogram.counts[bisect_left(SIZE_BUCKETS_BYTES, sent_bytes)] += 1
        histogram.sum += sent_bytes
        self.last_s = now_s

    @property
    def requests(self) -> int:
        """How many requests were counted."""
        return sum(self.duration_ms.counts)


@dataclass(slots=True)
class ServiceTotals:
    """Cumulative counters of one (reporter, service, backend, code, flags, gRPC status) since the process started."""

    reporter: str
    service: str
    backend: str
    code: str
    flags: str
    grpc_status: str = ""
    duration_ms: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS_MS))

    def row(self) -> dict[str, object]:
        """The form of a `report`'s counters (wire of 15012); buckets are cumulative, the overflow is `requests`."""
        buckets = self.duration_ms.cumulative()
        return {
            "reporter": self.reporter,
            "service": self.service,
            "backend": self.backend,
            "code": self.code,
            "flags": self.flags,
            "grpc_status": self.grpc_status,
            "requests": buckets[-1],
            "latency_ms_sum": round(self.duration_ms.sum, 3),
            "latency_ms_buckets": buckets[:-1],
        }


_TotalsKey = tuple[str, str, str, str, str, str]


class Metrics(Observer):
    """Everything counted in one worker. Construct once; tell it as an `Observer`; read `values()` and the counters.

    Args:
        service, namespace, version: This workload's own, as registered; "" for a proxy outside a mesh.
        max_series: Sets of labels of requests kept apart; beyond it they are counted under `other`.

    Attributes:
        principal: This workload's SPIFFE ID once it has one; set by the owner.
        small: Counters with few labels, by name: `small["retries"][("orders.shop", "success")]`.
        downstream: Client connections open now, by listener.
    """

    def __init__(self, *, service: str, namespace: str, version: str = "", max_series: int = MAX_SERIES) -> None:
        self.service = service
        self.namespace = namespace
        self.version = version
        self.principal = ""
        self.max_series = max_series
        self.small: dict[str, Counter[tuple[str, ...]]] = {
            name: Counter()
            for name in ("retries", "retries_refused", "ejections", "peers_refused", "dials", "shadowed", "opened",
                         "detected", "codec_notes", "limits", "paths")
        }  # fmt: skip
        self.downstream: Counter[str] = Counter()
        self._series: dict[Labels, Series] = {}
        self._hot: dict[_HotKey, Series] = {}
        self._retired: dict[_TotalsKey, ServiceTotals] = {}
        self._tcp = TcpTable(max_series, IDLE_S)
        self._ejected_until_s: dict[tuple[ClusterKey, str], float] = {}

    # --- told ---------------------------------------------------------------------------------------------------

    def request_done(self, done: RequestDone) -> None:
        """Count a request, its retries, and why there was no further one."""
        if done.protocol == TCP:
            self._tcp.closed(done)
        else:
            self._observe(done)
        if done.attempts > 1:
            result = "failure" if failed(done) else "success"
            self.count("retries", (service_name(done.service), result), done.attempts - 1)
        if done.retry_denied:
            self.count("retries_refused", (service_name(done.service), done.retry_denied))

    def tally(self, done: RequestDone) -> Tally | None:
        """The series of requests like this one."""
        return self._series_of(done)

    def path_taken(self, path: str, why: str, count: int = 1) -> None:
        """Count requests by the path that served them."""
        self.count("paths", (path, why), count)

    def tcp_opened(self, done: RequestDone) -> None:
        """Count a TCP connection that has its endpoint."""
        self._tcp.opened(done)

    def tcp_progress(self, done: RequestDone, received_bytes: int, sent_bytes: int) -> None:
        """Count what it moved since last told."""
        self._tcp.progress(done, received_bytes, sent_bytes)

    def ejected(self, event: Ejected) -> None:
        """Count an ejection, and remember until when it holds."""
        self.count("ejections", (str(event.cluster.service), "shadow" if event.shadow else "enforce", event.why.value))
        if event.shadow:
            return
        if len(self._ejected_until_s) >= self.max_series:
            self._forget_readmitted(event.until_s - event.for_s)
        if len(self._ejected_until_s) < self.max_series:
            self._ejected_until_s[event.cluster, event.endpoint] = event.until_s

    def peer_refused(self, event: PeerRefused) -> None:
        """Count a refused peer."""
        self.count("peers_refused", (event.reporter, event.reason))

    def downstream_opened(self, listener: str) -> None:
        """Count a client connection."""
        self.downstream[listener] += 1
        self.count("opened", (listener,))

    def downstream_closed(self, listener: str) -> None:
        """The connection is gone."""
        self.downstream[listener] -= 1

    def upstream_dialled(self, cluster: ClusterKey, result: str) -> None:
        """Count a dial."""
        self.count("dials", (str(cluster.service), result))

    def protocol_detected(self, listener: str, kind: str) -> None:
        """Count what a client spoke."""
        self.count("detected", (listener, kind))

    def limit_reached(self, limit: str) -> None:
        """Count what a limit ended or held up."""
        self.count("limits", (limit,))

    def codec_noted(self, kind: str) -> None:
        """Count what a peer did to a codec."""
        self.count("codec_notes", (kind,))

    def shadowed(self, policy: str, service: ServiceKey, decision: str) -> None:
        """Count what a policy would have done."""
        self.count("shadowed", (str(service), policy, decision))

    # --- read ---------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many series there are."""
        return len(self._series) + len(self._tcp)

    def tcp(self) -> list[TcpSeries]:
        """All series of TCP connections now."""
        return self._tcp.values()

    def values(self) -> list[Series]:
        """All series now, oldest first. A copy of the list; the series go on counting."""
        return list(self._series.values())

    def totals(self) -> list[ServiceTotals]:
        """Counters of the report and the judge, per reporter, service, backend, code, flags and gRPC status.

        Never go down while the process lives: what an expired series had counted stays in its sum.
        """
        sums: dict[_TotalsKey, ServiceTotals] = {}
        for past in self._retired.values():
            _add(sums, past)
        for series in self._series.values():
            _add(sums, _totals(series))
        return list(sums.values())

    def ejected_for(self, now_s: float) -> list[tuple[ClusterKey, str, float]]:
        """Cluster, endpoint id and seconds left of every ejection that still holds."""
        return [(*who, until_s - now_s) for who, until_s in self._ejected_until_s.items() if until_s > now_s]

    def ejected_now(self, now_s: float) -> list[tuple[ClusterKey, str]]:
        """Cluster and endpoint id of every ejection that still holds."""
        return [who for who, until_s in self._ejected_until_s.items() if until_s > now_s]

    def expire(self, now_s: float) -> int:
        """Drop series idle for ten minutes; returns how many. Whoever reads calls it first; cheap when nothing is due.

        Monotonic seconds, the clock of `RequestDone.ended_s`.
        """
        due = [series for series in self._series.values() if now_s - series.last_s > IDLE_S]
        for series in due:
            totals = _totals(series)
            key = _totals_key(totals)
            if key in self._retired or len(self._retired) < _MAX_RETIRED:
                _add(self._retired, totals)
            del self._series[series.labels]
            series.gone = True
        if due:
            self._hot.clear()
        self._tcp.expire(now_s)
        self._forget_readmitted(now_s)
        return len(due)

    # --- put together of several processes (merge.py) -------------------------------------------------------------

    def of(self, labels: Labels, now_s: float) -> Series:
        """The series of these labels, made when there is room for it; else the one of everything new."""
        series = self._series.get(labels)
        if series is None and len(self._series) >= self.max_series:
            self.expire(now_s)
            if len(self._series) >= self.max_series:
                labels = overflow(labels)
                series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(labels)
        return series

    def count(self, name: str, labels: tuple[str, ...], amount: int = 1) -> None:
        """Add to one of the small counters."""
        counter = self.small[name]
        if labels not in counter and len(counter) >= _MAX_PAIRS:
            labels = (OTHER,) * len(labels)
        counter[labels] += amount

    def tcp_of(self, labels: Labels, now_s: float) -> TcpSeries:
        """The same for TCP connections."""
        return self._tcp.of(labels, now_s)

    def hold_ejected(self, cluster: ClusterKey, endpoint: str, until_s: float) -> None:
        """Remember until when an ejection holds, of several the longest."""
        if (cluster, endpoint) in self._ejected_until_s or len(self._ejected_until_s) < self.max_series:
            self._ejected_until_s[cluster, endpoint] = max(until_s, self._ejected_until_s.get((cluster, endpoint), 0.0))

    # --- inside -------------------------------------------------------------------------------------------------

    def _observe(self, done: RequestDone) -> None:
        ended_s = done.ended_s
        took_ms = (ended_s - done.started_s) * 1e3
        self._series_of(done).observe(took_ms, done.bytes_received, done.bytes_sent, ended_s)

    def _series_of(self, done: RequestDone) -> Series:
        endpoint = done.endpoint
        # An endpoint's id and version stand for everything else that labels say about it; hashing it whole is slow.
        key = (
            done.reporter,
            done.service,
            done.cluster,
            endpoint.id if endpoint is not None else "",
            endpoint.version if endpoint is not None else "",
            done.status,
            done.flags,
            done.grpc_status,
            done.principal,
            done.tls,
        )
        return self._hot.get(key) or self._resolve(key, done)

    def _resolve(self, key: _HotKey, done: RequestDone) -> Series:
        """Find or make the series of a key not seen lately."""
        series = self.of(labels_of(done), done.ended_s)
        if len(self._hot) >= 4 * self.max_series:  # endpoints come and go; the series stay
            self._hot.clear()
        self._hot[key] = series
        return series

    def _forget_readmitted(self, now_s: float) -> None:
        for who in [who for who, until_s in self._ejected_until_s.items() if until_s <= now_s]:
            del self._ejected_until_s[who]


def _totals(series: Series) -> ServiceTotals:
    labels = series.labels
    return ServiceTotals(*_labels_key(labels), series.duration_ms)


def _totals_key(totals: ServiceTotals) -> _TotalsKey:
    return (totals.reporter, totals.service, totals.backend, totals.code, totals.flags, totals.grpc_status)


def _labels_key(labels: Labels) -> _TotalsKey:
    return (labels.reporter, labels.service, labels.backend, labels.code, labels.flags, labels.grpc_status)


def _add(sums: dict[_TotalsKey, ServiceTotals], one: ServiceTotals) -> None:
    """Add into a copy, so that neither side sees the other's later counts."""
    key = _totals_key(one)
    total = sums.get(key)
    if total is None:
        total = sums[key] = ServiceTotals(*key)
    total.duration_ms.add(one.duration_ms)


def by_reporter(totals: Iterable[ServiceTotals], reporter: str = SOURCE) -> list[ServiceTotals]:
    """Those of one reporter; canary judgement reads the source's."""
    return [total for total in totals if total.reporter == reporter]
