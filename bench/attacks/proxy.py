"""The sidecar under attack, as users run it, and what the kernel and its admin listener say of it.

One process: outbound listeners for the victim's service and for the hostile one, and a mutual TLS inbound listener in
front of the hostile one. Its resources are a static folder; nothing is set that is not the default, but for what an
attack itself asks for.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import procfs
from bench.attacks.counted import TASKS
from bench.attacks.site import LOCAL, Site
from bench.identities import Authority

READY_S = 20.0
STOP_S = 10.0
ANSWER_S = 5.0
_POLL_S = 0.05
ANY_PORT = f"{LOCAL}:0"


@dataclass(frozen=True, slots=True)
class Reading:
    """The process at one moment."""

    rss_kib: int
    descriptors: int
    tasks: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Services:
    """Ports of 127.0.0.1: the victim's service over HTTP/1.1 and HTTP/2, the hostile one's three, and one that is
    closed."""

    fast1: int
    fast2: int
    http1: int
    http2: int
    tcp: int


class Proxy:
    """See the module's text. `more` are sections of the bootstrap file, `documents` further resources."""

    def __init__(
        self,
        folder: Path,
        services: Services,
        core: int | None,
        more: Mapping[str, object] | None = None,
        documents: tuple[dict[str, Any], ...] = (),
    ) -> None:
        self._folder = folder
        self.services = services
        self._tasks = folder / "tasks"
        self.log = folder / "sidecar.log"
        self.access_log = folder / "access.log"
        authority = Authority()
        identity = authority.write(folder, "shop", "hostile")
        _attacker_files(authority, folder)
        self._write_resources(documents)
        config = folder / "sidecar.yaml"
        config.write_text(json.dumps(self._bootstrap(identity) | dict(more or {}), indent=1))
        with self.log.open("wb") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "bench.attacks.counted", "run", "-c", str(config)],
                env=os.environ | {TASKS: str(self._tasks)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        if core is not None:
            os.sched_setaffinity(self._child.pid, {core})
        self._until_ready()

    def _bootstrap(self, identity: dict[str, str]) -> dict[str, object]:
        ports = self.services
        upstreams = [{"service": "fast.shop", "port": port, "listen": ANY_PORT} for port in (ports.fast1, ports.fast2)]
        upstreams += [
            {"service": "hostile.shop", "port": port, "listen": ANY_PORT}
            for port in (ports.http1, ports.http2, ports.tcp)
        ]
        return {
            "node": {"service": "hostile", "namespace": "shop"},
            "static": "mesh.d",
            "identity": identity,
            "inbound": {
                "listen": [ANY_PORT],
                "ports": [{"port": ports.http1, "protocol": "http", "app": f"{LOCAL}:{ports.http1}"}],
            },
            "outbound": {"listen": [], "upstreams": upstreams},
            "admin": {"listen": ANY_PORT},
            "metrics": {"listen": ANY_PORT},
            "access_log": {"path": "access.log", "when": "errors"},
        }

    def _write_resources(self, documents: tuple[dict[str, Any], ...]) -> None:
        ports = self.services
        made = [
            _workload("fast", {ports.fast1: "http", ports.fast2: "http2"}),
            _workload("hostile", {ports.http1: "http", ports.http2: "http2", ports.tcp: "tcp"}),
            *documents,
        ]
        resources = self._folder / "mesh.d"
        resources.mkdir()
        (resources / "mesh.yaml").write_text("\n---\n".join(json.dumps(one, indent=1) for one in made))

    def site(self, seconds: float, *, long: bool) -> Site:
        """For the attacker."""
        ports = self.services
        return Site(
            http1=self.port(f"outbound hostile.shop:{ports.http1}"),
            http2=self.port(f"outbound hostile.shop:{ports.http2}"),
            tcp=self.port(f"outbound hostile.shop:{ports.tcp}"),
            inbound=self.port("inbound"),
            app=ports.http1,
            folder=str(self._folder),
            seconds=seconds,
            long=long,
        )

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    @property
    def fast(self) -> tuple[int, int]:
        """Where the victim's service is reached over HTTP/1.1 and over HTTP/2."""
        ports = self.services
        return self.port(f"outbound fast.shop:{ports.fast1}"), self.port(f"outbound fast.shop:{ports.fast2}")

    def port(self, listener: str) -> int:
        """Where the listener of this name listens, by what the command printed."""
        for line in self.said():
            if line.startswith(f"listening {listener} "):
                return int(line.rpartition(":")[2])
        raise AssertionError(f"no listener {listener!r} among {self.said()}")

    def said(self) -> list[str]:
        """What it printed."""
        return self.log.read_text("utf-8", "replace").splitlines()

    def logged(self) -> list[str]:
        """Lines of the access log."""
        return self.access_log.read_text("utf-8").splitlines() if self.access_log.exists() else []

    def stats(self) -> dict[str, Any]:
        """What `/stats` says. Waits; call it from a thread."""
        url = f"http://{LOCAL}:{self.port('admin')}/stats"
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def counted(self, name: str, label: str) -> dict[str, float]:
        """A metric's values by one of its labels."""
        return {one["labels"][label]: one["value"] for one in self.stats()["values"].get(name, [])}

    def read(self) -> Reading:
        """The process now. Waits for its event loop; call it from a thread."""
        self._tasks.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGRTMIN)
        until = time.monotonic() + ANSWER_S
        while not self._tasks.exists() and time.monotonic() < until:
            time.sleep(_POLL_S / 10)
        tasks = int(self._tasks.read_text()) if self._tasks.exists() else -1
        return Reading(
            rss_kib=self.rss_kib(),
            descriptors=len(list(Path(f"/proc/{self.pid}/fd").iterdir())),
            tasks=tasks,
            cpu_s=procfs.cpu_ticks([self.pid]) / procfs.TICKS_PER_S,
        )

    def rss_kib(self) -> int:
        """Resident memory now."""
        return procfs.rss_kib([self.pid])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

    @property
    def status(self) -> int | None:
        """Its exit status once it has ended."""
        return self._child.poll()

    def stop(self) -> None:
        """End it; may be called twice."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(0.3)  # nobody uses it any more: a second signal ends its drain
            except subprocess.TimeoutExpired:
                self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _until_ready(self) -> None:
        until = time.monotonic() + READY_S
        wanted = 8  # listeners: two of the victim's service, three of the hostile one, inbound, admin, metrics
        while sum(line.startswith("listening ") for line in self.said()) < wanted:
            if self._child.poll() is not None or time.monotonic() > until:
                self.stop()
                raise AssertionError("the sidecar did not start:\n" + "\n".join(self.said()[-15:]))
            time.sleep(_POLL_S)


def _workload(service: str, ports: dict[int, str]) -> dict[str, Any]:
    return {
        "apiVersion": "sidecar-mesh.dev/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": f"{service}-1", "namespace": "shop"},
        "spec": {
            "service": service,
            "address": LOCAL,
            "ports": [{"port": port, "protocol": protocol} for port, protocol in ports.items()],
        },
    }


def _attacker_files(authority: Authority, folder: Path) -> None:
    """An identity for the attacker, beside the sidecar's own."""
    own = folder / "attacker"
    own.mkdir()
    authority.write(own, "shop", "attacker")
    (own / "svid.pem").rename(folder / "attacker.pem")
    (own / "svid.key").rename(folder / "attacker.key")
