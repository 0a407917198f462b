"""One service of the demo: a small real HTTP app that works for 20 to 50 ms and may call another one.

    python -m demo.service --service orders --version v1 --listen 127.0.0.1:8080 --calls stock=127.0.0.1:9001

It knows nothing of the mesh. What it calls is an address on its own machine, where its sidecar listens for that
service; what it must do for the mesh is in `PASSED_ON`. `/` works, `/healthz` says ok, `/counts` says who asked.
"""

import argparse
import json
import re
import signal
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import trio

from demo.http1 import Answer, NoAnswer, Request, Server, ask

# The one thing that an app has to do itself: its sidecar sees requests come in and requests go out, and only the app
# knows which belongs to which. With these fields passed on, a trace is one trace, a log line can be found everywhere,
# and nobody works for longer than the first caller waits.
PASSED_ON = ("traceparent", "tracestate", "x-request-id", "x-mesh-timeout-ms")

MAX_CALLERS = 100  # names that are counted apart
STOP_S = 5.0


@dataclass
class Service:
    """One running instance.

    Attributes:
        calls: (name, address) of the service that it needs for its own answer, or None.
        in_flight: Requests that it works on now.
        served: Answers, by the identity of who asked.
        started: Requests that reached it, by method.
        last_s: When the last one did, Unix seconds.
    """

    name: str
    version: str = ""
    id: str = ""
    calls: tuple[str, str] | None = None
    in_flight: int = 0
    served: Counter[str] = field(default_factory=Counter)
    started: Counter[str] = field(default_factory=Counter)
    last_s: float = 0.0

    async def handle(self, request: Request) -> Answer:
        """Answer one request."""
        path = request.target.partition("?")[0]
        if path == "/healthz":
            return _json(200, {"ok": True})
        if path == "/counts":
            return _json(200, self.counts())
        if path != "/":
            return _json(404, {"error": f"{self.name} has /, /healthz and /counts"})
        self.in_flight += 1
        self.started[request.method if request.method in ("GET", "POST") else "other"] += 1
        self.last_s = time.time()
        try:
            return await self._work(request)
        finally:
            self.in_flight -= 1

    def counts(self) -> dict[str, object]:
        """What this instance has done so far."""
        return {
            "service": self.name,
            "version": self.version,
            "id": self.id,
            "in_flight": self.in_flight,
            "started": sum(self.started.values()),
            "started_by_method": self.started,
            "served": sum(self.served.values()),
            "served_by_caller": self.served,
            "last_s": self.last_s,
        }

    async def _work(self, request: Request) -> Answer:
        caller = caller_of(request)
        work_ms = work_ms_of(f"{request.fields.get('x-request-id', sum(self.started.values()))}/{self.name}")
        await trio.sleep(work_ms / 1000)
        said: dict[str, object] = {"service": self.name, "version": self.version, "id": self.id}
        said |= {"caller": caller, "work_ms": work_ms}
        if self.calls is not None:
            answer = await self._call(*self.calls, request)
            if answer.status != 200:
                return answer
            said["called"] = json.loads(answer.body)
        self.served[caller if caller in self.served or len(self.served) < MAX_CALLERS else "others"] += 1
        return _json(200, said)

    async def _call(self, name: str, address: str, request: Request) -> Answer:
        """Ask the service below for its part; a failure there is a failure here."""
        fields = {field: request.fields[field] for field in PASSED_ON if field in request.fields}
        try:
            answer = await ask(address, Request(request.method, "/", fields | {"host": name}, request.body))
        except NoAnswer as exc:
            return _json(502, {"error": f"{self.name} -> {name}: {exc}"})
        if answer.status == 200:
            return answer
        return _json(answer.status, {"error": f"{self.name} -> {name}: {answer.body.decode('latin-1').strip()}"})


def caller_of(request: Request) -> str:
    """SPIFFE ID of who asked, as the sidecar verified it; "" when the request did not come through the mesh."""
    found = re.search(r"(?:^|[;,])URI=\"?([^\";,]+)", request.fields.get("x-forwarded-client-cert", ""))
    return found[1] if found else ""


def work_ms_of(text: str) -> int:
    """20 to 50, always the same for the same text."""
    return 20 + zlib.crc32(text.encode()) % 31


def _json(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"content-type": "application/json"})


async def run(service: Service, listen: str) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is under way, accept nothing new, and end."""
    host, _, port = listen.rpartition(":")
    listeners = await trio.open_tcp_listeners(int(port), host=host)
    server = Server(service.handle)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            accepting.start_soon(partial(trio.serve_listeners, server.serve, listeners, handler_nursery=connections))
            print(f"listening app {listen}", file=sys.stderr, flush=True)
            await anext(aiter(signals))
            accepting.cancel_scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + STOP_S
            server.finish()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="demo.service", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--service", required=True, help="its name")
    parser.add_argument("--version", default="", help="its version")
    parser.add_argument("--id", default="", help="name of this instance (default: SERVICE-VERSION)")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--calls", metavar="NAME=HOST:PORT", help="the service that it needs, and where to reach it")
    given = parser.parse_args()
    name, _, address = (given.calls or "").partition("=")
    own_id = given.id or "-".join(part for part in (given.service, given.version) if part)
    trio.run(run, Service(given.service, given.version, own_id, (name, address) if address else None), given.listen)


if __name__ == "__main__":
    main()
