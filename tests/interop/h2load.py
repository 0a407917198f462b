"""nghttp2's load generator against a sidecar: many streams on many connections, and not one that fails.

The upstream is either nghttpd, which keeps its connections, or nginx, which says GOAWAY after every 1000 requests
(its `keepalive_requests`), so that streams are under way when the shared connections of the pool end.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.progress import Say
from tests.interop.upstreams.farm import H2
from tests.interop.world import World
from tests.support import needs

CLIENTS = 50
STREAMS = 10
PROVEN_REQUESTS = 100_000
PROVEN_WAYS = (("nghttpd", "plain"), ("nginx", "meshed"))
# Of the whole run: 100 000 requests take about a minute through one sidecar and two through a mesh of python-h2.
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Outcome:
    """What h2load counted."""

    requests: int
    succeeded: int
    failed: int
    answered_2xx: int
    per_second: float

    @property
    def whole(self) -> bool:
        """True when every request got a 2xx."""
        return self.requests == self.succeeded == self.answered_2xx and not self.failed


def play(port: int, requests: int, clients: int = CLIENTS, streams: int = STREAMS) -> Outcome:
    """Send so many GET /small to a port of 127.0.0.1, over HTTP/2 with prior knowledge."""
    tool = needs.find("h2load")
    assert tool is not None, needs.missing(["h2load"])
    load = ("-n", requests, "-c", clients, "-m", streams)
    argv = [tool, *map(str, load), f"http://127.0.0.1:{port}/small"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def read(text: str) -> Outcome:
    """What h2load prints."""
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    statuses = re.search(r"status codes: (\d+) 2xx", text)
    rate = re.search(r"finished in .*, ([\d.]+) req/s", text)
    assert counts, text
    assert statuses, text
    assert rate, text
    total, succeeded, *bad = map(int, counts.groups())
    return Outcome(total, succeeded, sum(bad), int(statuses.group(1)), float(rate.group(1)))


def prove(say: Say) -> str:
    """All requests through one sidecar and through two; the figure for the ledger. Raises AssertionError."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            for upstream, hop in PROVEN_WAYS:
                way = f"{'two sidecars' if hop == 'meshed' else 'one sidecar'} to {upstream}"
                say(f"{PROVEN_REQUESTS:,} requests through {way}")
                world.farm.need(upstream)
                port = world.sidecars.port(world.farm.ports[upstream, H2], hop)
                outcome = play(port, PROVEN_REQUESTS)
                assert outcome.whole, f"{way}: {outcome}"
                figures.append(f"{way}: {outcome.requests:,} at {outcome.per_second:,.0f}/s, 0 failed")
        finally:
            world.stop()
    return "; ".join(figures)
