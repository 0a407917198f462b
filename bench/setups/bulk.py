"""One long plain stream through a proxy that reads nothing. What is counted is megabytes (10^6 bytes).

Microseconds a megabyte are milliseconds a gigabyte.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from bench import load
from bench.cores import Cores
from bench.load import Load
from bench.ports import accepts, free_port
from bench.process import BenchError, Process
from bench.proxies import Proxy, start_all
from bench.scenarios import Scenario

_MEGABYTE = 1_000_000


class Bulk:
    """`Setup`: see bench/setups/__init__.py."""

    def __init__(self, scenario: Scenario, folder: Path, cores: Cores, running: ExitStack) -> None:
        self._core = cores.load
        port = free_port()
        argv = [sys.executable, "-m", "bench.stream", "serve", f"0.0.0.0:{port}"]
        source = Process("the stream's source", argv, core=cores.load, log=folder / "source.log")
        running.callback(source.stop)
        source.wait_for("listening", lambda: accepts("127.0.0.1", port) or None)
        self.proxies = start_all(scenario, folder, cores.proxy, port, running)

    def check(self, proxy: Proxy) -> None:
        """Bytes come, and the stream does not end."""
        if self.load(proxy, 0.2).errors:
            raise BenchError(f"{proxy.name} ended the stream")

    def load(self, proxy: Proxy, seconds: float) -> Load:
        """Read for so long."""
        argv = [sys.executable, "-m", "bench.stream", "read", proxy.address, f"{seconds:g}"]
        output, cpu_s = load.run("the stream's reader", argv, seconds, self._core)
        got = json.loads(output)
        return Load(got["bytes"] // _MEGABYTE, got["errors"], got["seconds"], cpu_s)
