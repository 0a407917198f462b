"""Numbers that are looked up when somebody scrapes, beside those that are counted as they happen.

`app` fills a `Facts` from the configuration holder, the identity and the pool; `admin/process.py` fills a
`ProcessStats` from /proc. Plain values: nothing here reads a clock or a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is true now, for `/metrics` and `/stats`.

    Attributes:
        version: Of this software.
        config_age_s: Seconds since the control plane last said that the configuration is current.
        config_rejected: Resources refused since the start.
        config_reloads: (result `applied` or `rejected`, how often) of reading a static folder again.
        cert_not_after_s: Unix seconds; None without an identity.
        log_dropped: Log lines that were dropped because nobody took them in time.
        upstream_connections: (service, state `active` or `idle`, how many) of each pool.
        workers: Worker processes that serve; None when there is one process.
        worker_restarts: How often one was started again.
        loop_lag_s: How late the event loop last ran; None when nobody measures it.
    """

    version: str
    config_version: int = 0
    config_age_s: float = 0.0
    config_rejected: int = 0
    config_reloads: Sequence[tuple[str, int]] = ()
    cert_not_after_s: float | None = None
    log_dropped: int = 0
    spans_exported: int = 0
    spans_dropped: int = 0
    upstream_connections: Sequence[tuple[str, str, int]] = ()
    workers: int | None = None
    worker_restarts: int | None = None
    loop_lag_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStats:
    """The process as the kernel sees it; names are Prometheus' usual `process_*`."""

    cpu_s: float
    resident_bytes: int
    virtual_bytes: int
    open_fds: int
    max_fds: int
    started_unix_s: float
