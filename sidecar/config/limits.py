"""The section `limits` of a bootstrap file -> `ProcessLimits`, which says what each is for.

```yaml
limits:
  connections: 10000
  headTimeout: 10s
  firstRequest: 1m
  idle: 1h
  bodyIdle: 30s
  bodyMinRate: 1Ki          # bytes a second; 0: off
  writeProgress: 30s
  tunnelIdle: 1h            # 0s: off
  detect: 200ms
  connectionAge: 1h         # 0s: off
  http2: {streams: 100, pingInterval: 30s, pingTimeout: 10s}   # pingInterval 0s: off
  drainDelay: 5s
  drainTimeout: 30s
```
"""

from sidecar.config.node import Fields, Node
from sidecar.model.bootstrap import ProcessLimits

_HTTP2 = ("streams", "pingInterval", "pingTimeout")
_KNOWN = (
    *("connections", "headTimeout", "firstRequest", "idle", "bodyIdle", "bodyMinRate", "writeProgress"),
    *("tunnelIdle", "detect", "connectionAge", "http2", "drainDelay", "drainTimeout"),
)
# For the variables of `environment.py`.
SETTINGS = tuple(f"limits.{name}" for name in _KNOWN if name != "http2") + tuple(
    f"limits.http2.{name}" for name in _HTTP2
)
_MAX_CONNECTIONS = 1_000_000
_MAX_STREAMS = 10_000  # each costs some KiB; who needs more opens another connection
_MAX_RATE_BYTES = 2**30


def read_limits(node: Node) -> ProcessLimits:
    """The section; what is not given has its default."""
    got, base = node.fields(*_KNOWN), ProcessLimits()
    http2 = got.get("http2")
    inner = http2.fields(*_HTTP2) if http2 is not None else Fields(node, {})
    return ProcessLimits(
        connections=got.maybe("connections", lambda field: field.integer(1, _MAX_CONNECTIONS), base.connections),
        head_timeout_s=got.maybe("headTimeout", Node.seconds, base.head_timeout_s),
        first_request_s=got.maybe("firstRequest", Node.seconds, base.first_request_s),
        idle_s=got.maybe("idle", Node.seconds, base.idle_s),
        body_idle_s=got.maybe("bodyIdle", Node.seconds, base.body_idle_s),
        body_min_bytes_per_s=got.maybe("bodyMinRate", _rate, base.body_min_bytes_per_s),
        write_progress_s=got.maybe("writeProgress", Node.seconds, base.write_progress_s),
        tunnel_idle_s=got.maybe("tunnelIdle", _seconds_or_off, base.tunnel_idle_s),
        detect_s=got.maybe("detect", Node.seconds, base.detect_s),
        connection_age_s=got.maybe("connectionAge", _seconds_or_off, base.connection_age_s),
        http2_streams=inner.maybe("streams", lambda field: field.integer(1, _MAX_STREAMS), base.http2_streams),
        http2_ping_s=inner.maybe("pingInterval", _seconds_or_off, base.http2_ping_s),
        http2_ping_timeout_s=inner.maybe("pingTimeout", Node.seconds, base.http2_ping_timeout_s),
        drain_delay_s=got.maybe("drainDelay", _seconds_or_off, base.drain_delay_s),
        drain_timeout_s=got.maybe("drainTimeout", _seconds_or_off, base.drain_timeout_s),
    )


def _seconds_or_off(node: Node) -> float:
    return node.seconds(at_least=0.0)


def _rate(node: Node) -> int:
    return node.quantity_bytes(0, _MAX_RATE_BYTES)
