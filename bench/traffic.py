"""The requests of the load: 4 096 different ones, the same in every run.

Different in path, query, request id and cookie, and spread over all routes, so that no proxy can answer from memory of
a whole head. For `fresh` loads the load generator puts a new number in the place of each `UNIQUE` byte.
"""

from dataclasses import dataclass
from random import Random

from bench.mesh import CANARY_HEADER, CANARY_ROUTES, ROUTES, area, areas, is_canary
from bench.scenarios import Heads

COUNT = 4096
SEED = 20_261_121
UNIQUE = "\1"  # never legal in a head, so it cannot be there by chance
SEPARATOR = b"\0"  # between requests in the file for the load generator

_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "orders-client/2.14.1 (linux)")


@dataclass(frozen=True, slots=True)
class Request:
    """A GET. `canary` says that it must be answered by v2."""

    target: str
    headers: tuple[tuple[str, str], ...]
    canary: bool

    def encode(self, host: str) -> bytes:
        """The head as it goes over the wire."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *self.headers))
        return f"GET {self.target} HTTP/1.1\r\n{fields}\r\n".encode("ascii")


def make_requests(heads: Heads, *, fresh: bool = False, sampled: bool = False, routes: int = ROUTES) -> list[Request]:
    """COUNT requests.

    Args:
        fresh: With UNIQUE where something has to differ from request to request.
        sampled: Whether their trace context asks for spans to be kept.
    """
    rng = Random(SEED)
    return [_request(number, rng, heads, fresh, sampled, routes) for number in range(COUNT)]


def _request(number: int, rng: Random, heads: Heads, fresh: bool, sampled: bool, routes: int) -> Request:
    where = number % areas(routes)
    drawn = f"{rng.getrandbits(64):016x}"
    unique = UNIQUE if fresh else drawn
    target = f"{area(where)}/items/{number}?page={rng.randrange(50)}&ref={unique}"
    if heads is Heads.HOST:
        return Request(target, (), canary=False)
    tier = CANARY_HEADER[1] if where < CANARY_ROUTES and rng.random() < 0.5 else "stable"
    trace = f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-{'01' if sampled else '00'}"
    headers = (
        ("User-Agent", rng.choice(_AGENTS)),
        ("Accept", "application/json, text/plain;q=0.9, */*;q=0.8"),
        ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Cache-Control", "no-cache"),
        ("Referer", f"https://shop.example/{area(where).rsplit('/', 1)[-1]}/list"),
        ("Authorization", f"Bearer {rng.getrandbits(256):064x}"),
        ("Cookie", f"session={unique}; theme=dark; basket={rng.getrandbits(48):012x}"),
        ("X-Request-Id", f"{unique}-{number:06d}"),
        ("X-Client-Version", "7.4.2"),
        ("X-Tier", tier),
        ("traceparent", trace),
    )
    return Request(target, headers, canary=is_canary(where, tier))
