"""Counts of TCP connections: opened, closed, and the bytes of those that are still open.

A part of `metrics.py`. A TCP connection is told as a `RequestDone` of protocol TCP: when it has its endpoint, every few
seconds while it lives, and at its end. It is no request: it counts in `istio_tcp_*` and nowhere else. A connection
that never got an endpoint is counted as opened and closed at its end, under its flag.

Bounded like requests: beyond `max_series` sets of labels everything new is `other`; idle ones go. A connection that is
told of keeps its series, also without a byte.
"""

from dataclasses import replace

from sidecar.telemetry.labels import Labels, labels_of, overflow
from sidecar.telemetry.observer import RequestDone


class TcpSeries:
    """The numbers of one set of labels."""

    __slots__ = ("closed", "labels", "last_s", "opened", "received_bytes", "sent_bytes", "text")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.opened = 0
        self.closed = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.last_s = 0.0
        self.text = ""  # the printed labels, kept by whoever prints them first


class TcpTable:
    """All series. Times are monotonic seconds."""

    __slots__ = ("_idle_s", "_max_series", "_series")

    def __init__(self, max_series: int, idle_s: float) -> None:
        self._max_series = max_series
        self._idle_s = idle_s
        self._series: dict[Labels, TcpSeries] = {}

    def __len__(self) -> int:
        return len(self._series)

    def values(self) -> list[TcpSeries]:
        """All series now, oldest first."""
        return list(self._series.values())

    def opened(self, done: RequestDone) -> None:
        """A connection has its endpoint."""
        self._of(done).opened += 1

    def progress(self, done: RequestDone, received_bytes: int, sent_bytes: int) -> None:
        """It moved so many bytes since it was last told."""
        series = self._of(done)
        series.received_bytes += received_bytes
        series.sent_bytes += sent_bytes

    def closed(self, done: RequestDone) -> None:
        """It ended: count it, and the bytes that were not told yet."""
        series = self._of(done)
        told = done.tcp_told
        if told is None:
            series.opened += 1
            told = (0, 0)
        series.closed += 1
        series.received_bytes += done.bytes_received - told[0]
        series.sent_bytes += done.bytes_sent - told[1]

    def expire(self, now_s: float) -> None:
        """Drop what was not told of for the idle time."""
        for series in [one for one in self._series.values() if now_s - one.last_s > self._idle_s]:
            del self._series[series.labels]

    def _of(self, done: RequestDone) -> TcpSeries:
        return self.of(replace(labels_of(done), code="", grpc_status=""), done.ended_s)

    def of(self, labels: Labels, now_s: float) -> TcpSeries:
        """The series of these labels, made when there is room for it; else the one of everything new."""
        series = self._series.get(labels)
        if series is None and len(self._series) >= self._max_series:
            self.expire(now_s)
            if len(self._series) >= self._max_series:
                labels = replace(overflow(labels), code="")
                series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = TcpSeries(labels)
        series.last_s = now_s
        return series
