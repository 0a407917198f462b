"""`sidecar run -c FILE -- COMMAND`: when the service starts, which signals it gets, in which order both end."""

import os
import pty
import signal
import sys
from pathlib import Path

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.e2e.test_sidecar import free_port
from tests.support import told_service
from tests.support.planes import ask, raw_app
from tests.support.processes import finished, running

SERVICE = str(Path(told_service.__file__))
GET = b"GET %b HTTP/1.1\r\nHost: orders\r\n\r\n"


def bootstrap(folder: Path, app_port: int, call_port: int, stock: HostPort) -> str:
    (folder / "mesh.d").mkdir()
    (folder / "mesh.d/stock.yaml").write_text(
        "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: stock-1, namespace: shop}\n"
        f"spec: {{service: stock, address: 127.0.0.1, ports: [{{port: {stock.port}, protocol: http}}]}}\n"
    )
    path = folder / "orders.yaml"
    path.write_text(
        "node: {service: orders, namespace: shop}\nstatic: ./mesh.d\n"
        f"inbound: {{listen: ['127.0.0.1:0'], mtls: 'off', app: '127.0.0.1:{app_port}'}}\n"
        "outbound:\n  listen: []\n"
        f"  upstreams: [{{service: stock, port: {stock.port}, listen: '127.0.0.1:{call_port}'}}]\n"
        "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
        "limits: {drainDelay: 300ms, drainTimeout: 5s}\n"
    )
    return str(path)


def in_order(said: list[str], *texts: str) -> None:
    places = [next(number for number, line in enumerate(said) if text in line) for text in texts]
    assert places == sorted(places), said


async def test_callers_end_first_then_the_service_then_its_last_calls(tmp_path: Path) -> None:
    app_port, call_port = free_port(), free_port()
    async with raw_app() as stock:
        file = bootstrap(tmp_path, app_port, call_port, stock.address)
        command = ("sidecar", "run", "-c", file, "--", sys.executable, SERVICE, str(app_port), str(call_port))
        async with running(*command, until="app: accepts connections") as made:
            answers: list[bytes] = []

            async def call(path: bytes) -> None:
                answers.append((await ask(made.listening["inbound"], GET % path))[0])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, b"/slow")
                await made.until("service: /slow")
                for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                    made.process.send_signal(number)
                    await made.until(f"service: got {number.name}")
                made.process.send_signal(signal.SIGTERM)
                await made.until("SIGTERM: draining")
                await call(b"/in-the-delay")
                assert await made.process.wait() == told_service.STATUS
            assert [answer.partition(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 2
            await made.until("stopped")
            in_order(made.said, "listening inbound", "service: started", "SIGTERM: draining", "service: told SIGTERM")
            in_order(made.said, "service: told SIGTERM", "service: last call 200", "stopped")


@pytest.mark.parametrize(
    ("script", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + 9)]
)
async def test_the_status_is_the_services(script: str, status: int) -> None:
    flags = ("--listen", "127.0.0.1:0", "--to", "127.0.0.1:1")
    done = await finished("sidecar", "run", *flags, "--", sys.executable, "-c", script)
    assert done.returncode == status, done.stderr
    assert f"the service ended with status {status}" in done.stderr
    assert done.stderr.endswith("stopped\n")


async def test_standard_input_and_output_are_the_services() -> None:
    flags = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"]
    done = await trio.run_process(
        [str(Path(sys.executable).parent / "sidecar"), "run", *flags, "--", "cat", "-"],
        stdin=b"through\n",
        capture_stdout=True,
        capture_stderr=True,
    )
    assert done.stdout == b"through\n"


async def test_on_a_terminal_the_service_can_read_and_hears_ctrl_c_itself() -> None:
    ours, terminal = pty.openpty()
    script = "import os; print(os.getpgid(0) == os.getpgid(os.getppid()), input())"
    flags = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"]
    os.write(ours, b"typed\n")
    done = await trio.run_process(
        [str(Path(sys.executable).parent / "sidecar"), "run", *flags, "--", sys.executable, "-c", script],
        stdin=terminal,
        capture_stdout=True,
        capture_stderr=True,
    )
    os.close(ours)
    os.close(terminal)
    assert done.stdout == b"True typed\n"


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print("stubborn", os.getpid(), child, file=sys.stderr, flush=True)
while True:
    time.sleep(1)
"""


def runs(pid: int) -> bool:
    """Whether the process does anything still; a zombie waits only for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_second_signal_kills_the_service_and_its_children_at_once() -> None:
    flags = ("--listen", "127.0.0.1:0", "--to", "127.0.0.1:1")
    async with running("sidecar", "run", *flags, "--", sys.executable, "-c", STUBBORN, until="stubborn") as made:
        pids = [int(word) for word in (await made.until("stubborn")).split()[1:]]
        started_s = trio.current_time()
        made.process.send_signal(signal.SIGTERM)
        await made.until("SIGTERM: draining")
        assert await made.end(signal.SIGTERM) == 128 + 9
        assert trio.current_time() - started_s < 2.0
    assert not any(runs(pid) for pid in pids)


async def test_a_service_that_does_not_end_in_its_time_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    (tmp_path / "mesh.d").mkdir()
    (tmp_path / "mesh.d/web.yaml").write_text(
        "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: web-1}\n"
        "spec: {service: web, address: 127.0.0.1, ports: [{port: 80}]}\n"
    )
    file.write_text(
        "static: ./mesh.d\noutbound: {listen: ['127.0.0.1:0']}\nadmin: {listen: '127.0.0.1:0'}\n"
        "metrics: {listen: '127.0.0.1:0'}\nlimits: {drainDelay: 0s, drainTimeout: 300ms}\n"
    )
    command = ("sidecar", "run", "-c", str(file), "--", sys.executable, "-c", STUBBORN)
    async with running(*command, until="stubborn") as made:
        pids = [int(word) for word in (await made.until("stubborn")).split()[1:]]
        assert await made.end(signal.SIGTERM) == 128 + 9
        await made.until("did not end within 0.3 s of SIGTERM: killed")
    assert not any(runs(pid) for pid in pids)


async def test_a_program_that_is_not_there_is_told_before_anything_runs() -> None:
    done = await finished("sidecar", "run", "--listen", ":0", "--to", ":1", "--", "no-such-program-here")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no-such-program-here: no such program, or it may not be run; give a path or a name on PATH\n"


async def test_the_service_gets_the_limit_of_open_files_that_we_were_given() -> None:
    flags = ("--listen", ":0", "--to", ":1")
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    sidecar = str(Path(sys.executable).parent / "sidecar")
    shell = f'ulimit -Sn 300; exec {sidecar} run {" ".join(flags)} -- {sys.executable} -c "{script}"'
    done = await trio.run_process(["sh", "-c", shell], capture_stdout=True, capture_stderr=True)
    assert done.stdout == b"300\n"
