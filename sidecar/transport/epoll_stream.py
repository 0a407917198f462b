"""Streams on real sockets: plain TCP, and TLS by the standard library's non-blocking `SSLSocket`.

TLS rules, each with a test: after a read `pending()` is asked, because decrypted bytes raise no event; a read may
want to write and a write may want to read (key updates); the first buffer of the write queue is offered again
unchanged until it is taken (a shorter retry is an error in OpenSSL); an end without close_notify is a truncation, not
an end. SSLSocket, not MemoryBIO: one copy less, 1.7 times cheaper.
"""

import errno
import fcntl
import os
import select
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Container

import trio

from sidecar.transport.reactor import Putter, Reactor
from sidecar.transport.stream import Peer, Stream, StreamBroken

_LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero time: close() sends RST
_NO_BYTES = bytes(4)  # where the kernel writes its int
_CLOSE_WAIT = 8  # of `tcpi_state`, the first byte of TCP_INFO: the peer has ended its direction, we have not
_READ = select.EPOLLIN
_BAD_END = select.EPOLLHUP | select.EPOLLERR
HAND_IN_MAX_BYTES = 16_384  # more is worth a write of its own
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def address_text(address: object) -> str:
    """`host:port` of a socket address tuple, IPv6 in brackets; a unix path as it is."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address or "unix")


class EpollStream(Stream):
    """A connected, non-blocking TCP socket. Owns `sock` and closes it on every path."""

    __slots__ = ("_events", "_fd", "_put", "_reactor", "_receive", "_registered", "_send", "_silent", "_sock")

    _short_is_all = True

    def __init__(self, sock: socket.socket, reactor: Reactor, peer: Peer) -> None:
        super().__init__(peer)
        self._sock = sock
        self._fd = sock.fileno()
        self._reactor = reactor
        self._events = 0
        self._registered = False
        self._put = b""  # to be written with the end of this turn, if the peer is silent until then
        self._silent = False
        self._receive = sock.recv
        self._send = sock.send

    @property
    def pending_bytes(self) -> int:
        """See `Stream`: what is queued here, and what the kernel has sent without an acknowledgement or not at all."""
        try:
            held = fcntl.ioctl(self._fd, termios.TIOCOUTQ, _NO_BYTES)
        except OSError:
            return self.queued_bytes
        return self.queued_bytes + int.from_bytes(held, sys.byteorder)

    @property
    def last_bytes(self) -> int | None:
        """See `Stream`: what is in the kernel's buffer, once the connection's state says that the peer's end is."""
        try:
            if self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _CLOSE_WAIT:
                return None
            held = fcntl.ioctl(self._fd, termios.FIONREAD, _NO_BYTES)
        except OSError:
            return None  # no TCP, or gone already
        return int.from_bytes(held, sys.byteorder)

    @property
    def fd(self) -> int:
        """The descriptor, for the reactor."""
        return self._fd

    def put(self, data: bytes, *, silent: bool = False) -> None:
        """See `Stream`."""
        if self._put:
            self._put += data
        elif self._reactor.put(self):
            self._put = data
            self._silent = silent
        else:
            super().put(data, silent=silent)

    def hand_in(self, data: bytes, *, silent: bool = False) -> bool:
        """See `Stream`."""
        if len(data) > HAND_IN_MAX_BYTES or self._queue or self._closed or self._failure:
            return super().hand_in(data, silent=silent)
        if self._put:
            self._put += data
            return True
        self._put = data
        self._silent = silent
        if self._reactor.put_late(self):
            return True
        self._put = b""
        return super().hand_in(data, silent=silent)

    def write(self, data: bytes) -> bool:
        """See `Stream`."""
        if self._put:
            data, self._put = self._put + data, b""
            self._silent = False
        if self._queue or self._closed or self._failure or not data:
            return super().write(data)
        try:
            taken = self._transmit(data)
        except OSError as exc:
            self._fail(exc)
            return False
        return taken == len(data) or self._keep_rest(data, taken)

    def at_turns_end(self, putter: Putter) -> bool:
        """See `Stream`."""
        return self._reactor.put(putter) or self._reactor.put_late(putter)

    def write_put(self, spoken: Container[int]) -> None:
        """The reactor's word that the turn ends; `spoken` are the descriptors that something came from meanwhile."""
        data, handler = self._put, self._handler
        if not data or self._closed:
            return
        if self._silent and self._fd in spoken:
            self._void()
            return
        self._put, self._silent = b"", False
        if not self.write(data) and handler is not None:
            handler.on_blocked()

    def resume(self) -> None:
        """See `Stream`."""
        if not self._events & _READ:
            super().resume()

    def try_read(self) -> bytes | None:
        """See `Stream`. Without its calls: this is asked at each event."""
        if self._failure or self._closed or self._silent:
            return self._read_unasked() if self._silent else super().try_read()
        try:
            return self._receive(self.read_bytes)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise self._fail(exc) from None

    @property
    def settled(self) -> bool:
        """See `Stream`."""
        return not self._put and super().settled

    def _read_unasked(self) -> bytes | None:
        """A read while something waits to be written to a silent peer: what comes now was not asked for.

        It must not pass for the answer to a request that goes out behind it.
        """
        try:
            data = Stream.try_read(self)
        except StreamBroken:
            self._void()
            raise
        if data is not None:
            self._void()
            raise StreamBroken("the peer spoke before it was asked")
        return None

    def _void(self) -> None:
        """The peer of whom silence was asked has spoken, or left: nothing is written."""
        self._put, self._silent = b"", False
        if self._handler is not None:
            self._handler.on_stale()
        else:
            self.close()

    def _was_void(self) -> bool:
        """In the reactor's turn: something waits for silence, and is void now."""
        try:
            self._read_unasked()
        except StreamBroken:
            return True
        return False

    def _recv(self) -> bytes | None:
        try:
            return self._receive(self.read_bytes)
        except BlockingIOError:
            return None

    def _transmit(self, data: bytes | memoryview) -> int:
        try:
            return self._send(data)
        except BlockingIOError:
            return 0

    def _end_writing(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def _arm(self, *, read: bool | None = None, write: bool | None = None) -> None:
        events = self._events
        if read is not None:
            events = events | select.EPOLLIN if read else events & ~select.EPOLLIN
        if write is not None:
            events = events | select.EPOLLOUT if write else events & ~select.EPOLLOUT
        if not self._registered:
            if events:
                self._registered = True
                self._events = events
                self._reactor.register(self._fd, self, events)
        elif events != self._events:
            self._events = events
            self._reactor.modify(self._fd, events)

    def on_ready(self, events: int) -> None:
        """The reactor's turn."""
        if self._silent and self._was_void():
            return
        if events == _READ and self._handler is not None and self._reader is None:  # nearly always; see `on_event`
            self._handler.on_readable()
            return
        hangup = bool(events & _BAD_END)
        self.on_event(readable=bool(events & select.EPOLLIN), writable=bool(events & select.EPOLLOUT), hangup=hangup)
        if hangup and self._registered and not self._closed and not self._events & select.EPOLLIN:
            # The kernel reports hang-ups whether asked or not: without this a stream nobody reads would spin.
            self._registered = False
            self._events = 0
            self._reactor.unregister(self._fd)

    def on_crash(self) -> None:
        """A bug in the owner: end the connection."""
        self.crash()

    # For `splice.py`, which moves bytes without bringing them here. The write queue has to be empty.

    def splice_in(self, pipe: int, size: int) -> int | None:
        """Move at most `size` bytes into a pipe; 0 is the peer's orderly end, None means nothing yet.

        Raises:
            StreamBroken: As `try_read`.
            OSError: The kernel does not splice here (EINVAL); nothing was moved.
        """
        self._raise_if_broken()
        try:
            return os.splice(self._fd, pipe, size, flags=_SPLICE)
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise
            raise self._fail(exc) from None

    def splice_out(self, pipe: int, size: int) -> int:
        """Send the `size` bytes of a pipe. When fewer are taken, the handler hears `on_drained` once more fit.

        Raises:
            StreamBroken, OSError: As `splice_in`.
        """
        self._raise_if_broken()
        try:
            taken = os.splice(pipe, self._fd, size, flags=_SPLICE)
        except BlockingIOError:
            taken = 0
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise
            raise self._fail(exc) from None
        if taken < size:
            self._arm(write=True)
        return taken

    def raise_if_reset(self) -> None:
        """Find a reset behind data that nobody reads yet. Raises StreamBroken."""
        self._raise_if_broken()
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise self._fail(OSError(error, os.strerror(error)))

    def _shut(self, *, abort: bool) -> None:
        if self._put and not abort and not self._closed:
            self.write(b"")
        self._put, self._silent = b"", False
        super()._shut(abort=abort)

    def _release(self, *, abort: bool) -> None:
        if self._registered:
            self._registered = False
            self._reactor.unregister(self._fd)
        if abort:
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            except OSError:
                pass  # already gone: there is nobody left to see the reset
        self._reactor.bury(self._sock)


class TlsStream(EpollStream):
    """The same over TLS. Call `handshake` before anything else."""

    __slots__ = ("_read_wants_write", "_tls", "_write_wants_read")

    _short_is_all = False  # a read ends with a record

    def __init__(self, sock: ssl.SSLSocket, reactor: Reactor, peer: Peer) -> None:
        super().__init__(sock, reactor, peer)
        self._tls = sock
        self._read_wants_write = False
        self._write_wants_read = False

    @classmethod
    def wrap(
        cls, sock: socket.socket, context: ssl.SSLContext, reactor: Reactor, peer: Peer, server_name: str | None = None
    ) -> "TlsStream":
        """TLS over `sock`, which is closed if that fails: as the client that asks for `server_name`, or as the server.

        Raises:
            StreamBroken: The connection is gone already, or the name is none that TLS can ask for.
        """
        try:
            # With a connection that is gone, or a wrong name, SSLSocket's constructor would lose the descriptor.
            sock.getpeername()
            if server_name is not None:
                server_name.encode("idna")
            wrapped = context.wrap_socket(
                sock,
                server_side=server_name is None,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
                server_hostname=server_name,
            )
        except (OSError, ValueError) as exc:
            sock.close()
            raise StreamBroken(getattr(exc, "strerror", None) or str(exc)) from None
        return cls(wrapped, reactor, peer)

    @property
    def half_closes(self) -> bool:
        """CPython cannot half-close TLS: what the peer sends after our close_notify is lost."""
        return False

    @property
    def last_bytes(self) -> int | None:
        """See `Stream`."""
        held = super().last_bytes
        return None if held is None else held + self._tls.pending()

    @property
    def tls(self) -> ssl.SSLSocket:
        """The TLS socket, for its certificates and names; never for I/O."""
        return self._tls

    async def handshake(self, turns: trio.Lock | None = None) -> None:
        """Complete the handshake; the caller bounds the time.

        Args:
            turns: Shared by handshakes of which one step is taken before everybody else has a turn: a step takes a
                millisecond, and a burst of them would be what requests on kept connections wait for.

        Raises:
            StreamBroken: The peer left, or OpenSSL refused it (the peer was sent the alert).
        """
        while True:
            try:
                if turns is None:
                    self._tls.do_handshake()
                else:
                    async with turns:
                        await trio.lowlevel.checkpoint()  # since the last step of any
                        self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_task_rescheduled(self._readable())
            except ssl.SSLWantWriteError:
                self._arm(write=True)
                await self._wait_drained()
            except OSError as exc:
                raise self._fail(exc) from None
            else:
                return

    def try_read(self) -> bytes | None:
        """See `Stream`."""
        return self._read_unasked() if self._silent else Stream.try_read(self)

    def _recv(self) -> bytes | None:
        try:
            data = self._tls.read(self.read_bytes)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
            self._arm(write=True)
            return None
        except (ssl.SSLZeroReturnError, ValueError):
            return b""  # close_notify came, now or while ours was sent
        if data and self._tls.pending():
            self._reactor.again(self)
        return data

    def _transmit(self, data: bytes | memoryview) -> int:
        try:
            return self._tls.write(data)  # not `send`, which goes on in plain text once both sides have said goodbye
        except ssl.SSLWantWriteError:
            return 0
        except ssl.SSLWantReadError:
            self._write_wants_read = True
            self._arm(read=True)
            return 0
        except ValueError:
            raise BrokenPipeError(errno.EPIPE, "TLS has ended") from None

    def on_ready(self, events: int) -> None:
        """The reactor's turn; also from the ready queue, when decrypted bytes wait."""
        if self._closed or (self._silent and self._was_void()):
            return
        if events == _READ and not self._write_wants_read and self._handler is not None and self._reader is None:
            self._handler.on_readable()
            return
        if events == 0:
            if self._tls.pending():
                self.on_event(readable=True, writable=False, hangup=False)
            return
        if self._write_wants_read and events & select.EPOLLIN:
            self._write_wants_read = False
            self._drain()
        if self._read_wants_write and events & select.EPOLLOUT:
            self._read_wants_write = False
            events |= select.EPOLLIN
        super().on_ready(events)

    def _end_writing(self) -> None:
        # Sends close_notify, then would wait for the peer's, which nobody needs. OpenSSL calls data that the peer sent
        # before it knew an error; CPython cannot half-close TLS, so that data is lost to us.
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # ValueError: we have said goodbye before

    def _release(self, *, abort: bool) -> None:
        if not abort and not self._failure:
            try:
                self._end_writing()
            except (OSError, ValueError):
                pass  # the peer left first, or the handshake never ended: nothing to say goodbye to
        super()._release(abort=abort)


def plain_stream(stream: Stream) -> EpollStream | None:
    """`stream`, if it is a plain socket whose bytes need no work on their way."""
    return stream if type(stream) is EpollStream else None


def broken_reason(exc: StreamBroken) -> str:
    """Why a stream ended, in words for a log line."""
    return str(exc) or "connection lost"
