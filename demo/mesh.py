"""A whole mesh on loopback: control plane, five apps, a sidecar beside each. For `make demo` and for tests.

    async with DemoMesh(folder) as mesh:
        await mesh.meshctl("traffic", "set", "orders", "v1=50", "v2=50", "-n", "shop", "--wait")
        await mesh.kill("orders-1")

Everything runs as users run it: the installed commands, real files in `folder`, real ports. Processes go by the names
`control-plane`, `orders-1` (the app) and `orders-1-sidecar`. Whatever happens to this process, they end with it.
"""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import trio
import yaml

from demo.http1 import Answer, NoAnswer, Request, ask
from demo.process import DemoError, Process, free_ports

NAMESPACE = "shop"
SERVICE_PORT = 8080  # what callers know; where an app really listens is its sidecar's business
SHOP = Path(__file__).with_name("shop.yaml")
CONTROL_PLANE = "control-plane"
START_S = 60.0  # 3 s on two idle cores
_POLL_S = 0.05
_BIN = Path(sys.executable).parent
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Instance:
    """One app with its sidecar."""

    name: str
    service: str
    version: str = ""
    calls: str = ""


INSTANCES = (
    Instance("frontend-1", "frontend", calls="orders"),
    Instance("orders-1", "orders", "v1", calls="stock"),
    Instance("orders-2", "orders", "v1", calls="stock"),
    Instance("orders-3", "orders", "v2", calls="stock"),
    Instance("stock-1", "stock"),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where one instance listens. `upstream` is the sidecar's listener for the service that the app calls."""

    app: str
    inbound: str
    outbound: str
    upstream: str
    admin: str
    metrics: str


class DemoMesh:
    """Use as an async context manager, in the main thread. Leaving it stops everything.

    Attributes:
        folder: Files, logs (`NAME.log`) and the control plane's data.
        server: Base URL of the API. `token_file` opens it.
        processes: By name, in the order of their start.
    """

    def __init__(
        self, folder: Path, *, instances: tuple[Instance, ...] = INSTANCES, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder = folder
        self.instances = {instance.name: instance for instance in instances}
        self.processes: dict[str, Process] = {}
        self._tell = tell
        ports = free_ports(2 + 6 * len(instances))
        addresses = iter([f"127.0.0.1:{port}" for port in ports])
        self._api, self._streams = next(addresses), next(addresses)
        self.addresses = {name: Addresses(*(next(addresses) for _ in range(6))) for name in self.instances}
        self.server = f"http://{self._api}"
        self.token_file = folder / "data/api.token"

    @property
    def door(self) -> str:
        """Address of the frontend's app, where clients from outside come in."""
        return self.addresses["frontend-1"].app

    async def __aenter__(self) -> "DemoMesh":
        try:
            with trio.move_on_after(START_S) as scope:
                await self._start()
            if scope.cancelled_caught:
                raise DemoError(f"the mesh was not ready within {START_S:g} s\n{self.complaints()}")
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    # What may be done to a process, by name.

    def start(self, name: str) -> None:
        """Start a process that was stopped or killed; ports and files are those of before."""
        self.processes[name].start()

    async def stop(self, name: str) -> None:
        """SIGTERM, and wait for the end."""
        await self.processes[name].stop()

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        await self.processes[name].kill()

    async def restart(self, name: str) -> None:
        """Stop, start, and wait until it is ready."""
        await self.stop(name)
        self.start(name)
        await self.ready(name)

    async def kill_busy(self, name: str, at_least: int = 5) -> int:
        """SIGKILL an app while it works on at least so many requests; return how many it said. Needs traffic."""
        while True:
            busy = int((await self.counts(name))["in_flight"])
            if busy >= at_least:
                await self.kill(name)  # sends the signal before it waits for anything
                return busy
            await trio.sleep(0.002)

    async def ready(self, name: str) -> None:
        """Return when the process serves. Raises DemoError when it ends instead."""
        process = self.processes[name]
        while not await self._serves(name):
            if not process.running:
                raise DemoError(f"{name} ended before it was ready\n{self.complaints(name)}")
            await trio.sleep(_POLL_S)

    # Asking.

    async def meshctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run meshctl against this mesh, as a user would; any exit status is fine."""
        command = [str(_BIN / "meshctl"), *arguments, "--server", self.server, "--token-file", str(self.token_file)]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    async def api(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call the control plane's API. Raises NoAnswer when it is away, DemoError when it refuses."""
        fields = {"authorization": f"Bearer {self.token_file.read_text('ascii').strip()}"}
        sent = b"" if body is None else json.dumps(body).encode()
        answer = await ask(self._api, Request(method, path, fields, sent))
        if answer.status != 200:
            raise DemoError(f"{method} {path}: {answer.status} {answer.body.decode()}")
        return json.loads(answer.body)

    async def counts(self, name: str) -> dict[str, Any]:
        """What an app says it has served. Raises NoAnswer when it does not run."""
        got: dict[str, Any] = json.loads((await ask(self.addresses[name].app, Request(target="/counts"))).body)
        return got

    async def admin(self, name: str, path: str, method: str = "GET") -> Answer:
        """Ask the admin listener of an instance's sidecar: /clusters, /config, /stats, ..."""
        return await ask(self.addresses[name].admin, Request(method, path))

    async def metrics(self, name: str) -> str:
        """The Prometheus text of an instance's sidecar."""
        return (await ask(self.addresses[name].metrics, Request(target="/metrics"))).body.decode()

    def complaints(self, *names: str) -> str:
        """The last lines of the logs of these processes, or of all that have ended or printed nothing good."""
        chosen = names or [name for name, process in self.processes.items() if not process.running] or self.processes
        return "\n".join(f"--- {self.processes[name].log}\n{self.processes[name].last_lines()}" for name in chosen)

    # Start and end.

    async def _start(self) -> None:
        self._tell("starting the control plane and the apps")
        serve = ("serve", "--data", self.folder / "data", "--api", self._api, "--listen", self._streams)
        self._run(CONTROL_PLANE, _BIN / CONTROL_PLANE, *serve)
        for instance in self.instances.values():
            self._run(instance.name, sys.executable, *self._app(instance))
        await self.ready(CONTROL_PLANE)
        self._tell("starting a sidecar beside each app")
        await for_each(self._start_sidecar, self.instances.values())
        done = await self.meshctl("apply", "-f", str(SHOP), "--wait")
        if done.returncode != 0:
            raise DemoError(f"meshctl apply -f {SHOP}: status {done.returncode}\n{done.stderr}")

    def _run(self, name: str, *command: str | Path) -> None:
        process = self.processes[name] = Process(name, command, self.folder / f"{name}.log")
        process.start()

    def _app(self, instance: Instance) -> Iterator[str]:
        own = self.addresses[instance.name]
        yield from ("-m", "demo.service", "--service", instance.service, "--id", instance.name, "--listen", own.app)
        yield from ("--version", instance.version) if instance.version else ()
        yield from ("--calls", f"{instance.calls}={own.upstream}") if instance.calls else ()

    async def _start_sidecar(self, instance: Instance) -> None:
        """First contact as everywhere: a token for the service, a join file, a bootstrap file."""
        asked = {"service": instance.service, "namespace": NAMESPACE, "uses": 10}
        join = self.folder / f"{instance.name}.join.pem"
        join.touch(0o600)
        join.write_text((await self.api("POST", "/v1/tokens", asked))["join_file"], "ascii")
        file = self.folder / f"{instance.name}.yaml"
        file.write_text(yaml.safe_dump(self.bootstrap(instance), sort_keys=False), "utf-8")
        name = f"{instance.name}-sidecar"
        self._run(name, _BIN / "sidecar", "run", "-c", file)
        await self.ready(name)

    def bootstrap(self, instance: Instance) -> dict[str, Any]:
        """The bootstrap file of an instance's sidecar; tests may add to it."""
        own = self.addresses[instance.name]
        node = {"service": instance.service, "namespace": NAMESPACE, "id": instance.name}
        upstream = {"service": f"{instance.calls}.{NAMESPACE}", "port": SERVICE_PORT, "listen": own.upstream}
        return {
            "node": node | ({"version": instance.version} if instance.version else {}),
            "control_plane": {
                "address": self._streams,
                "join_file": f"./{instance.name}.join.pem",
                "cache": f"./{instance.name}.cache",
                "report_interval": "1s",
            },
            "inbound": {
                "listen": [own.inbound],
                "ports": [{"port": SERVICE_PORT, "protocol": "http", "app": own.app}],
            },
            "outbound": {"listen": [own.outbound], "upstreams": [upstream] if instance.calls else []},
            "admin": {"listen": own.admin},
            "metrics": {"listen": own.metrics},
            "limits": {"drainDelay": "1s", "drainTimeout": "4s"},
        }

    async def _serves(self, name: str) -> bool:
        if name == CONTROL_PLANE:
            address, path = self._api, "/ready"
        elif name in self.addresses:
            address, path = self.addresses[name].app, "/healthz"
        else:
            address, path = self.addresses[name.removesuffix("-sidecar")].metrics, "/ready"
        try:
            return (await ask(address, Request(target=path))).status == 200
        except NoAnswer:
            return False

    async def _stop(self) -> None:
        """Callers first, so that nobody calls what is gone; the control plane last."""
        with trio.CancelScope(shield=True):  # each stop has its own bound
            apps = [process for name, process in self.processes.items() if name in self.instances]
            sidecars = [process for name, process in self.processes.items() if name.endswith("-sidecar")]
            await for_each(Process.stop, apps)
            await for_each(Process.stop, sidecars)
            if CONTROL_PLANE in self.processes:
                await self.processes[CONTROL_PLANE].stop()


async def for_each(act: Callable[[T], Awaitable[None]], things: Iterable[T]) -> None:
    """Act on all at a time; the first DemoError is raised as it is."""
    try:
        async with trio.open_nursery() as nursery:
            for thing in things:
                nursery.start_soon(act, thing)
    except BaseExceptionGroup as group:
        known = group.subgroup(DemoError)
        if known is None:
            raise
        raise _first(known) from group


def _first(group: BaseExceptionGroup[DemoError]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
