"""gRPC servers and clients in a process of their own, driven by one line of JSON a command; see grpc_calls.py.

grpcio starts threads that do not go well with trio and with forking in one process, hence a child. Messages are plain
bytes, so that nothing is generated. Every command has an `id` and is answered by one line `{"id", "answer"}` when it is
done; several may be under way. Every wait is bounded.

    {"do": "serve", "name": "a", "goaway_ms": 0}       -> {"port": 40001}     GOAWAY to connections of that age
    {"do": "calls", "target": "...", "calls": [...]}   -> [result, ...]   all at once, over one channel a target
    {"do": "kill", "name": "a"}                        -> {}     calls under way are broken off
    {"do": "seen", "begun": 0, "ended": 0}             -> [{"server", "method", "metadata", "left_s", "ended"}, ...]
                                                          when so many have begun and ended
    {"do": "reset"}                                    -> {}     channels closed, servers stopped, nothing seen
"""

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

CALL_S = 20.0  # of a call without a deadline of its own; the tests' calls take milliseconds
SHOWN_BYTES = 64  # of a message; longer ones are told by length and digest
_NO_LIMIT = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_MAX_SEEN = 10_000


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """`/mesh.Test/...` of one server."""

    def __init__(self, name: str, world: "World") -> None:
        self.name = name
        self.world = world
        self.handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Flaky": grpc.unary_unary_rpc_method_handler(self.flaky),
            "Hang": grpc.unary_stream_rpc_method_handler(self.hang),
        }

    def service(self, details: Any) -> Any:
        """The handler of a call; None is UNIMPLEMENTED."""
        service, _, method = details.method[1:].partition("/")
        return self.handlers.get(method) if service == "mesh.Test" else None

    def begin(self, method: str, context: Any) -> dict[str, Any]:
        """Note the call, and give back the metadata that asks for it."""
        metadata = [(key, value.hex() if isinstance(value, bytes) else value) for key, value in _pairs(context)]
        seen = {"server": self.name, "method": method, "metadata": metadata, "left_s": None, "ended": False}
        left_s = context.time_remaining()
        seen["left_s"] = left_s if left_s is not None and left_s < 1e6 else None
        self.world.begun(seen)
        initial = [(key, value) for key, value in _pairs(context) if key.startswith("x-initial")]
        if initial:
            context.send_initial_metadata(initial)
        trailing = [(key, value) for key, value in _pairs(context) if key.startswith("x-trailing")]
        context.set_trailing_metadata([*trailing, ("x-server", self.name)])
        context.add_callback(lambda: self.world.ended(seen))
        return seen

    def echo(self, message: bytes, context: Any) -> bytes:
        self.begin("Echo", context)
        if dict(_pairs(context)).get("x-compress"):
            context.set_compression(grpc.Compression.Gzip)
        return message

    def upload(self, messages: Iterator[bytes], context: Any) -> bytes:
        self.begin("Upload", context)
        digest, size = hashlib.sha256(), 0
        for message in messages:
            digest.update(message)
            size += len(message)
        return f"{size} {digest.hexdigest()[:16]}".encode()

    def download(self, message: bytes, context: Any) -> Iterator[bytes]:
        self.begin("Download", context)
        count, size = map(int, message.split())
        for number in range(count):
            yield bytes((number % 251,)) * size

    def talk(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.begin("Talk", context)
        for message in messages:
            yield message[::-1]

    def fail(self, message: bytes, context: Any) -> bytes:
        self.begin("Fail", context)
        context.abort(grpc.StatusCode[message.decode()], "100% not today \N{SNOWMAN}")
        raise AssertionError("abort raises")

    def fail_late(self, message: bytes, context: Any) -> Iterator[bytes]:
        self.begin("FailLate", context)
        yield b"so far so good"
        context.abort(grpc.StatusCode[message.decode()], "after all")

    def flaky(self, message: bytes, context: Any) -> bytes:
        """`CODE TIMES KEY`: so often that, counted over all servers, then success."""
        self.begin("Flaky", context)
        code, times, key = message.decode().split()
        with self.world.lock:
            self.world.failures[key] += 1
            fails = self.world.failures[key] <= int(times)
        if fails:
            context.abort(grpc.StatusCode[code], "try again")
        return message

    def hang(self, message: bytes, context: Any) -> Iterator[bytes]:
        """One message if asked, then nothing until the caller gives up."""
        self.begin("Hang", context)
        over = threading.Event()
        context.add_callback(over.set)
        if message:
            yield message
        over.wait(CALL_S)


class World:
    """What the commands act on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.change = threading.Condition()
        self.seen: list[dict[str, Any]] = []
        self.failures: Counter[str] = Counter()
        self.servers: dict[str, Any] = {}
        self.channels: dict[str, Any] = {}

    def begun(self, call: dict[str, Any]) -> None:
        """A call has reached its server."""
        with self.change:
            self.seen.append(call)
            del self.seen[:-_MAX_SEEN]
            self.change.notify_all()

    def ended(self, call: dict[str, Any]) -> None:
        """A call is over at its server."""
        with self.change:
            call["ended"] = True
            self.change.notify_all()

    def do(self, told: dict[str, Any]) -> Any:
        """One command."""
        what = told["do"]
        if what == "serve":
            aged = (("grpc.max_connection_age_ms", told["goaway_ms"]),) if told["goaway_ms"] else ()
            server = grpc.server(ThreadPoolExecutor(16), options=_NO_LIMIT + aged)
            server.add_generic_rpc_handlers((Service(told["name"], self),))
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            self.servers[told["name"]] = server
            return {"port": port}
        if what == "kill":
            self.servers.pop(told["name"]).stop(None)
            return {}
        if what == "calls":
            return self.calls(told["target"], told["calls"])
        if what == "seen":
            with self.change:
                self.change.wait_for(
                    lambda: len(self.seen) >= told["begun"] and sum(one["ended"] for one in self.seen) >= told["ended"],
                    CALL_S,
                )
                return self.seen
        if what == "reset":
            for channel in self.channels.values():
                channel.close()
            for server in self.servers.values():
                server.stop(None)
            self.servers, self.channels, self.seen = {}, {}, []
            return {}
        raise ValueError(f"unknown command {what!r}")

    def calls(self, target: str, calls: list[dict[str, Any]]) -> list[Any]:
        """All at once."""
        channel = self.channels.get(target)
        if channel is None:
            channel = self.channels[target] = grpc.insecure_channel(target, options=_NO_LIMIT)
        with ThreadPoolExecutor(max(len(calls), 1)) as pool:
            return list(pool.map(lambda one: call(channel, **one), calls))


def call(
    channel: Any,
    method: str,
    messages: list[str] | None = None,
    size: int = 0,
    metadata: list[list[str]] | None = None,
    timeout_s: float | None = None,
    gzip: bool = False,
    cancel_after: int | None = None,
    pause_s: float = 0.0,
) -> dict[str, Any]:
    """One call; `size` asks for one message of so many bytes, `cancel_after` gives it up after so many answers.

    A `timeout_s` of 0 is none at all; before each streamed message but the first it pauses for `pause_s`.
    """
    sent = [b"m" * size] if size else [text.encode() for text in messages or [""]]
    pairs = [(key, bytes.fromhex(value) if key.endswith("-bin") else value) for key, value in metadata or []]
    streams_up, streams_down = method in ("Upload", "Talk"), method in ("Download", "Talk", "FailLate", "Hang")
    kind = f"{'stream' if streams_up else 'unary'}_{'stream' if streams_down else 'unary'}"
    path = method if method.startswith("/") else f"/mesh.Test/{method}"
    begin = getattr(channel, kind)(path)
    if not streams_down:
        begin = begin.future
    started_s = time.monotonic()
    ongoing = begin(
        _paused(sent, pause_s) if streams_up else sent[0],
        timeout=CALL_S if timeout_s is None else timeout_s or None,
        metadata=pairs,
        compression=grpc.Compression.Gzip if gzip else None,
    )
    answers: list[bytes] = []
    try:
        if cancel_after == 0:
            ongoing.cancel()
        if streams_down:
            for answer in ongoing:
                answers.append(answer)
                if len(answers) == cancel_after:
                    ongoing.cancel()
        else:
            answers.append(ongoing.result())
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass  # its status says so
    return {
        "code": ongoing.code().name,
        "details": ongoing.details() or "",
        "messages": [_shown(answer) for answer in answers],
        "initial": [[key, _text(value)] for key, value in ongoing.initial_metadata() or ()],
        "trailing": [[key, _text(value)] for key, value in ongoing.trailing_metadata() or ()],
        "took_s": time.monotonic() - started_s,
    }


def _paused(messages: list[bytes], pause_s: float) -> Iterator[bytes]:
    for number, message in enumerate(messages):
        if number:
            time.sleep(pause_s)
        yield message


def _pairs(context: Any) -> Any:
    return [(key, value) for key, value in context.invocation_metadata()]


def _shown(message: bytes) -> str:
    if len(message) <= SHOWN_BYTES:
        return message.decode("latin-1")
    return f"{len(message)} {hashlib.sha256(message).hexdigest()[:16]}"


def _text(value: str | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else value


def main() -> None:
    """Serve commands until standard input ends."""
    world = World()
    said = threading.Lock()

    def answer(told: dict[str, Any]) -> None:
        try:
            reply = {"id": told["id"], "answer": world.do(told)}
        except Exception as exc:
            reply = {"id": told["id"], "error": f"{type(exc).__name__}: {exc}"}
        with said:
            print(json.dumps(reply), flush=True)

    with ThreadPoolExecutor(16) as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))


if __name__ == "__main__":
    main()
