"""The whole product as a user meets it: `make demo` ends well, its mesh does what it says, and nothing stays behind."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from demo.http1 import NoAnswer
from demo.load import Load
from demo.mesh import DemoMesh
from demo.watch import Watch, binomial_bound

ROOT = Path(__file__).parents[2]
FRONTEND = "spiffe://mesh.local/ns/shop/sa/frontend"
ORDERS = "spiffe://mesh.local/ns/shop/sa/orders"

pytestmark = pytest.mark.slow


def demo(*arguments: str) -> subprocess.Popen[str]:
    """The command behind `make demo`, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Runners to be killed whatever the test did."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for runner in started:
        runner.kill()
        runner.communicate()


def test_a_run_of_some_seconds_ends_well_and_says_what_happened(running: list[subprocess.Popen[str]]) -> None:
    runner = demo("--seconds", "6", "--rate", "80")
    running.append(runner)
    out, err = runner.communicate(timeout=120)

    assert runner.returncode == 0, out + err
    assert err == ""
    first = re.search(r"(\d+) requests, 0 failed, .* first answer ([0-9.]+) s after the start", out)
    assert first, out
    assert int(first[1]) == pytest.approx(480, abs=2)
    assert float(first[2]) < 15.0
    assert re.findall(r"split of orders: (v[12]) .* \(wanted (90|10)%\)", out) == [("v1", "90"), ("v2", "10")]
    assert f"orders was called by {FRONTEND}\n" in out
    assert f"stock was called by {ORDERS}\n" in out
    assert "meshctl traffic set orders v1=50 v2=50 -n shop --wait" in out.replace(" \\\n     ", "")
    assert not Path(re.findall(r"logs and files: (\S+)", out)[0]).exists()


def wait_for_traffic(runner: subprocess.Popen[str]) -> tuple[str, list[int]]:
    """What it said until the first line of traffic, and its children."""
    assert runner.stdout is not None
    said = ""
    while "req/s" not in said:
        assert select.select([runner.stdout], [], [], 60)[0], said
        line = runner.stdout.readline()
        assert line, said
        said += line
    return said, children_of(runner.pid)


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(entry.parent.name))
    return found


def await_end(pids: list[int], within_s: float) -> None:
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with open(descriptor, "rb"):  # noqa: PTH123 - to close it
            assert select.select([descriptor], [], [], within_s)[0], f"process {pid} is still there"


def test_ctrl_c_stops_everything_and_is_no_failure(running: list[subprocess.Popen[str]]) -> None:
    runner = demo("--rate", "20")
    running.append(runner)
    said, children = wait_for_traffic(runner)
    assert len(children) == 11
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=30)

    assert runner.returncode == 0, said + out
    assert "0 failed" in out
    await_end(children, 0.1)


def test_a_runner_that_is_killed_leaves_no_process_behind(running: list[subprocess.Popen[str]]) -> None:
    runner = demo("--rate", "20")
    running.append(runner)
    said, children = wait_for_traffic(runner)
    folder = Path(re.findall(r"logs and files: (\S+)", said)[0])
    assert len(children) == 11
    runner.kill()
    runner.communicate(timeout=30)
    await_end(children, 10.0)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_mesh_that_cannot_start_says_whose_log_to_read(running: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    bad = tmp_path / "bin"
    bad.mkdir()
    for name in ("sidecar", "meshctl", "control-plane"):
        script = bad / name
        script.write_text("#!/bin/sh\necho 'the disk is full' >&2; exit 3\n")
        script.chmod(0o700)
    code = f"from demo import mesh, run; mesh._BIN = mesh.Path({str(bad)!r}); raise SystemExit(run.main())"
    runner = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    running.append(runner)
    out, err = runner.communicate(timeout=60)

    assert runner.returncode == 1
    assert "control-plane ended before it was ready" in err
    assert "the disk is full" in err
    folder = Path(re.findall(r"logs and files: (\S+)", out)[-1])
    assert (folder / "control-plane.log").exists()
    subprocess.run(["rm", "-rf", str(folder)], check=True)


async def answered(load: Load, more: int) -> None:
    """Wait for `more` answers."""
    until = load.sent - load.outstanding + more
    with trio.fail_after(60):
        while load.sent - load.outstanding < until:  # noqa: ASYNC110 - the load has no event for a count
            await trio.sleep(0.02)


async def test_the_mesh_carries_splits_identifies_and_is_moved_by_meshctl(tmp_path: Path) -> None:
    """The parts that tests of faults stand on: names, counts, commands, restarts."""
    async with DemoMesh(tmp_path) as mesh:
        watch = Watch()
        load = Load(mesh.door, 100, on_done=watch.done)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await answered(load, 500)
            before = watch.versions.copy()
            moved = await mesh.meshctl("traffic", "set", "orders", "v1=0", "v2=100", "-n", "shop", "--wait")
            assert moved.returncode == 0, moved.stderr
            await answered(load, 50)  # those that were under way
            old = [(await mesh.counts(name))["started"] for name in ("orders-1", "orders-2")]
            await answered(load, 100)
            assert [(await mesh.counts(name))["started"] for name in ("orders-1", "orders-2")] == old
            load.stop()

        assert load.failed == 0, load.problems
        assert load.sent == len(load.results)
        low, high = binomial_bound(sum(before.values()), 0.1)
        assert low <= before["v2"] <= high
        assert watch.callers["orders"].keys() == {FRONTEND}
        counts = await mesh.counts("stock-1")
        assert counts["served_by_caller"].keys() == {ORDERS}
        assert counts["served"] == load.sent
        assert "istio_requests_total{" in await mesh.metrics("frontend-1")
        assert (await mesh.admin("frontend-1", "/clusters")).status == 200

        await mesh.kill("orders-1")
        with pytest.raises(NoAnswer):
            await mesh.counts("orders-1")
        mesh.start("orders-1")
        await mesh.ready("orders-1")
        await mesh.restart("orders-1-sidecar")
        assert [name for name, process in mesh.processes.items() if not process.running] == []
        assert len(mesh.processes) == 11
    assert [name for name, process in mesh.processes.items() if process.running] == []
