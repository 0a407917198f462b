"""What the kernel knows about this process, read from /proc when somebody scrapes."""

import os
import resource
from pathlib import Path

from sidecar.telemetry.facts import ProcessStats

_PROC = Path("/proc")


def process_stats(proc: Path = _PROC) -> ProcessStats | None:
    """The process now; None where /proc is hidden."""
    try:
        # The name in parentheses may hold spaces; what follows it is counted from the state, field 3 of proc(5).
        fields = (proc / "self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        booted_s = _booted_unix_s((proc / "stat").read_text("ascii", "replace"))
        open_fds = len(os.listdir(proc / "self/fd"))  # noqa: PTH208 - counts names, needs no Path for each
        ticks_s, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return ProcessStats(
            cpu_s=(int(fields[11]) + int(fields[12])) / ticks_s,
            virtual_bytes=int(fields[20]),
            resident_bytes=int(fields[21]) * page_bytes,
            open_fds=open_fds - 1,  # the listing itself holds one
            max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            started_unix_s=booted_s + int(fields[19]) / ticks_s,
        )
    except (OSError, IndexError, ValueError, StopIteration):
        return None


def _booted_unix_s(stat: str) -> float:
    return next(float(line.split()[1]) for line in stat.splitlines() if line.startswith("btime "))
