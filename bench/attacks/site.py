"""What the attacker's process is told of the sidecar under attack, and how it connects to it.

Plain connections go to its outbound listeners, TLS ones to its inbound listener, with an identity of the mesh: whoever
attacks from there is a workload that was taken over.
"""

import json
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

LOCAL = "127.0.0.1"
SERVER_NAME = "{port}.hostile.shop.mesh"


@dataclass(frozen=True, slots=True)
class Site:
    """Ports of 127.0.0.1 and files.

    Attributes:
        http1, http2, tcp: Outbound listeners that lead to the hostile service's ports of these protocols.
        inbound: The mutual TLS listener in front of the hostile service's HTTP/1 port.
        app: That port, which the server name tells.
        folder: Where `attacker.pem`, `attacker.key` and `roots.pem` are.
        seconds: How long the attack lasts.
        long: It is the long run, on a sidecar with its default limits.
    """

    http1: int
    http2: int
    tcp: int
    inbound: int
    app: int
    folder: str
    seconds: float
    long: bool

    def text(self) -> str:
        """For the command line of the attacker."""
        return json.dumps(asdict(self))

    async def plain(self, port: int, receive_buffer: int = 0) -> trio.SocketStream:
        """A TCP connection; `receive_buffer` in bytes makes the kernel hold little for a client that does not read."""
        sock = trio.socket.socket()
        try:
            if receive_buffer:
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
            await sock.connect((LOCAL, port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def secure(self, alpn: str, receive_buffer: int = 0) -> "trio.SSLStream[trio.SocketStream]":
        """A connection to the inbound listener as a workload of the mesh, after its handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # identities of the mesh are no host names; whom it talks to, an attacker knows
        context.load_verify_locations(Path(self.folder) / "roots.pem")
        context.load_cert_chain(Path(self.folder) / "attacker.pem", Path(self.folder) / "attacker.key")
        context.set_alpn_protocols([alpn])
        stream = trio.SSLStream(
            await self.plain(self.inbound, receive_buffer),
            context,
            server_hostname=SERVER_NAME.format(port=self.app),
            https_compatible=True,
        )
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


def from_text(text: str) -> Site:
    """What `Site.text` made."""
    return Site(**json.loads(text))
