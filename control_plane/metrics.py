"""The control plane's own metrics, in a registry of their own; served by `api/` through the facade.

Gauges are set when somebody scrapes; counters where the thing happens. No label carries a name that a sidecar chose.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """Declared once for each control plane."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.sidecars = Gauge("control_plane_connected_sidecars", "Sidecars with an open stream.", registry=registry)
        self.leases = Gauge("control_plane_leases", "Sidecars whose lease is alive or held.", registry=registry)
        self.held = Gauge("control_plane_held_leases", "Leases kept by the guard.", registry=registry)
        self.revision = Gauge("control_plane_revision", "Revision of the newest change.", registry=registry)
        self.resources = Gauge("control_plane_resources", "Compiled resources.", registry=registry)
        self.pushes = Counter("control_plane_pushes", "Pushes sent to sidecars.", registry=registry)
        self.nacks = Counter("control_plane_rejected_resources", "Resources that a sidecar refused.", registry=registry)
        self.signed = Counter(
            "control_plane_signed_certificates", "Certificates signed for sidecars.", registry=registry
        )
        # The reasons are the labels of stream.Ended: a fixed set.
        self.ended = Counter("control_plane_ended_streams", "Streams that ended.", ["reason"], registry=registry)
        self.issuer_ends = Gauge(
            "control_plane_issuer_expiration_timestamp_seconds", "When the issuer expires.", registry=registry
        )

    def text(self) -> bytes:
        """Prometheus text format, without the `_created` series that nobody reads."""
        lines = generate_latest(self._registry).splitlines(keepends=True)
        return b"".join(line for line in lines if b"_created" not in line)
