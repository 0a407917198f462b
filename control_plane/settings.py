"""What `control-plane serve` can be told, with the reason of each default.

Read by `facade.run`; made by `cli/serve.py` from flags and file. All times in seconds. Nothing is checked here beyond
what the types say: addresses are checked where they are bound.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def to_stderr(line: str) -> None:
    """Write one line for a person or a supervisor to read."""
    print(line, file=sys.stderr, flush=True)


def one_line(text: str, at_most: int = 500) -> str:
    """Text of a peer, fit for a log line and a terminal: no control characters, bounded."""
    shown = "".join(each if each.isprintable() else " " for each in text[:at_most])
    return shown if len(text) <= at_most else shown + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Periods and bounds of the control plane. Tests shorten them; users have no reason to."""

    lease_s: float = 30.0  # three missed beats of 10 s
    lease_check_s: float = 1.0
    beat_s: float = 10.0
    silence_s: float = 30.0  # a side that hears nothing for so long closes
    handshake_s: float = 5.0
    first_message_s: float = 5.0
    debounce_s: float = 0.05  # several changes in one burst make one push
    debounce_max_s: float = 0.5  # but a steady trickle does not postpone it beyond this
    compact_s: float = 60.0
    keep_revisions: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """One control plane.

    Attributes:
        data: Folder of store, trust domain and API token; made with mode 0700 when missing.
        stream: `HOST:PORT` of the sidecar streams; port 0 picks one.
        api: `HOST:PORT` of the API; bound by `api/`, kept here because `listening` lines and `check` name it.
        trust_domain: Used when the trust domain is made, on the first start; later starts must say the same.
        certificate_s: Life of a sidecar's certificate; sidecars renew at half of it.
        max_sessions: Streams at once; the next is refused with an error that says so.
        say: Takes the lines for stderr (`listening NAME ADDRESS` and complaints).
    """

    data: Path
    stream: str = "127.0.0.1:15012"
    api: str = "127.0.0.1:15010"
    trust_domain: str = "mesh.local"
    certificate_s: float = 86_400.0
    max_sessions: int = 2_048
    intervals: Intervals = Intervals()
    say: Callable[[str], None] = to_stderr
