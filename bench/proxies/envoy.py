"""Envoy from the Python package, one worker, with the configuration of envoy_config.py."""

import json
import subprocess
import urllib.request
from pathlib import Path

from bench import tools
from bench.process import BenchError, Process
from bench.proxies.envoy_config import configuration
from bench.proxies.site import Site
from bench.scenarios import EQUAL, MINIMAL

_HTTP_S = 5.0
# Nothing but what the configuration says: no shared memory with another Envoy, no warning for each default.
_FLAGS = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")


class Envoy:
    """A running Envoy in front of the backend."""

    def __init__(self, site: Site, *, minimal: bool) -> None:
        self.name = MINIMAL if minimal else EQUAL
        envoy, folder = tools.path("envoy"), site.folder
        config, admin = folder / "envoy.json", folder / "admin.txt"
        config.write_text(json.dumps(configuration(site, minimal=minimal), indent=1))
        _validate(envoy, config)
        argv = [envoy, "-c", config, "--admin-address-path", admin, *_FLAGS]
        self._process = Process(self.name, argv, core=site.core, log=folder / "envoy.log")
        address = self._process.wait_for("admin address", lambda: _text(admin))
        self.address = self._process.wait_for("listener", lambda: _listener(address))

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it."""
        self._process.stop()


def _validate(envoy: Path, config: Path) -> None:
    done = subprocess.run(
        [envoy, "--mode", "validate", "-c", config, *_FLAGS], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"Envoy refuses {config}:\n{done.stderr or done.stdout}")


def _text(path: Path) -> str | None:
    return path.read_text().strip() or None if path.exists() else None


def _listener(admin: str) -> str | None:
    """Where the one listener listens, once Envoy is live."""
    try:
        with urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=_HTTP_S) as answer:
            known = json.load(answer).get("listener_statuses", [])
    except OSError:
        return None
    for status in known:
        address = status["local_address"]["socket_address"]
        if address["port_value"]:
            return f"{address['address']}:{address['port_value']}"
    return None
