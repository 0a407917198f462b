"""Everything that the interop tests talk to: upstreams, and two sidecars between which there is mutual TLS.

The calling sidecar has a listener for each (upstream, version): as service `plain`, which it dials itself, as `auto`,
which is the same without a declared protocol, and as `meshed`, which stands behind the called sidecar. Static folder,
no control plane.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from demo.process import free_ports
from tests.interop import cases
from tests.interop.cases import Transport
from tests.interop.children import Child, start
from tests.interop.clients import RUN
from tests.interop.record import Ask, Record
from tests.interop.upstreams import asgi
from tests.interop.upstreams.farm import H1, H2, Farm
from tests.support import pki
from tests.support.processes import BIN

_PROTOCOL = {H1: "http", H2: "http2"}
SERVICES = ("plain", "meshed", "auto")


@dataclass
class World:
    """What runs; each part is started when a test first asks for it."""

    folder: Path

    def __post_init__(self) -> None:
        self.direct_records: dict[tuple[str, str, Ask, int], Record] = {}
        self.bodies = self.folder / "bodies"
        self.bodies.mkdir()
        (self.bodies / cases.SMALL_UPLOAD).write_bytes(asgi.BIG[: 64 * 1024 + 7])
        (self.bodies / cases.BIG_UPLOAD).write_bytes(asgi.BIG)

    @cached_property
    def farm(self) -> Farm:
        """The upstreams."""
        return Farm(self.folder)

    @cached_property
    def sidecars(self) -> "Sidecars":
        """Ours."""
        return Sidecars(self.folder, self.farm)

    def stop(self) -> None:
        """End all processes."""
        for name in ("sidecars", "farm"):
            if name in self.__dict__:
                getattr(self, name).stop()

    def directly(self, client: str, version: str, upstream: str, upstream_version: str, ask: Ask) -> Record:
        """What a client sees without us."""
        self.farm.need(upstream)
        key = (client, version, ask, self.farm.ports[upstream, upstream_version])
        if key not in self.direct_records:
            self.direct_records[key] = _run(client, version, key[-1], ask)
        return self.direct_records[key]

    def through(self, client: str, transport: Transport, upstream: str, ask: Ask) -> Record:
        """What a client sees through us."""
        self.farm.need(upstream)
        port = self.farm.ports[upstream, transport.upstream]
        return _run(client, transport.client, self.sidecars.port(port, transport.hop), ask)


def _run(client: str, version: str, port: int, ask: Ask) -> Record:
    """Run a client; where an upstream tells of the port that was dialled, the word PORT stands in the record."""
    record = RUN[client](version, port, ask)
    if record.seen is not None:
        text = json.dumps(record.seen).replace(f"127.0.0.1:{port}", "127.0.0.1:PORT")
        record = Record(**{**record.__dict__, "seen": json.loads(text)})
    return record


class Sidecars:
    """The calling and the called sidecar."""

    def __init__(self, folder: Path, farm: Farm) -> None:
        inbound = free_ports(1)[0]
        protocols = {port: "grpc" if up == "grpcio" else _PROTOCOL[v] for (up, v), port in farm.ports.items()}
        _write_resources(folder, protocols, inbound)
        self._children: list[Child] = []
        try:
            called = self._start(folder, "called", _called(folder, protocols, inbound))
            calling = self._start(folder, "calling", _calling(folder, protocols))
            called.until_listening(inbound)
            for port in protocols:
                calling.until_said(rf"^listening outbound {SERVICES[-1]}\S*:{port} ")
        except BaseException:
            self.stop()
            raise
        self._ports = calling.listening()

    def port(self, upstream_port: int, service: str) -> int:
        """Where the calling sidecar listens for an upstream's port; `service` is one of SERVICES."""
        return self._ports[f"outbound {service}.shop:{upstream_port}"]

    def stop(self) -> None:
        """End both."""
        for child in self._children:
            child.stop()

    def _start(self, folder: Path, name: str, bootstrap: dict[str, Any]) -> Child:
        path = folder / f"{name}.yaml"
        # JSON is YAML without its surprises.
        path.write_text(json.dumps(bootstrap, indent=1))
        child = start(name, (BIN / "sidecar", "run", "-c", path), folder)
        self._children.append(child)
        return child


def _common(folder: Path, account: str) -> dict[str, Any]:
    identity = pki.identity(account)
    for ending, content in (("crt", identity.chain_pem), ("key", identity.key_pem), ("ca", identity.bundle_pem)):
        file = folder / f"{account}.{ending}"
        file.write_bytes(content)
        file.chmod(0o600)
    return {
        "node": {"service": account, "namespace": "shop"},
        "static": "./mesh.d",
        "identity": {"cert": f"{account}.crt", "key": f"{account}.key", "bundle": f"{account}.ca"},
        "admin": {"listen": "127.0.0.1:0"},
        "metrics": {"listen": "127.0.0.1:0"},
        "access_log": {"path": f"{account}.access.log", "when": "all"},
    }


def _called(folder: Path, protocols: dict[int, str], inbound: int) -> dict[str, Any]:
    ports = [{"port": port, "protocol": protocol, "app": f"127.0.0.1:{port}"} for port, protocol in protocols.items()]
    inward = {"listen": [f"127.0.0.1:{inbound}"], "ports": ports}
    return {**_common(folder, "meshed"), "inbound": inward, "outbound": {"listen": []}}


def _calling(folder: Path, protocols: dict[int, str]) -> dict[str, Any]:
    upstreams = [
        {"service": f"{service}.shop", "port": port, "listen": "127.0.0.1:0"}
        for service in SERVICES
        for port in protocols
    ]
    return {**_common(folder, "frontend"), "outbound": {"listen": [], "upstreams": upstreams}}


def _write_resources(folder: Path, protocols: dict[int, str], inbound: int) -> None:
    declared = [{"port": port, "protocol": protocol} for port, protocol in protocols.items()]
    silent = [{"port": port} for port in protocols]
    resources = folder / "mesh.d"
    resources.mkdir()
    own: dict[str, dict[str, Any]] = {
        "plain": {"ports": declared},
        "meshed": {"ports": declared, "inbound": inbound, "account": "meshed"},
        "auto": {"ports": silent},
    }
    for service in SERVICES:
        document = {
            "apiVersion": "sidecar-mesh.dev/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": f"{service}-1", "namespace": "shop"},
            "spec": {"service": service, "address": "127.0.0.1", **own[service]},
        }
        (resources / f"{service}.yaml").write_text(json.dumps(document, indent=1))
