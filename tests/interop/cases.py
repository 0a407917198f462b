"""The choices of the interop matrix, and which of them do not go together, each with its reason.

A case is (client, transport, upstream, feature). A transport is what the client speaks, the hop, and what the upstream
speaks: `h1-h2c` is one sidecar that translates, `h1-mesh-h1` two with HTTP/2 over mutual TLS between them, `h1-auto-h1`
one that was told nothing about the upstream's port.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.interop.pairs import Combination
from tests.interop.record import Ask
from tests.interop.upstreams.farm import H1, H2, SPEAKS

CLIENT_SPEAKS = {
    "curl": (H1, H2),
    "httpx": (H1, H2),
    "aiohttp": (H1,),
    "requests": (H1,),
    "node-http": (H1,),
    "node-http2": (H2,),
    "grpcio": (H2,),
}


@dataclass(frozen=True)
class Transport:
    """How a client's bytes get to the upstream.

    Attributes:
        hop: The service of world.py: `plain` dials the upstream, `meshed` the other sidecar, `auto` the upstream, whose
            port declares no protocol: what the client speaks is what it gets.
    """

    client: str
    hop: str
    upstream: str

    @property
    def name(self) -> str:
        """As it stands in test names."""
        return "-".join((self.client, *_IN_NAMES[self.hop], self.upstream))


_IN_NAMES = {"plain": (), "meshed": ("mesh",), "auto": ("auto",)}
_WAYS = [Transport(client, hop, up) for hop in ("plain", "meshed") for client in (H1, H2) for up in (H1, H2)]
TRANSPORTS = {way.name: way for way in (*_WAYS, Transport(H1, "auto", H1), Transport(H2, "auto", H2))}
PLAIN_FEATURES = (
    *("get", "query", "big", "post", "chunked", "continue", "trailers", "head", "204", "304", "range", "103", "close"),
)
GRPC_FEATURES = ("unary", "upload", "download", "talk", "fail")
AXES = (tuple(CLIENT_SPEAKS), tuple(TRANSPORTS), tuple(SPEAKS), (*PLAIN_FEATURES, *GRPC_FEATURES))

_GRPC_UPSTREAMS = ("grpcio", "nginx", "haproxy", "envoy")
# Where a feature does not exist on the upstream's side: (upstream, version or "", feature) -> why.
NOT_AT = {
    ("nginx", "", "trailers"): "nginx 1.22 drops trailers",
    ("uvicorn", "", "trailers"): "uvicorn has no trailers",
    ("hypercorn", H1, "trailers"): "hypercorn has trailers over HTTP/2 only",
    ("nginx", "", "103"): "nginx 1.22 breaks its own HTTP/2 stream after a 103 and closes in HTTP/1.1",
    ("uvicorn", "", "103"): "uvicorn has no early hints",
    ("hypercorn", H1, "103"): "hypercorn has early hints over HTTP/2 only",
    ("envoy", "", "103"): "Envoy drops 103",
    ("nginx", H2, "continue"): "nginx 1.22 sends no 100 over HTTP/2, and clients that wait would wait for ever",
    ("hypercorn", H2, "continue"): "hypercorn sends no 100 over HTTP/2",
    ("nghttpd", "", "103"): "nghttpd has no early hints",
    ("nghttpd", "", "204"): "nghttpd has no 204",
}
# Where it does not exist on the client's: (client, feature) -> why.
NOT_WITH = {
    ("requests", "103"): "http.client of Python 3.11 takes 103 for the final answer",
    ("requests", "continue"): "requests does not wait for 100 Continue",
    ("httpx", "continue"): "httpx does not wait for 100 Continue",
}


def why_not(combination: Combination) -> str:
    """Why a case cannot be; "" when it can."""
    client, transport_name, upstream, feature = combination
    transport = TRANSPORTS[transport_name]
    if transport.client not in CLIENT_SPEAKS[client]:
        return f"{client} does not speak {transport.client} without TLS"
    if transport.upstream not in SPEAKS[upstream]:
        return f"{upstream} does not speak {transport.upstream} without TLS"
    if (client == "grpcio") != (feature in GRPC_FEATURES):
        return "grpcio makes gRPC calls, and only grpcio does"
    if feature in GRPC_FEATURES and (upstream not in _GRPC_UPSTREAMS or transport.upstream != H2):
        return "no gRPC service there"
    if feature in PLAIN_FEATURES and upstream == "grpcio":
        return "the gRPC service answers nothing but calls"
    if feature == "close" and transport.client != H1:
        return "HTTP/2 has no Connection: close"
    for version in ("", transport.upstream):
        if why := NOT_AT.get((upstream, version, feature)):
            return why
    return NOT_WITH.get((client, feature), "")


SMALL_UPLOAD, BIG_UPLOAD = "64k", "10m"
_UNCHANGED = (
    ("If-None-Match", '"v1", "6553f100-1f"'),  # the second is nginx's own
    ("If-Modified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"),
)
_TE = (("TE", "trailers"),)


def _trailers(client: str, upstream: str, bodies: Path) -> Ask:
    if upstream == "nghttpd":
        return Ask("GET", "/small", _TE)
    if client.startswith("node"):  # the clients that can send trailers, too
        body = bodies / SMALL_UPLOAD
        return Ask("POST", "/trailers", _TE, body, counted=False, trailers=(("x-note", "from the client"),))
    return Ask("GET", "/trailers", _TE)


def ask(client: str, upstream: str, feature: str, bodies: Path) -> Ask:
    """The request that shows a feature. `bodies` is the folder with the files to upload."""
    if upstream == "nghttpd":  # files and an echo are all it has
        seen, digest = "/small", "/small"
    else:
        seen, digest = "/seen", "/digest"
    asks = {
        "get": Ask("GET", seen, (("X-Twice", "one"), ("X-Other", "Mixed Case; q=1"), ("Cookie", "a=1; b=2"))),
        "query": Ask("GET", f"{seen}?q=a%2Fb&q=%20+c&empty=&%C3%A9=%E2%82%AC", (("Accept-Language", "de, en;q=0.5"),)),
        "big": Ask("GET", "/big"),
        "post": Ask("POST", digest, body=bodies / BIG_UPLOAD),
        "chunked": Ask(
            "POST", "/chunked" if digest == "/digest" else digest, body=bodies / SMALL_UPLOAD, counted=False
        ),
        "continue": Ask("POST", digest, body=bodies / SMALL_UPLOAD, expect=True),
        "trailers": _trailers(client, upstream, bodies),
        "head": Ask("HEAD", "/small"),
        "204": Ask("GET", "/nothing"),
        "304": Ask("GET", "/small", _UNCHANGED),
        "range": Ask("GET", "/small", (("Range", "bytes=6-9"),)),
        "103": Ask("GET", "/hints"),
        "close": Ask("GET", "/small", (("Connection", "close"),)),
        **{call: Ask("POST", f"/interop.Echo/{call.capitalize()}") for call in GRPC_FEATURES},
        "upload": Ask("POST", "/interop.Echo/Upload", body=bodies / BIG_UPLOAD),
    }
    return asks[feature]
