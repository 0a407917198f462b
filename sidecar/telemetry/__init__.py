"""What happened, for people and other programs to read: metrics, access log, spans.

Everything here is told through `observer.Observer` and never asked: no decision of the proxy depends on it. Pure but
for `telemetry/export`, which owns the file descriptors and the connection to the collector.
"""
