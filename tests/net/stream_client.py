"""A sidecar's side of port 15012, as small as it can be: real TLS, real frames, everything said by hand.

For tests of the control plane: it does exactly what a test tells it, also what no real sidecar would do.
"""

import base64
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self, TypeVar

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.control.messages import (
    Ack,
    Beat,
    Cert,
    Error,
    Hello,
    Join,
    Message,
    Nack,
    Node,
    PortInfo,
    Renew,
    WorkloadInfo,
    parse,
    to_wire,
)
from sidecar.control.push import Push
from sidecar.control.wire import ALPN, FrameReader, encode
from sidecar.transport.identity import Identity
from sidecar.transport.tls import client_context

M = TypeVar("M", bound=Message)
PATIENCE_S = 5.0  # of every wait: a test that hangs fails here


class Keys:
    """A key and its signing request."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        self.key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.csr = csr.public_bytes(Encoding.PEM).decode()


class Client:
    """One connection. `async with connected(...) as client`."""

    def __init__(self, tls: "trio.SSLStream[trio.SocketStream]") -> None:
        self.tls = tls
        self.have: dict[str, int] = {}
        self.documents: dict[str, str] = {}
        self._frames = FrameReader()
        self._waiting: list[Message] = []

    async def say(self, message: Message | dict[str, Any]) -> None:
        """Send one message, typed or as an object."""
        await self.tls.send_all(encode(message if isinstance(message, dict) else to_wire(message)))

    async def hear(self, kind: type[M]) -> M:
        """The next message of `kind`; others before it are dropped. Fails when the stream ends or nothing comes."""
        with trio.fail_after(PATIENCE_S):
            while True:
                while self._waiting:
                    message = self._waiting.pop(0)
                    if isinstance(message, kind):
                        return message
                if not await self._read():
                    raise AssertionError(f"the stream ended before a {kind.__name__} came")

    async def heard_nothing(self, kind: type[Message], within_s: float) -> bool:
        """Whether no message of `kind` comes within a time."""
        with trio.move_on_after(within_s):
            while not any(isinstance(message, kind) for message in self._waiting):
                if not await self._read():
                    break
        return not any(isinstance(message, kind) for message in self._waiting)

    async def ended(self) -> list[Message]:
        """Wait for the other side to close; what it said before."""
        with trio.fail_after(PATIENCE_S):
            try:
                while await self._read():
                    pass
            except trio.BrokenResourceError:
                pass
        return self._waiting

    async def hello(
        self,
        node_id: str = "orders-1",
        *,
        service: str = "orders",
        version: str = "v1",
        account: str = "",
        instance: str = "i1",
        wants: Iterable[str] = (),
        have: dict[str, int] | None = None,
        port: int | None = 8080,
        ready: bool = True,
    ) -> None:
        """Say hello; `port` None registers nothing."""
        info = WorkloadInfo(inbound=15006, ports=(PortInfo(port=port, protocol="http"),), ready=ready) if port else None
        node = Node(service=service, namespace="shop", version=version, id=node_id, account=account or service)
        message = Hello(
            node=node, version="0.1.0", instance=instance, have=have or {}, wants=tuple(wants), workload=info
        )
        self.have = dict(have or {})
        await self.say(message)

    async def take(self, *, refuse: dict[str, str] | None = None) -> Push:
        """Hear a push, take it as a sidecar would (refusing the named resources with a reason), acknowledge it."""
        push = await self.hear(Push)
        for item in push.set:
            reason = (refuse or {}).get(item.name)
            if reason is not None:
                await self.say(Nack(version=push.version, name=item.name, reason=reason))
            else:
                self.have[item.name] = item.version
                self.documents[item.name] = item.document
        for name in push.unset:
            self.have.pop(name, None)
        await self.say(Ack(version=push.version))
        return push

    async def beat(self, *, ready: bool = True) -> None:
        """Say that it is alive."""
        await self.say(Beat(ready=ready))

    async def settled(self) -> None:
        """Return when everything said so far was taken: messages are taken in order, and this one is answered."""
        await self.say(Renew(csr="not a request"))
        await self.hear(Error)

    async def error(self) -> Error:
        """The error that the control plane says before it closes, or without closing."""
        return await self.hear(Error)

    async def _read(self) -> bool:
        data = await self.tls.receive_some(65_536)
        self._waiting += [message for each in self._frames.feed(data) if (message := parse(each)) is not None]
        return bool(data)


def names(push: Push) -> tuple[list[str], list[str]]:
    """What a push puts and drops."""
    return sorted(item.name for item in push.set), sorted(push.unset)


def token_of(join_file: str) -> tuple[bytes, str]:
    """Roots and token text of a join file."""
    roots, _, rest = join_file.partition("-----BEGIN MESH JOIN TOKEN-----\n")
    return roots.encode(), base64.b64decode(rest.partition("-----END")[0]).decode()


@asynccontextmanager
async def connected(
    address: str, roots_pem: bytes, identity: Identity | None = None, alpn: tuple[str, ...] = (ALPN,)
) -> AsyncIterator[Client]:
    """A connection to the stream port, its handshake done."""
    host, _, port = address.rpartition(":")
    plain = await trio.open_tcp_stream(host, int(port))
    tls = trio.SSLStream(plain, client_context(identity, roots_pem, alpn), https_compatible=True)
    try:
        with trio.fail_after(PATIENCE_S):
            await tls.do_handshake()
        yield Client(tls)
    finally:
        await trio.aclose_forcefully(plain)


class Joined:
    """An identity won by joining; opens connections with it."""

    def __init__(self, address: str, identity: Identity) -> None:
        self.address = address
        self.identity = identity
        self.connected = partial(connected, address, identity.bundle_pem, identity)

    @classmethod
    async def with_token(cls, address: str, join_file: str) -> Self:
        """Join as a new sidecar does."""
        roots, token = token_of(join_file)
        keys = Keys()
        async with connected(address, roots) as client:
            await client.say(Join(token=token, csr=keys.csr))
            cert = await client.hear(Cert)
        return cls(address, Identity.from_pem(cert.chain.encode(), keys.key_pem, cert.bundle.encode()))
