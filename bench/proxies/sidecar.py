"""Our sidecar as users run it: `sidecar run -c FILE` with a static folder, metrics on."""

import json
import re
import signal
import sys
from pathlib import Path

from bench import mesh
from bench.process import Process
from bench.proxies.documents import write_folder
from bench.proxies.site import Site
from bench.scenarios import FAST, FULL, Log

Sections = dict[str, object]  # of a bootstrap file
ANY_PORT = "127.0.0.1:0"


class Sidecar:
    """The calling side's sidecar in front of the backend's endpoints, without mTLS."""

    def __init__(self, site: Site, *, fast_path: bool) -> None:
        self.name = FAST if fast_path else FULL
        write_folder(site.folder / "mesh.d", site.port, routes=site.scenario.routes)
        bootstrap = bootstrap_of(mesh.CALLER, fast_path=fast_path, log=site.scenario.log)
        self._running = RunningSidecar(self.name, site.folder, site.core, bootstrap)
        self.address = self._running.listening("outbound")

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._running.pids

    def stop(self) -> None:
        """End it."""
        self._running.stop()


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
        config = folder / "sidecar.yaml"
        config.write_text(json.dumps(bootstrap, indent=1))
        # The script stands beside the interpreter that runs the benchmark: same installation, same environment.
        argv = [Path(sys.executable).with_name("sidecar"), "run", "-c", config]
        self._process = Process(name, argv, core=core, log=folder / "sidecar.log")

    def listening(self, listener: str) -> str:
        """The address that the listener of this name says it has. Raises BenchError."""
        line = re.compile(rf"^listening {re.escape(listener)} (\S+)$", re.MULTILINE)

        def probe() -> str | None:
            found = line.search(self._process.output())
            return found[1] if found else None

        return self._process.wait_for(f"listening {listener}", probe)

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it without the delay that a SIGTERM brings: no caller has to hear of it."""
        self._process.stop(signal.SIGINT)
