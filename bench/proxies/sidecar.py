"""Our sidecar as users run it: `sidecar run -c FILE` with a static folder, metrics on."""

import json
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import mesh
from bench.compare import checkout
from bench.identities import Authority, Door
from bench.process import Process
from bench.proxies.documents import FILE, text, write_others
from bench.proxies.site import Site
from bench.scenarios import FAST, FULL, Kind, Log, Scenario

Sections = dict[str, object]  # of a bootstrap file
ANY_PORT = "127.0.0.1:0"


class Sidecar:
    """The calling side's sidecar in front of the backend's endpoints, without mTLS.

    `door` is its side for other sidecars, when the row uses one.
    """

    def __init__(
        self, site: Site, *, fast_path: bool, called: str = "", policy: Mapping[str, object] | None = None
    ) -> None:
        scenario, folder = site.scenario, site.folder
        self.name = called or (FAST if fast_path else FULL)
        self.door: Door | None = None
        self._documents = [
            text(site.port, routes=scenario.routes, protocol=protocol_of(scenario), turn=turn, policy=policy)
            for turn in range(2)
        ]
        self._file = folder / "mesh.d" / FILE
        self._file.parent.mkdir()
        self._file.write_text(self._documents[0])
        write_others(self._file.parent, site.port, scenario.routes)
        authority = Authority() if scenario.has_door else None
        sections: Sections = {}
        if authority is not None:
            app = f"{mesh.ENDPOINTS['v1'][0]}:{site.port}"
            inbound = {"listen": [ANY_PORT], "ports": [{"port": site.port, "app": app}]}
            sections = {"identity": authority.write(folder, mesh.NAMESPACE, mesh.CALLER), "inbound": inbound}
        bootstrap = bootstrap_of(mesh.CALLER, fast_path=fast_path, log=scenario.log, sections=sections)
        self._running = RunningSidecar(self.name, folder, site.core, bootstrap)
        self.address = self._running.listening("outbound")
        if authority is not None:
            name = f"{site.port}.{mesh.CALLER}.{mesh.NAMESPACE}.mesh"
            self.door = authority.door(self._running.listening("inbound"), name, folder)

    def push(self, turn: int) -> None:
        """A configuration whose last route has other weights than before."""
        beside = self._file.with_suffix(".new")
        beside.write_text(self._documents[turn % 2])
        beside.replace(self._file)
        self._running.process.send(signal.SIGHUP)  # it looks by itself each second; this is at once

    def pushes_taken(self) -> int:
        """What it says of itself."""
        return self._running.process.output().count("configuration reloaded")

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._running.pids

    def stop(self) -> None:
        """End it."""
        self._running.stop()


def protocol_of(scenario: Scenario) -> str:
    """What the backend's port declares."""
    return {Kind.HTTP2: "http2", Kind.GRPC: "grpc"}.get(scenario.kind, "auto")


def bootstrap_of(service: str, *, fast_path: bool, log: Log = Log.ERRORS, sections: Sections | None = None) -> Sections:
    """A bootstrap file's content: every port free to choose, resources from the folder mesh.d beside it."""
    return {
        "node": {"service": service, "namespace": mesh.NAMESPACE},
        "static": "mesh.d",
        "outbound": {"listen": [ANY_PORT]},
        "admin": {"listen": ANY_PORT},
        "metrics": {"listen": ANY_PORT},
        "access_log": {"path": "access.log", "when": log.value},
        "fast_path": fast_path,
        **(sections or {}),
    }


class RunningSidecar:
    """A `sidecar run -c FILE` in `folder`."""

    def __init__(self, name: str, folder: Path, core: int, bootstrap: Sections) -> None:
        source = checkout(name)
        config = folder / "sidecar.yaml"
        config.write_text(json.dumps(bootstrap, indent=1))
        # The script stands beside the interpreter that runs the benchmark: same installation, same environment.
        argv = [Path(sys.executable).with_name("sidecar"), "run", "-c", config]
        # A path in PYTHONPATH goes before the environment's own, so that another commit's source is found there.
        more = {} if source is None else {"PYTHONPATH": str(source)}
        self.process = Process(name, argv, core=core, log=folder / "sidecar.log", environment=more)

    def listening(self, listener: str) -> str:
        """The address that the listener of this name says it has. Raises BenchError."""
        line = re.compile(rf"^listening {re.escape(listener)} (\S+)$", re.MULTILINE)

        def probe() -> str | None:
            found = line.search(self.process.output())
            return found[1] if found else None

        return self.process.wait_for(f"listening {listener}", probe)

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self.process.pids

    def stop(self) -> None:
        """End it without the delay that a SIGTERM brings: no caller has to hear of it."""
        self.process.stop(signal.SIGINT)
