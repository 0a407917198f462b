"""The load generator: wrk, closed loop, with the requests of traffic.py.

A closed loop sends the next request when the answer is there: right for CPU per request and for saturation, wrong for
latency, so no latency is reported.
"""

import json
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import tools
from bench.process import BenchError, pinned
from bench.traffic import SEPARATOR, Request

SCRIPT = Path(__file__).with_name("wrk.lua")
_MARK = "BENCH "
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk did. `errors` are answers with a status of 400 or more, and connections that failed or timed out."""

    requests: int
    errors: int
    seconds: float
    cpu_s: float


def write_requests(path: Path, requests: Sequence[Request], host: str) -> None:
    """The file that wrk.lua reads."""
    path.write_bytes(SEPARATOR.join(request.encode(host) for request in requests))


def run(address: str, requests: Path, *, connections: int, fresh: bool, seconds: float, core: int) -> Load:
    """Load `address` (host:port) for `seconds`. Raises BenchError when wrk does not do its work."""
    argv = [
        *(str(tools.path("wrk")), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"),
        *("-s", str(SCRIPT), f"http://{address}/", "--", str(requests), "fresh" if fresh else "same"),
    ]
    before = _children_cpu_s()
    with pinned(core):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False)
    if done.returncode != 0:
        raise BenchError(f"wrk ended with status {done.returncode}:\n{done.stderr or done.stdout}")
    return parse(done.stdout, _children_cpu_s() - before)


def parse(output: str, cpu_s: float) -> Load:
    """The figures in the line that wrk.lua prints. Raises BenchError when there is none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            got = json.loads(line.removeprefix(_MARK))
            return Load(int(got["requests"]), int(got["errors"]), got["microseconds"] / 1e6, cpu_s)
    raise BenchError(f"wrk printed no result; it said:\n{output}")


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
