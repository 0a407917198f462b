"""CPU time and memory as the kernel counts them, from /proc.

Reading and understanding are apart: the `parse_` functions take text. Times are clock ticks until somebody divides by
`TICKS_PER_S`; a tick is 10 ms on Linux, so a measurement of seconds is good to a part in some hundred.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class CoreTicks:
    """What one core did since boot, in ticks."""

    busy: int
    idle: int
    steal: int

    def since(self, before: "CoreTicks") -> "CoreTicks":
        """The growth."""
        return CoreTicks(self.busy - before.busy, self.idle - before.idle, self.steal - before.steal)

    @property
    def total(self) -> int:
        """All ticks."""
        return self.busy + self.idle + self.steal

    @property
    def busy_ratio(self) -> float:
        """Share of the time that the core worked for this machine."""
        return self.busy / self.total if self.total else 0.0

    @property
    def steal_ratio(self) -> float:
        """Share of the time that the hypervisor gave to others while this core had work."""
        return self.steal / self.total if self.total else 0.0


def parse_cores(stat: str) -> dict[int, CoreTicks]:
    """The lines `cpuN` of /proc/stat: user nice system idle iowait irq softirq steal (guest is part of user)."""
    cores = {}
    for line in stat.splitlines():
        name, *numbers = line.split() or [""]
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, numbers[:8])
            cores[int(name[3:])] = CoreTicks(user + nice + system + irq + softirq, idle + iowait, steal)
    return cores


def parse_cpu_ticks(stat: str) -> int:
    """utime + stime of /proc/PID/stat, and those of the children that it waited for.

    The command's name stands in parentheses and may hold anything, spaces and parentheses too.
    """
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))  # fields 14 to 17 of proc(5), which counts from 1; two are before the split


def parse_parent(stat: str) -> int:
    """The parent's process id; 0 for a process that has ended."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def parse_rss_kib(status: str) -> int:
    """VmRSS of /proc/PID/status; 0 for a process that has ended."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def parse_pss_kib(rollup: str) -> int:
    """Pss of /proc/PID/smaps_rollup; 0 for a process that has ended."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def cores() -> dict[int, CoreTicks]:
    """Every core's ticks."""
    return parse_cores((_PROC / "stat").read_text())


def cpu_ticks(pids: list[int]) -> int:
    """CPU time of processes, in ticks. For a whole tree it only grows: who ends is counted by who waits for it."""
    return sum(parse_cpu_ticks(_read(pid, "stat")) for pid in pids)


def cpu_s(pids: list[int]) -> float:
    """CPU time of processes and all their threads, in seconds, exact to microseconds: utime + stime before rounding.

    Children that ended are not in it; no proxy has any that work.
    """
    return sum(time.clock_gettime(_cpu_clock(pid)) for pid in pids)


def _cpu_clock(pid: int) -> int:
    """clock_getcpuclockid(3), which Python does not have: the complement of the process id, and CPUCLOCK_SCHED."""
    return ~pid << 3 | 2


def rss_kib(pids: list[int]) -> int:
    """Resident memory of processes, KiB."""
    return sum(parse_rss_kib(_read(pid, "status")) for pid in pids)


def pss_kib(pids: list[int]) -> int:
    """Resident memory of processes, KiB, with pages that several share counted in parts."""
    return sum(parse_pss_kib(_read(pid, "smaps_rollup")) for pid in pids)


def tree(pid: int) -> list[int]:
    """The process and everything below it; empty when it has ended."""
    children: dict[int, list[int]] = {}
    known = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    for one in known:
        children.setdefault(parse_parent(_read(one, "stat")), []).append(one)
    found = [pid] if pid in known else []
    for parent in found:  # grows while it is walked
        found += children.get(parent, [])
    return found


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended between two looks
