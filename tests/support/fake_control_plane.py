"""A control plane for tests: it says what a test puts into it, right or wrong, and remembers what it heard.

It validates nothing (that is the point: unknown values, broken documents), speaks the real wire, and serves any trio
stream: real TLS on loopback (`listen`), or one end of a memory pair on virtual time (`attend`).
"""

import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import trio

from certs import issue, names
from sidecar.control import messages as m
from sidecar.control.push import Item, split_push
from sidecar.control.wire import ALPN, BEAT_S, FrameReader, encode
from sidecar.model.bootstrap import HostPort
from sidecar.transport import tls
from tests.support.pki import HOUR_S, Pki, pki

Kind = TypeVar("Kind", bound=m.Message)

WAIT_S = 5.0
TOKEN = "id1.secret"


@dataclass(eq=False)
class Conversation:
    """One stream. `peer` is the SPIFFE ID that it proved, "" without a certificate; `hello` is set once it came."""

    stream: trio.abc.Stream
    peer: str
    hello: m.Hello | None = None
    has: dict[str, int] = field(default_factory=dict)
    wants: set[str] = field(default_factory=set)
    heard: list[m.Message] = field(default_factory=list)
    over: bool = False
    lock: trio.Lock = field(default_factory=trio.Lock)

    async def say(self, message: m.Message) -> None:
        """Send a message."""
        await self.say_bytes(encode(m.to_wire(message)))

    async def say_bytes(self, data: bytes) -> None:
        """Send whatever it is; a stream that has ended takes nothing and says nothing."""
        async with self.lock:
            try:
                await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass


class FakeControlPlane:
    """See module.

    Attributes:
        resources: What it pushes, by name; change it and call `push`.
        version: The store's revision; each `put` counts it up.
        tokens: Account by token.
        refuse: Error to answer each kind of message with (`m.Join`, `m.Hello`, `m.Renew`) instead of the usual.
        conversations: Every stream so far, in order.
        life_s: Life of the certificates that it issues.
        beats: False: says nothing by itself.
        now_unix: When certificates are issued.
    """

    def __init__(self, trust: Pki | None = None) -> None:
        self.pki = trust or pki()
        self.resources: dict[str, Item] = {}
        self.version = 1
        self.tokens = {TOKEN: ("shop", "orders")}
        self.refuse: dict[type[m.Message], m.Error] = {}
        self.conversations: list[Conversation] = []
        self.life_s = HOUR_S
        self.beats = True
        self.now_unix: Callable[[], float] = lambda: self.pki.now_s
        self.address = HostPort("127.0.0.1", 0)
        self._identity = self.pki.control_plane()
        self._moved = trio.Event()

    # -- what a test does --------------------------------------------------------------------------------------------

    def put(self, name: str, document: str) -> None:
        """Have a resource in a new version; the next `push` sends it."""
        self.version += 1
        self.resources[name] = Item(name=name, version=self.version, document=document)

    async def push(self) -> int:
        """Tell every stream what it lacks; return the version."""
        for conversation in self.standing:
            await self._owe(conversation)
        return self.version

    async def say(self, message: m.Message) -> None:
        """Send a message on every stream that said hello."""
        for conversation in self.standing:
            await conversation.say(message)

    @property
    def standing(self) -> list[Conversation]:
        """Streams that said hello and have not ended."""
        return [each for each in self.conversations if each.hello is not None and not each.over]

    def heard(self, kind: type[Kind]) -> list[Kind]:
        """Every message of a kind, of all streams in order."""
        return [message for each in self.conversations for message in each.heard if isinstance(message, kind)]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that was heard makes it true. Raises trio.TooSlowError after five seconds."""
        with trio.fail_after(WAIT_S):
            while not true():
                await self._moved.wait()

    def write_join_file(self, path: Path, token: str = TOKEN) -> Path:
        """A join file for this control plane."""
        text = base64.b64encode(token.encode()).decode()
        block = f"-----BEGIN MESH JOIN TOKEN-----\n{text}\n-----END MESH JOIN TOKEN-----\n"
        path.write_text(self.pki.bundle_pem.decode() + block)
        path.chmod(0o600)
        return path

    # -- serving -----------------------------------------------------------------------------------------------------

    async def listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve TLS on loopback until cancelled; `address` is set once this is started."""
        [listener] = await trio.open_tcp_listeners(self.address.port, host="127.0.0.1")
        self.address = HostPort("127.0.0.1", listener.socket.getsockname()[1])
        async with trio.open_nursery() as nursery:
            task_status.started()
            await trio.serve_listeners(self._accept, [listener], handler_nursery=nursery)

    async def _accept(self, tcp: trio.SocketStream) -> None:
        context = tls.server_context(self._identity, alpn=(ALPN,), request_client_cert="optional")
        stream = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
        try:
            with trio.fail_after(WAIT_S):
                await stream.do_handshake()
            shown = stream.getpeercert()
            peer = tls.peer_spiffe_id(cast("ssl.SSLObject", stream)) if shown else ""
        except (trio.BrokenResourceError, trio.TooSlowError):
            await trio.aclose_forcefully(stream)
            return
        await self.attend(stream, peer)

    async def attend(self, stream: trio.abc.Stream, peer: str = "") -> None:
        """Serve one stream until it ends, and close it."""
        conversation = Conversation(stream, peer)
        self.conversations.append(conversation)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat, conversation)
                await self._listen_to(conversation)
                nursery.cancel_scope.cancel()
        finally:
            conversation.over = True
            self._tell()
            await trio.aclose_forcefully(stream)

    async def _listen_to(self, conversation: Conversation) -> None:
        frames = FrameReader()
        while True:
            try:
                data = await conversation.stream.receive_some(65_536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            for received in frames.feed(data):
                message = m.parse(received)
                assert message is not None, received
                conversation.heard.append(message)
                self._tell()
                if not await self._answer(conversation, message):
                    return

    async def _answer(self, conversation: Conversation, message: m.Message) -> bool:
        """False when the stream is to be closed."""
        refusal = self.refuse.get(type(message))
        if refusal is not None:
            await conversation.say(refusal)
            return not refusal.final
        match message:
            case m.Join(token=token, csr=csr):
                await conversation.say(self.certify(csr, *self.tokens[token]))
            case m.Renew(csr=csr):
                namespace, account = names.parse(conversation.peer).workload or ("shop", "orders")
                await conversation.say(self.certify(csr, namespace, account))
            case m.Hello():
                conversation.hello = message
                conversation.has = dict(message.have)
                conversation.wants = set(message.wants)
                await self._owe(conversation)
            case m.Unwant(names=gone):
                conversation.wants -= set(gone)
            case m.Want(names=new):
                conversation.wants |= set(new)
                await self._owe(conversation, set(new))
            case m.Bye():
                return False
            case _:
                pass
        return True

    def certify(self, csr: str, namespace: str, account: str) -> m.Cert:
        """A certificate for whoever asks."""
        spiffe_id = names.svid_id(self.pki.trust_domain, namespace, account)
        issued = issue.issue(self.pki.issuer, csr.encode(), spiffe_id, self.now_unix(), self.life_s)
        return m.Cert(
            chain=issued.chain_pem.decode(), bundle=self.pki.bundle_pem.decode(), not_after_s=issued.not_after_s
        )

    async def _owe(self, conversation: Conversation, asked: set[str] | None = None) -> None:
        put = [each for name, each in self.resources.items() if conversation.has.get(name) != each.version]
        gone = [name for name in conversation.has if name not in self.resources]
        absent = []
        for want in sorted(conversation.wants if asked is None else asked):
            service, _, namespace = want.partition(".")
            if f"Service/{namespace}/{service}" not in self.resources:
                absent.append(f"Service/{namespace}/{service}")
        if put or gone or absent:
            for part in split_push(self.version, put, [*gone, *absent]):
                await conversation.say(part)
        conversation.has = {name: each.version for name, each in self.resources.items()}

    async def _beat(self, conversation: Conversation) -> None:
        while True:
            await trio.sleep(BEAT_S)
            if self.beats:
                await conversation.say(m.Beat())

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
