"""A relay that keeps the bytes of both directions, and a port that keeps the first bytes and hangs up.

Threads, because the programs on both sides are children that this process waits for.
"""

import socket
import threading
import time
from dataclasses import dataclass, field

_READ_BYTES = 65536
_PATIENCE_S = 20.0  # a recording takes some seconds; nothing of it waits longer than a client's own timeout
_POLL_S = 0.05


@dataclass
class Connection:
    """What went over one connection."""

    client: bytearray = field(default_factory=bytearray)
    server: bytearray = field(default_factory=bytearray)


class Tee:
    """Listens on a port of 127.0.0.1 and passes everything on to another one."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def taken(self, until: bytes = b"") -> list[Connection]:
        """The connections since the last call; those that are still open with what they have brought so far.

        Waits first until a client has sent `until`.
        """
        give_up_s = time.monotonic() + _PATIENCE_S
        while not any(until in one.client for one in self._connections) and time.monotonic() < give_up_s:
            if not until:
                break
            time.sleep(_POLL_S)
        taken, self._connections = self._connections, []
        return taken

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        one = Connection()
        self._connections.append(one)
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), _PATIENCE_S)
        except OSError:
            client.close()
            return
        client.settimeout(_PATIENCE_S)
        for source, sink, kept in ((client, server, one.client), (server, client, one.server)):
            threading.Thread(target=_relay, args=(source, sink, kept), daemon=True).start()


class FirstBytes(Tee):
    """Keeps what a client says first, and hangs up."""

    def __init__(self) -> None:
        super().__init__(0)

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_PATIENCE_S)
        one = Connection()
        self._connections.append(one)
        with client:
            try:
                one.client += client.recv(_READ_BYTES)
            except OSError:
                pass


def _relay(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    try:
        while data := source.recv(_READ_BYTES):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            end.close()
