"""The rows: those of `make bench`, and all of them (`make bench-full`)."""

from dataclasses import replace

from bench.scenarios import EQUAL, EQUAL_H2, FAST, FULL, MINIMAL, Heads, Kind, Log, Scenario

ALL_PROXIES = (FAST, FULL, MINIMAL, EQUAL, "haproxy", "nginx")

BENCH = (
    Scenario(name="Host only", heads=Heads.HOST),
    Scenario(name="Host + 12"),
    Scenario(name="Host + 12, unseen", fresh=True, proxies=(FAST, FULL, EQUAL)),
)


def full() -> tuple[Scenario, ...]:
    """The rows of `make bench-full`."""
    rows = [
        *(replace(row, proxies=ALL_PROXIES) for row in BENCH[:2]),
        *BENCH[2:],
        Scenario(name="access log of all", log=Log.ALL),
        Scenario(name="5 000 requests/s", rate=5_000.0, seconds=5.0),
        *(Scenario(name=f"body of {label}", body_bytes=size) for label, size in _SIZES.items()),
        *(Scenario(name=f"{count} connections", connections=count) for count in (1, 256)),
        Scenario(name="new connection each", new_connections=True),
        *(Scenario(name=f"{share} % eligible", eligible_percent=share) for share in (95, 80, 0)),
        *MESH,
        *TCP,
        *HTTP2,
    ]
    return tuple(replace(row, seconds=max(row.seconds, 5.0)) for row in rows)


MESH = tuple(
    Scenario(name=f"two sidecars, {heads.value}", kind=Kind.MESH, heads=heads, proxies=(FAST, FULL, EQUAL, EQUAL_H2))
    for heads in Heads
)
_OPAQUE = (FAST, EQUAL, "haproxy")
TCP = (
    Scenario(name="TCP, exchanges", kind=Kind.EXCHANGE, proxies=_OPAQUE),
    Scenario(name="TCP, one stream", kind=Kind.BULK, proxies=_OPAQUE),
)
HTTP2 = tuple(
    Scenario(
        name=f"{kind.name}, {connections} x {streams}",
        kind=kind,
        connections=connections,
        streams=streams,
        proxies=(FAST, EQUAL),
    )
    for kind in (Kind.HTTP2, Kind.GRPC)
    for connections, streams in ((4, 32), (32, 1))
)
_SIZES = {"1 KiB": 1024, "16 KiB": 16_384, "1 MiB": 1_048_576}
