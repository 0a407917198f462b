"""A WebSocket client over HTTP/2 (RFC 8441): an extended CONNECT stream of python-h2, frames by wsproto.

No client of the matrix can do this without TLS. It speaks with prior knowledge, makes one stream, and plays scripts of
text, binary, ping, say and close.
"""

import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage

from tests.interop.websocket import script
from tests.interop.websocket.script import Script

_READ_BYTES = 65536


def run(port: int, steps: Script, timeout_s: float) -> list[str]:
    """Play the steps on a new connection; return the transcript. `timeout_s` bounds each read."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as plain:
        stream = Stream(plain, f"127.0.0.1:{port}")
        return [_step(stream, kind, value) for kind, value in steps]


class Stream:
    """The one stream: WebSocket events both ways."""

    def __init__(self, plain: socket.socket, authority: str) -> None:
        self._socket = plain
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._frames = Connection(ConnectionType.CLIENT)
        self._h2.initiate_connection()
        self._flush()
        while not self._h2.remote_settings.enable_connect_protocol:  # not before the server has allowed it
            self._read()
        self._number = self._h2.get_next_available_stream_id()
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/echo?a=b"),
            (":authority", authority),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", script.SUBPROTOCOL),
        ]
        self._h2.send_headers(self._number, fields)
        self._flush()
        self.head: dict[bytes, bytes] = {}
        self.ended = False
        while not self.head:
            self._read()
        assert self.head[b":status"] == b"200", self.head
        assert self.head[b"sec-websocket-protocol"] == script.SUBPROTOCOL.encode()
        self._waiting = self._events()

    def send(self, event: Event) -> None:
        """Send a frame, as the windows allow."""
        data = self._frames.send(event)
        while data:
            room = min(self._h2.local_flow_control_window(self._number), self._h2.max_outbound_frame_size, len(data))
            if not room:
                self._read()
                continue
            self._h2.send_data(self._number, data[:room])
            data = data[room:]
            self._flush()

    def next(self) -> Event:
        """The next event from the server. AssertionError when the stream has ended."""
        return next(self._waiting)

    def _events(self) -> Iterator[Event]:
        while True:
            yield from self._frames.events()
            assert not self.ended, "the stream ended"
            self._read()

    def _read(self) -> None:
        data = self._socket.recv(_READ_BYTES)
        assert data, "the connection ended"
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.head = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self._frames.receive_data(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, self._number)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.ended = True
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


def _step(stream: Stream, kind: str, value: str) -> str:
    if kind == "ping":
        stream.send(Ping(payload=value.encode()))
        answer = stream.next()
        assert isinstance(answer, Pong), answer
        return f"pong {bytes(answer.payload).decode()}"
    if kind == "close":
        stream.send(CloseConnection(code=int(value), reason="so long"))
        closed = stream.next()
        assert isinstance(closed, CloseConnection), closed
        return f"closed {closed.code}"
    if kind == "binary":
        stream.send(BytesMessage(data=script.bytes_of(int(value))))
    else:
        stream.send(TextMessage(data=value if kind == "say" else script.text_of(int(value))))
    got = _message(stream)
    return f"said {got!s}" if kind == "say" else script.line(got)


def _message(stream: Stream) -> str | bytes:
    """The next whole message; pings on the way are answered."""
    pieces: list[str | bytes] = []
    while True:
        event = stream.next()
        if isinstance(event, Ping):
            stream.send(event.response())
            continue
        assert isinstance(event, Message), event
        pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if event.message_finished:
            return "".join(map(str, pieces)) if isinstance(pieces[0], str) else b"".join(map(_bytes, pieces))


def _bytes(piece: str | bytes) -> bytes:
    assert isinstance(piece, bytes)
    return piece
