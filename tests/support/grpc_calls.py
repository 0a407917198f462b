"""The tests' handle on grpc_peer.py: gRPC servers to call and a client that calls, in a child process.

One child serves a module of tests; `reset` between them. Commands block a thread, never trio.
"""

import itertools
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from sidecar.model.bootstrap import HostPort

COMMAND_S = 40.0  # twice a call's own limit
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Result:
    """How a call ended, as grpcio tells it."""

    code: str
    details: str
    messages: list[str]
    initial: dict[str, str]
    trailing: dict[str, str]
    took_s: float


class GrpcPeer:
    """The child. Commands may be under way side by side."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._ids = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._turn = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = json.loads(line)
            self._waiting.pop(reply["id"]).put(reply)

    def _exchange(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        number, answered = next(self._ids), queue.SimpleQueue[dict[str, Any]]()
        self._waiting[number] = answered
        with self._turn:
            self._process.stdin.write(json.dumps({"id": number, **command}) + "\n")
            self._process.stdin.flush()
        reply = answered.get(timeout=COMMAND_S)
        if "error" in reply:
            raise AssertionError(reply["error"])
        return reply["answer"]

    async def _ask(self, **command: Any) -> Any:
        return await trio.to_thread.run_sync(self._exchange, command, abandon_on_cancel=True)

    async def serve(self, name: str, *, goaway_ms: int = 0) -> HostPort:
        """Start a server; its name comes back in `x-server`. It says GOAWAY to connections of that age, 0: to none."""
        return HostPort("127.0.0.1", (await self._ask(do="serve", name=name, goaway_ms=goaway_ms))["port"])

    async def calls(self, target: tuple[str, int], *calls: dict[str, Any]) -> list[Result]:
        """Calls that run at the same time, over one channel."""
        found = await self._ask(do="calls", target=f"{target[0]}:{target[1]}", calls=calls)
        return [
            Result(**(result | {"initial": dict(result["initial"]), "trailing": dict(result["trailing"])}))
            for result in found
        ]

    async def call(self, target: tuple[str, int], method: str, *messages: str, **how: Any) -> Result:
        """One call."""
        (result,) = await self.calls(target, {"method": method, "messages": list(messages) or [""], **how})
        return result

    async def kill(self, name: str) -> None:
        """Break off every call of a server, and close it."""
        await self._ask(do="kill", name=name)

    async def seen(self, *, begun: int = 0, ended: int = 0) -> list[dict[str, Any]]:
        """Every call that reached a server, oldest first, when at least so many have begun and are over."""
        found: list[dict[str, Any]] = await self._ask(do="seen", begun=begun, ended=ended)
        assert len(found) >= begun, found
        assert sum(one["ended"] for one in found) >= ended, found
        return found

    async def reset(self) -> None:
        """Close channels, stop servers, forget what was seen."""
        await self._ask(do="reset")


@contextmanager
def grpc_peer() -> Iterator[GrpcPeer]:
    """A child for the length of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.grpc_peer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        try:
            yield GrpcPeer(process)
        finally:
            process.kill()
