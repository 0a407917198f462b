"""Envoy from the Python package, one worker, with the configuration of envoy_config.py."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from bench import tools
from bench.identities import Authority, Door
from bench.process import BenchError, Process
from bench.proxies.envoy_config import Config, configuration, discovered_routes, route_document
from bench.proxies.envoy_mesh import inbound_listener
from bench.proxies.site import Site
from bench.scenarios import EQUAL, MINIMAL

_HTTP_S = 5.0
# Nothing but what the configuration says: no shared memory with another Envoy, no warning for each default.
_FLAGS = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")


class RunningEnvoy:
    """An Envoy process in `folder`."""

    def __init__(self, name: str, folder: Path, core: int, config: Config) -> None:
        envoy = tools.path("envoy")
        file, admin = folder / "envoy.json", folder / "admin.txt"
        file.write_text(json.dumps(config, indent=1))
        _validate(envoy, file)
        argv = [envoy, "-c", file, "--admin-address-path", admin, *_FLAGS]
        self.process = Process(name, argv, core=core, log=folder / "envoy.log")
        self._admin = self.process.wait_for("admin address", lambda: _text(admin))

    def ask(self, path: str) -> dict[str, Any]:
        """What the admin port says, JSON."""
        with urllib.request.urlopen(f"http://{self._admin}{path}", timeout=_HTTP_S) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def listening(self, listener: str) -> str:
        """host:port of the listener of this name, once Envoy is live. Raises BenchError."""
        return self.process.wait_for(f"listener {listener}", lambda: _listener(self._admin, listener))


class Envoy:
    """A running Envoy in front of the backend. `door` is its side for other sidecars, when the row uses one."""

    def __init__(self, site: Site, *, minimal: bool) -> None:
        self.name = MINIMAL if minimal else EQUAL
        self.door: Door | None = None
        config = configuration(site, minimal=minimal)
        scenario = site.scenario
        if scenario.pushes:
            self._pushed = site.folder / "routes.json"
            self._documents = [route_document(site, turn) for turn in range(2)]
            self.push(0)
            discovered_routes(config, self._pushed)
        authority = Authority() if scenario.has_door else None
        if authority is not None:
            config["static_resources"]["listeners"].append(inbound_listener(site, authority, "v1"))
        self._running = RunningEnvoy(self.name, site.folder, site.core, config)
        self.address = self._running.listening("bench")
        if authority is not None:
            self.door = authority.door(self._running.listening("inbound"), "bench", site.folder)

    def push(self, turn: int) -> None:
        """A configuration whose first route has other weights than the last."""
        beside = self._pushed.with_suffix(".new")
        beside.write_text(self._documents[turn % 2])
        beside.replace(self._pushed)  # Envoy looks when a file is moved there

    def pushes_taken(self) -> int:
        """What its statistics say; minimal Envoy has this one counter when it is pushed to."""
        found = self._running.ask("/stats?format=json&filter=rds.bench.config_reload$")
        return int(found["stats"][0]["value"]) if found["stats"] else 0

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._running.process.pids

    def stop(self) -> None:
        """End it."""
        self._running.process.stop()


def _validate(envoy: Path, config: Path) -> None:
    done = subprocess.run(
        [envoy, "--mode", "validate", "-c", config, *_FLAGS], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"Envoy refuses {config}:\n{done.stderr or done.stdout}")


def _text(path: Path) -> str | None:
    return path.read_text().strip() or None if path.exists() else None


def _listener(admin: str, name: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=_HTTP_S) as answer:
            known = json.load(answer).get("listener_statuses", [])
    except OSError:
        return None
    for status in known:
        address = status["local_address"]["socket_address"]
        if status["name"] == name and address["port_value"]:
            return f"{address['address']}:{address['port_value']}"
    return None
