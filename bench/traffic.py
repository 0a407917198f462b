"""The requests of the load: 4 096 different ones, the same in every run.

Different in path, query, request id and cookie, and spread over all routes, so that no proxy can answer from memory of
a whole head. For `fresh` loads the load generator puts a new number in the place of each `UNIQUE` byte.
"""

from dataclasses import dataclass, replace
from random import Random

from bench.mesh import CANARY_HEADER, CANARY_ROUTES, ROUTES, area, areas, is_canary
from bench.scenarios import Heads

COUNT = 4096
SEED = 20_261_121
UNIQUE = "\1"  # never legal in a head, so it cannot be there by chance
SEPARATOR = b"\0"  # between requests in the file for the load generator
UPLOADED = '{"quantity":3}'  # the body of requests that are not eligible for a fast path

_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "orders-client/2.14.1 (linux)")


@dataclass(frozen=True, slots=True)
class Request:
    """A GET, or a POST with a chunked body and a trailer. `canary` says that it must be answered by v2."""

    target: str
    headers: tuple[tuple[str, str], ...]
    canary: bool
    upload: bool = False

    @property
    def method(self) -> str:
        """The method."""
        return "POST" if self.upload else "GET"

    @property
    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """All but Host."""
        return (
            (*self.headers, ("Transfer-Encoding", "chunked"), ("Trailer", "x-checksum"))
            if self.upload
            else self.headers
        )

    def encode(self, host: str) -> bytes:
        """The request as it goes over the wire."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *self.all_headers))
        body = f"{len(UPLOADED):x}\r\n{UPLOADED}\r\n0\r\nx-checksum: 1\r\n\r\n" if self.upload else ""
        return f"{self.method} {self.target} HTTP/1.1\r\n{fields}\r\n{body}".encode("ascii")


def make_requests(
    heads: Heads,
    *,
    fresh: bool = False,
    sampled: bool = False,
    routes: int = ROUTES,
    eligible_percent: int = 100,
    closing: bool = False,
) -> list[Request]:
    """COUNT requests.

    Args:
        fresh: With UNIQUE where something has to differ from request to request.
        sampled: Whether their trace context asks for spans to be kept.
        eligible_percent: How many are plain GETs; the others are spread evenly.
        closing: Each asks for its connection to be closed.
    """
    rng = Random(SEED)
    made = [_request(number, rng, heads, fresh, sampled, routes) for number in range(COUNT)]
    if closing:
        made = [replace(request, headers=(*request.headers, ("Connection", "close"))) for request in made]
    # 37 and 100 have no common factor: in any hundred requests each remainder comes once, not in a row.
    return [replace(request, upload=number * 37 % 100 >= eligible_percent) for number, request in enumerate(made)]


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
