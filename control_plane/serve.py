"""The stream port, 15012: TLS and who may speak at all; `stream.py` is what happens on one of its connections.

A peer without a certificate may only `join`; one with a certificate says who it is by its SPIFFE ID, read after the
handshake and before the first message is processed.

Bounds: MAX_STRANGERS handshakes and joins at once (MAX_STRANGERS_OF_ADDRESS from one address) beside `max_sessions`
identified streams, 5 s for the handshake, 5 s for the first message (64 KiB, from a peer that nobody knows), and those
of stream.py. One bad stream never ends the server.
"""

import ssl
from collections import Counter
from collections.abc import Callable
from typing import cast

import trio

from certs import names
from control_plane.authority import Authority, Bucket, SigningError
from control_plane.metrics import Metrics
from control_plane.push import Hub
from control_plane.settings import Intervals, one_line
from control_plane.store.contract import StoreError
from control_plane.stream import READ_BYTES, Ended, Stream, Unfinished, write
from control_plane.tokens import TokenError, Tokens
from sidecar.control.messages import Cert, Error, Join, Message, parse
from sidecar.control.wire import ALPN, FrameReader, WireError
from sidecar.transport.tls import PeerRefused, peer_spiffe_id

MAX_STRANGERS = 256
MAX_STRANGERS_OF_ADDRESS = 64  # whoever holds these can keep nobody else out
MAX_STRANGER_BYTES = 64 * 1024
LINGER_S = 2.0  # for the peer to read our last word: closing with unread bytes would destroy it on the way
LINGER_BYTES = 1024 * 1024  # but whoever goes on sending is cut off
LINES_PER_S = 10.0  # about refused peers: a flood of them must not become a flood of lines
_JOIN_FIRST = "join with a token first: meshctl token create --service SERVICE --namespace NAMESPACE"


class Streams:
    """The server of the stream port."""

    def __init__(
        self,
        hub: Hub,
        authority: Authority,
        tokens: Tokens,
        intervals: Intervals,
        metrics: Metrics,
        say: Callable[[str], None],
        max_sessions: int,
    ) -> None:
        self._hub = hub
        self._authority = authority
        self._tokens = tokens
        self._intervals = intervals
        self._metrics = metrics
        self._say = say
        self._max_sessions = max_sessions
        self._sessions = 0
        self._strangers: Counter[str] = Counter()
        self._unfinished = Unfinished()
        self._lines = Bucket(LINES_PER_S, LINES_PER_S)

    async def serve(self, listener: trio.SocketListener) -> None:
        """Take streams from `listener` until cancelled."""
        # Waits out a lack of descriptors by itself; any other error of accept() is a bug and ends the program.
        await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, plain: trio.SocketStream) -> None:
        address = "?"
        try:
            address = plain.socket.getpeername()[0].removeprefix("::ffff:")
            if self._strangers.total() >= MAX_STRANGERS:
                raise Ended("busy", f"refused, {MAX_STRANGERS} peers are shaking hands")
            if self._strangers[address] >= MAX_STRANGERS_OF_ADDRESS:
                raise Ended("busy", f"refused, {MAX_STRANGERS_OF_ADDRESS} peers of this address are shaking hands")
            # https_compatible: a peer that is killed says no goodbye, and frames show by themselves if one is cut.
            tls = trio.SSLStream(plain, self._authority.context, server_side=True, https_compatible=True)
            await self._serve_one(tls, address)
        except Ended as end:
            self._note(address, end)
            if end.label != "busy":  # nothing was said that could get lost, and descriptors are scarce now
                await _linger(plain)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._metrics.ended.labels("broken").inc()
        except Exception as bug:  # the boundary of a stream: a fault in one must not end the others
            self._note(address, Ended("bug", f"internal error: {_innermost(bug)!r}"))
        finally:
            await trio.aclose_forcefully(plain)

    def _note(self, address: str, end: Ended) -> None:
        self._metrics.ended.labels(end.label).inc()
        if end.worth_a_line and self._lines.take(trio.current_time()):
            self._say(f"stream {address}: {one_line(str(end))}")

    async def _serve_one(self, tls: "trio.SSLStream[trio.SocketStream]", address: str) -> None:
        frames = FrameReader()
        self._strangers[address] += 1
        try:
            identity = await self._identity(tls)
            first = await self._first_messages(tls, frames, stranger=identity is None)
            if identity is None:
                await self._join(tls, first[0], address)
                return
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]
        if self._sessions >= self._max_sessions:
            message = f"the control plane has {self._max_sessions} sidecars, as many as it may"
            await write(tls, Error(message=message, hint="try later"))
            raise Ended("full", f"refused, {self._max_sessions} sidecars are connected")
        self._sessions += 1
        try:
            stream = Stream(
                tls, address, identity, frames, self._hub, self._authority, self._intervals, self._unfinished
            )
            await stream.run(first)
        finally:
            self._sessions -= 1

    async def _identity(self, tls: "trio.SSLStream[trio.SocketStream]") -> tuple[str, str] | None:
        """Complete TLS; (namespace, account) of the peer, or None when it showed no certificate."""
        with trio.move_on_after(self._intervals.handshake_s) as limit:
            try:
                await tls.do_handshake()
            except trio.BrokenResourceError as problem:
                raise Ended("handshake", f"no TLS: {_tls_problem(problem)}") from None
        if limit.cancelled_caught:
            raise Ended("handshake", "no TLS handshake in time")
        if tls.selected_alpn_protocol() != ALPN:
            raise Ended("alpn", f"it does not speak {ALPN}")
        if tls.getpeercert(binary_form=True) is None:
            return None
        try:
            # The stream has what is read of an SSL object here: its context and the peer's certificate.
            workload = names.parse(peer_spiffe_id(cast("ssl.SSLObject", tls))).workload
        except PeerRefused as refusal:
            raise Ended("identity", f"refused: {refusal}") from None
        if workload is None:
            raise Ended("identity", "refused: its SPIFFE ID names no account (/ns/NAMESPACE/sa/ACCOUNT)")
        return workload

    async def _first_messages(
        self, tls: "trio.SSLStream[trio.SocketStream]", frames: FrameReader, *, stranger: bool
    ) -> list[Message | None]:
        received = 0
        with trio.move_on_after(self._intervals.first_message_s):
            while data := await tls.receive_some(READ_BYTES):
                received += len(data)
                try:
                    found = [parse(message) for message in frames.feed(data)]
                except WireError as problem:
                    await write(tls, Error(message=str(problem), hint="is it a sidecar of this mesh?", final=True))
                    raise Ended("wire", str(problem)) from None
                if found:
                    return found
                if stranger and received > MAX_STRANGER_BYTES:
                    raise Ended("wire", f"more than {MAX_STRANGER_BYTES} bytes from a peer that nobody knows")
            raise Ended("closed", "closed before it said anything")
        raise Ended("silent", f"no message within {self._intervals.first_message_s:g} s")

    async def _join(self, tls: "trio.SSLStream[trio.SocketStream]", message: Message | None, address: str) -> None:
        """First contact: a token for a certificate. The peer comes back with it on a new connection."""
        try:
            if not isinstance(message, Join):
                raise TokenError("a peer without a certificate may only join", _JOIN_FIRST)
            csr = message.csr.encode()
            await self._tokens.look(message.token, csr)  # cheap, and first: strangers order no signature checks
            await self._authority.check(csr)  # before the token is spent on what cannot be signed
            token = await self._tokens.spend(message.token, csr)
            issued = await self._authority.sign(csr, token.namespace, token.account)
        except TokenError as refusal:
            await write(tls, Error(message=refusal.message, hint=refusal.hint, final=True))
            raise Ended("token", f"refused: {refusal.message}") from None
        except SigningError as refusal:
            await write(tls, Error(message=refusal.message, hint=refusal.hint, final=not refusal.again))
            raise Ended("signing", f"refused: {refusal.message}") from None
        except StoreError as problem:
            await write(tls, Error(message="the control plane cannot write to its store", hint="see its log"))
            raise Ended("store", str(problem)) from None
        self._say(f"joined account {token.account} of namespace {token.namespace} from {address}")
        bundle = self._authority.bundle_pem.decode()
        await write(tls, Cert(chain=issued.chain_pem.decode(), bundle=bundle, not_after_s=issued.not_after_s))
        raise Ended("joined", "", worth_a_line=False)


async def _linger(plain: trio.SocketStream) -> None:
    with trio.move_on_after(LINGER_S):
        try:
            await plain.send_eof()
            left = LINGER_BYTES
            while left > 0 and (data := await plain.receive_some(READ_BYTES)):
                left -= len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # it is gone already


def _tls_problem(problem: BaseException) -> str:
    cause = problem.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "closed").replace("_", " ").lower()
    return "closed"


def _innermost(bug: BaseException) -> BaseException:
    while isinstance(bug, BaseExceptionGroup) and len(bug.exceptions) == 1:
        bug = bug.exceptions[0]
    return bug
