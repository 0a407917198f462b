"""The loads: functions that play one against an address and count what came back.

`closed` is wrk: it sends the next request when the answer is there, which is right for CPU per request and for
saturation, wrong for latency. `paced` is openloop.py: requests at fixed times, latency from the time that was meant.
"""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import tools
from bench.process import BenchError, pinned
from bench.scenarios import Scenario
from bench.traffic import SEPARATOR, Request

SCRIPT = Path(__file__).with_name("wrk.lua")
_ROOT = Path(__file__).resolve().parent.parent
_MARK = "BENCH "
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a load did. `errors` are answers with a status of 400 or more, and connections that failed or timed out.

    Attributes:
        cpu_s: CPU time of the generator.
        unanswered: Open loop: requests that were still waiting at the end.
        latency_us, late_us: Open loop: quantiles of the answers' times and of the generator's own delay.
        notes: What of the row was not as asked.
    """

    requests: int
    errors: int
    seconds: float
    cpu_s: float
    unanswered: int = 0
    latency_us: dict[str, float] = field(default_factory=dict)
    late_us: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_requests(path: Path, requests: Sequence[Request], host: str) -> None:
    """The file that wrk.lua and openloop.py read."""
    path.write_bytes(SEPARATOR.join(request.encode(host) for request in requests))


def closed(address: str, requests: Path, scenario: Scenario, seconds: float, core: int) -> Load:
    """Load `address` (host:port) for `seconds`. Raises BenchError when wrk does not do its work."""
    argv = [
        *(str(tools.path("wrk")), "-t1", f"-c{scenario.connections}", f"-d{max(1, round(seconds))}s"),
        *("--timeout", "10s", "-s", str(SCRIPT), f"http://{address}/"),
        *("--", str(requests), "fresh" if scenario.fresh else "same"),
    ]
    output, cpu_s = run("wrk", argv, seconds, core)
    return parse(output, cpu_s)


def paced(address: str, requests: Path, scenario: Scenario, rate: float, seconds: float, core: int) -> Load:
    """`rate` requests a second at fixed times. Raises BenchError when the generator does not do its work."""
    argv = [
        *(sys.executable, "-m", "bench.openloop", address, str(requests), "--rate", f"{rate:g}"),
        *("--seconds", f"{seconds:g}", "--connections", str(scenario.connections)),
        *("--body-bytes", str(scenario.body_bytes)),
    ]
    output, cpu_s = run("the open loop", argv, seconds, core)
    got = json.loads(output)
    return Load(
        got["requests"], got["errors"], got["seconds"], cpu_s, got["unanswered"], got["latency_us"], got["late_us"]
    )


def run(name: str, argv: Sequence[str], seconds: float, core: int) -> tuple[str, float]:
    """A generator's output and its CPU seconds. Raises BenchError when it fails or does not end."""
    before = _children_cpu_s()
    try:
        with pinned(core):
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False, cwd=_ROOT
            )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} did not end within {seconds + _GRACE_S:g}s") from None
    if done.returncode != 0:
        raise BenchError(f"{name} ended with status {done.returncode}:\n{done.stderr or done.stdout}")
    return done.stdout, _children_cpu_s() - before


def parse(output: str, cpu_s: float) -> Load:
    """The figures in the line that wrk.lua prints. Raises BenchError when there is none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            got = json.loads(line.removeprefix(_MARK))
            return Load(int(got["requests"]), int(got["errors"]), got["microseconds"] / 1e6, cpu_s)
    raise BenchError(f"wrk printed no result; it said:\n{output}")


_FINISHED = re.compile(r"finished in ([0-9.]+)(us|ms|s|m)")
_COUNTS = re.compile(r"requests: \d+ total, \d+ started, (\d+) done")
_SUCCEEDED = re.compile(r"status codes: (\d+) 2xx")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def parse_h2load(output: str, cpu_s: float) -> Load:
    """The figures that h2load prints. Raises BenchError when they are not there."""
    took, counts, good = (pattern.search(output) for pattern in (_FINISHED, _COUNTS, _SUCCEEDED))
    if took is None or counts is None or good is None:
        raise BenchError(f"h2load printed no result; it said:\n{output}")
    # Timed runs count what was under way at the end neither as done nor as failed.
    done, succeeded = int(counts[1]), int(good[1])
    return Load(done, done - succeeded, float(took[1]) * _UNITS[took[2]], cpu_s)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
