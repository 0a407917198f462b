"""What /proc says, as text; and that the real one is understood."""

import os
import subprocess
import sys
import time

import pytest

from bench import procfs
from bench.procfs import CoreTicks

STAT = """cpu  10 1 5 200 4 1 1 3 0 0
cpu0 6 1 3 100 2 1 1 3 2 0
cpu1 4 0 2 100 2 0 0 0 0 0
intr 12345
"""
# A name with everything that may stand in one; then state, parent, ... utime 250, stime 50, cutime 7, cstime 3.
PID_STAT = "4711 (a) b (c) S 42 4711 4711 0 -1 4194304 100 200 0 0 250 50 7 3 20 0 1 0 12345 1000 200\n"


def test_cores_are_read_without_the_sum_line_and_guests() -> None:
    assert procfs.parse_cores(STAT) == {0: CoreTicks(12, 102, 3), 1: CoreTicks(6, 102, 0)}


def test_ratios_are_of_the_growth() -> None:
    grown = CoreTicks(150, 250, 20).since(CoreTicks(100, 200, 0))

    assert grown == CoreTicks(50, 50, 20)
    assert grown.busy_ratio == pytest.approx(50 / 120)
    assert grown.steal_ratio == pytest.approx(20 / 120)
    assert CoreTicks(0, 0, 0).busy_ratio == CoreTicks(0, 0, 0).steal_ratio == 0.0


def test_cpu_time_is_that_of_the_process_and_of_the_children_it_waited_for() -> None:
    assert procfs.parse_cpu_ticks(PID_STAT) == 310
    assert procfs.parse_parent(PID_STAT) == 42


def test_a_process_that_has_ended_counts_nothing() -> None:
    assert procfs.parse_cpu_ticks("") == 0
    assert procfs.parse_parent("") == 0
    assert procfs.parse_rss_kib("Name:\tzombie\nState:\tZ\n") == 0


def test_resident_memory_is_vmrss() -> None:
    assert procfs.parse_rss_kib("VmHWM:\t 9000 kB\nVmRSS:\t   39552 kB\n") == 39_552


def test_proportional_memory_and_cpu_time_of_this_process() -> None:
    assert procfs.parse_pss_kib("Rss:  9 kB\nPss:  7 kB\nPss_Anon: 1 kB\n") == 7
    assert procfs.parse_pss_kib("") == 0
    assert 0.0 < procfs.cpu_s([os.getpid()]) <= time.process_time()


def test_a_tree_holds_children_and_their_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        tree = procfs.tree(os.getpid())
        assert child.pid in tree
        assert os.getpid() in tree
        assert procfs.rss_kib([child.pid]) > 0
        assert procfs.cpu_ticks(tree) > 0
    finally:
        child.communicate(b"\n")
    assert procfs.tree(child.pid) == []


def test_this_machine_has_cores() -> None:
    assert set(procfs.cores()) >= os.sched_getaffinity(0)
