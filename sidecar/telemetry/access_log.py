"""One JSON object a line for each request, and for each ejection and refused peer: the access log's text.

An observer that turns what it is told into bytes and hands them to a sink (`export/log_writer.py`), which never
blocks. Field names and types are fixed (`FIELDS`); text that is not known is "". Everything that a peer sent is cut to
a limit and escaped to ASCII, so that a line stays one line and a terminal is never told anything by a client.
"""

from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quote
from typing import Protocol

from sidecar.model.bootstrap import LogWhen
from sidecar.model.messages import RequestHead
from sidecar.policy.outlier import Ejected
from sidecar.telemetry.observer import NO_TALLY, Observer, PeerRefused, RequestDone, Tally, failed

# Bytes kept of what a peer sent; what is longer ends in an ellipsis.
MAX_METHOD, MAX_TARGET, MAX_AUTHORITY, MAX_AGENT, MAX_REQUEST_ID = 32, 2_048, 256, 256, 128
MAX_DETAILS = 1_024  # characters
_MAX_MEMO = 1_024

# Every field of a request's line, in order, with the form of its value. Names follow Envoy's where it has one.
FIELDS = (
    ("start_time", '"%s"'),  # UTC, when the head was complete
    ("reporter", '"%s"'),  # source: beside the caller; destination: beside the app
    ("method", "%s"),
    ("path", "%s"),  # as sent, with its query
    ("protocol", '"%s"'),
    ("authority", "%s"),
    ("response_code", "%d"),  # what the client saw; 0: it was gone
    ("grpc_status", '"%s"'),  # "0" to "16"; "": not gRPC
    ("response_flags", '"%s"'),  # "-": none; else see `meshctl explain flag`
    ("details", "%s"),  # one sentence on a fault
    ("bytes_received", "%d"),
    ("bytes_sent", "%d"),
    ("duration_ms", "%.3f"),
    ("attempts", "%d"),
    ("tried", "[%s]"),  # endpoint ids in order
    ("retry_denied", '"%s"'),  # why no further try followed
    ("request_id", "%s"),
    ("trace_id", '"%s"'),
    ("peer", "%s"),  # address of the client
    ("principal", "%s"),  # verified SPIFFE ID at the other end of the mesh hop
    ("tls", "%s"),
    ("user_agent", "%s"),
    ("config_version", "%d"),
)
# These come from the configuration, and are joined once for each combination seen.
ROUTED_FIELDS = ("service", "route_name", "upstream_cluster", "upstream_endpoint", "upstream_host")
_LINE = "{" + ",".join(f'"{name}":{form}' for name, form in FIELDS) + ",%s}\n"

# What differs between requests of one kind, with its form in a line of bytes: already clean, or escaped before.
_OWN = {
    "start_time": '"%b.%03dZ"',
    "method": '"%b"',
    "path": '"%b"',
    "authority": '"%b"',
    "bytes_received": "%d",
    "bytes_sent": "%d",
    "duration_ms": "%.3f",
    "request_id": '"%b"',
    "trace_id": '"%b"',
    "peer": '"%b"',
    "user_agent": '"%b"',
    "config_version": "%d",
}
# What stands for itself in a JSON string; a scan that takes it away costs a third of escaping piece by piece.
_CLEAN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
_LIMITS = (MAX_METHOD, MAX_TARGET, MAX_AUTHORITY, MAX_AGENT, MAX_REQUEST_ID)


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: bytes) -> None:
        """Take one whole line, or drop and count it. Returns at once, never raises."""


class AccessLog(Observer):
    """Writes lines to a sink.

    Attributes:
        when: Which requests get a line; may be changed at any time. Ejections and refused peers do unless NEVER.
        wall_offset_s: Unix time minus monotonic time; the owner corrects it when the wall clock is set.
    """

    def __init__(self, sink: Sink, when: LogWhen, wall_offset_s: float) -> None:
        self.when = when
        self.wall_offset_s = wall_offset_s
        self._sink = sink
        self._second = (-1, b"")
        self._routed: dict[tuple[object, ...], str] = {}

    def request_done(self, done: RequestDone) -> None:
        """Write the request's line if it is to have one."""
        when = self.when
        if when is LogWhen.NEVER or (when is LogWhen.ERRORS and not failed(done)):
            return
        self._sink.write(self.line(done))

    def tally(self, done: RequestDone) -> Tally | None:
        """See `Observer`: nothing, unless such a request gets a line."""
        if self.when is LogWhen.NEVER or (self.when is LogWhen.ERRORS and not failed(done)):
            return NO_TALLY
        return Tally((_Kind(self, done),))

    def line(self, done: RequestDone) -> bytes:
        """The line, with its newline; ASCII."""
        return (_LINE % (*self._values(done), self._routing(done))).encode("ascii")

    def form(self, done: RequestDone) -> bytes:
        """The line of requests like `done`, with places for what is each one's own (`_OWN`, in the order of FIELDS)."""
        parts = []
        for (name, form), value in zip(FIELDS, self._values(done), strict=True):
            parts.append(f'"{name}":{_OWN[name] if name in _OWN else _literal(form % value)}')
        return f"{{{','.join(parts)},{_literal(self._routing(done))}}}\n".encode("ascii")

    def write(self, line: bytes) -> None:
        """Give a line to the sink."""
        self._sink.write(line)

    def _values(self, done: RequestDone) -> tuple[object, ...]:
        """Those of FIELDS, in their order."""
        return (
            self._clock(done.started_s),
            done.reporter,
            _peer(done.method, MAX_METHOD),
            _peer(done.target, MAX_TARGET),
            done.protocol,
            _peer(done.authority, MAX_AUTHORITY),
            done.status,
            done.grpc_status,
            done.flags,
            quote(done.details[:MAX_DETAILS]) if done.details else '""',
            done.bytes_received,
            done.bytes_sent,
            (done.ended_s - done.started_s) * 1e3,
            done.attempts,
            ",".join(map(quote, done.tried)),
            done.retry_denied,
            _peer(done.request_id, MAX_REQUEST_ID),
            done.trace.trace_id if done.trace is not None else "",
            quote(done.downstream_peer),
            quote(done.principal),
            "true" if done.tls else "false",
            _peer(done.user_agent, MAX_AGENT),
            done.config_version,
        )

    def ejected(self, event: Ejected) -> None:
        """Write an `"event":"ejected"` line (`would-eject` in shadow)."""
        self._event(
            event.until_s - event.for_s,
            "would-eject" if event.shadow else "ejected",
            f'"upstream_cluster":{quote(str(event.cluster))},"upstream_endpoint":{quote(event.endpoint)},'
            f'"reason":"{event.why}","failures":{event.failures:d},"for_s":{event.for_s:.3f}',
        )

    def peer_refused(self, event: PeerRefused) -> None:
        """Write an `"event":"peer-refused"` line: the audit record of a connection that got nowhere."""
        self._event(
            event.at_s,
            "peer-refused",
            f'"reporter":{quote(event.reporter)},"peer":{quote(event.peer)},'
            f'"principal":{quote(event.principal[:MAX_DETAILS])},"reason":{quote(event.reason)},'
            f'"details":{quote(event.details[:MAX_DETAILS])}',
        )

    def _event(self, at_s: float, name: str, fields: str) -> None:
        if self.when is LogWhen.NEVER:
            return
        self._sink.write(f'{{"start_time":"{self._clock(at_s)}","event":"{name}",{fields}}}\n'.encode("ascii"))

    def _clock(self, at_s: float) -> str:
        unix_s = at_s + self.wall_offset_s
        return f"{self.second_text(int(unix_s)).decode('ascii')}.{int(unix_s % 1.0 * 1e3):03d}Z"

    def second_text(self, second: int) -> bytes:
        """`2026-11-21T04:00:00` of Unix seconds, made once a second."""
        known, text = self._second
        if second != known:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode("ascii")
            self._second = (second, text)
        return text

    def _routing(self, done: RequestDone) -> str:
        endpoint = done.endpoint
        key = (
            (done.service, done.route, done.cluster, endpoint.id, endpoint.host, endpoint.port)
            if endpoint is not None
            else (done.service, done.route, done.cluster)
        )
        text = self._routed.get(key)
        if text is None:
            values = (
                str(done.service or ""),
                done.route,
                str(done.cluster or ""),
                endpoint.id if endpoint is not None else "",
                endpoint.address if endpoint is not None else "",
            )
            text = ",".join(f'"{name}":{quote(value)}' for name, value in zip(ROUTED_FIELDS, values, strict=True))
            if len(self._routed) >= _MAX_MEMO:
                self._routed.clear()
            self._routed[key] = text
        return text


class _Kind:
    """Writes the lines of requests of one kind, which differ in `_OWN` only: each is one format operation."""

    __slots__ = ("_form", "_log")

    def __init__(self, log: AccessLog, done: RequestDone) -> None:
        self._log = log
        self._form = log.form(done)

    def write(
        self,
        head: RequestHead,
        request_id: bytes,
        trace_id: bytes,
        peer: bytes,
        started_s: float,
        took_ms: float,
        received_bytes: int,
        sent_bytes: int,
        config_version: int,
    ) -> None:
        """See `Lines`."""
        log, method, target, authority = self._log, head.method, head.target, head.authority
        agent = head.get(b"user-agent") or b""
        given = b"".join((method, target, authority, agent, request_id, peer))
        if given.translate(None, _CLEAN) or _is_cut(method, target, authority, agent, request_id):
            method, target, authority, agent, request_id = (
                _peer(value, limit)[1:-1].encode("ascii")
                for value, limit in zip((method, target, authority, agent, request_id), _LIMITS, strict=True)
            )
            peer = quote(peer.decode("utf-8"))[1:-1].encode("ascii")
        unix_s = started_s + log.wall_offset_s
        log.write(
            self._form
            % (
                log.second_text(int(unix_s)),
                int(unix_s % 1.0 * 1e3),
                method,
                target,
                authority,
                received_bytes,
                sent_bytes,
                took_ms,
                request_id,
                trace_id,
                peer,
                agent,
                config_version,
            )
        )


def _is_cut(method: bytes, target: bytes, authority: bytes, agent: bytes, request_id: bytes) -> bool:
    return (
        len(agent) > MAX_AGENT
        or len(target) > MAX_TARGET
        or len(authority) > MAX_AUTHORITY
        or len(request_id) > MAX_REQUEST_ID
        or len(method) > MAX_METHOD
    )


def _literal(text: str) -> str:
    """As it has to be written in a format."""
    return text.replace("%", "%%")


def _peer(value: bytes, limit: int) -> str:
    """A peer's bytes as a JSON string: UTF-8 where it is that, cut to `limit` bytes."""
    if len(value) > limit:
        return quote(value[:limit].decode("utf-8", "replace") + "\N{HORIZONTAL ELLIPSIS}")
    return quote(value.decode("utf-8", "replace"))
