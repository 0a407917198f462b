"""The rows: those of `make bench`, and all of them (`make bench-full`).

The first rows of a full run are those of `make bench`, so that one that is stopped has measured what matters most.
"""

from dataclasses import replace

from bench.scenarios import (
    DIRECT,
    EQUAL,
    EQUAL_H2,
    FAST,
    FULL,
    MINIMAL,
    POLICIES_OFF,
    POLICIES_ON,
    AnyScenario,
    Heads,
    IdleScenario,
    Kind,
    Log,
    MemoryScenario,
    RoutesScenario,
    Scenario,
)

ALL_PROXIES = (FAST, FULL, MINIMAL, EQUAL, "haproxy", "nginx")
_KIB, _MIB = 1 << 10, 1 << 20
_LONGER_S = 5.0  # a measurement of a full run

BENCH: tuple[AnyScenario, ...] = (
    Scenario(name="Host only", heads=Heads.HOST),
    Scenario(name="Host + 12"),
    Scenario(name="Host + 12, unseen", fresh=True, proxies=(FAST, FULL, EQUAL)),
    MemoryScenario(),
)


def _http1() -> list[Scenario]:
    sizes = {"1 KiB": _KIB, "16 KiB": 16 * _KIB, "1 MiB": _MIB}
    return [
        Scenario(name="Host only, and others", heads=Heads.HOST, proxies=ALL_PROXIES),
        Scenario(name="Host + 12, and others", proxies=ALL_PROXIES),
        Scenario(name="Host + 12, unseen", fresh=True, proxies=(FAST, FULL, EQUAL)),
        *(
            Scenario(name=f"common policies, {label}", heads=heads, proxies=(POLICIES_OFF, POLICIES_ON))
            for label, heads in (("Host only", Heads.HOST), ("Host + 12", Heads.TWELVE))
        ),
        Scenario(name="5 000 requests/s", rate=5_000.0),
        Scenario(name="access log of all", log=Log.ALL),
        *(Scenario(name=f"body of {label}", body_bytes=size) for label, size in sizes.items()),
        *(Scenario(name=f"{share} % eligible", eligible_percent=share) for share in (95, 80, 0)),
        *(Scenario(name=f"{count} connections", connections=count) for count in (1, 256)),
        Scenario(name="new connection each", new_connections=True),
        Scenario(name="a push a second", pushes=True),
    ]


def _mesh() -> list[Scenario]:
    proxies = (FAST, FULL, EQUAL, EQUAL_H2)
    return [
        Scenario(name="two sidecars, Host only", kind=Kind.MESH, heads=Heads.HOST, proxies=proxies),
        Scenario(name="two sidecars, Host + 12", kind=Kind.MESH, proxies=proxies),
    ]


def _opaque() -> list[Scenario]:
    proxies = (FAST, EQUAL, "haproxy")
    return [
        Scenario(name="TCP, exchanges", kind=Kind.EXCHANGE, proxies=proxies),
        Scenario(name="TCP, one stream", kind=Kind.BULK, proxies=proxies),
    ]


def _latency() -> list[Scenario]:
    base = Scenario(name="latency", proxies=(DIRECT, FAST, EQUAL), load_percent=50, seconds=8.0)
    half = "latency, half load"
    return [
        *(replace(base, name=f"{half}, {count} connections", connections=count) for count in (32, 256)),
        *(
            replace(
                base,
                name=f"latency, {share} % of the slower, {count} connections",
                load_percent=share,
                load_of="slower",
                connections=count,
            )
            for share in (25, 50, 75)
            for count in (32, 256)
        ),
        replace(base, name=f"{half}, 50 handshakes/s", handshakes_per_s=50),
        replace(base, name=f"{half}, 1 000 routes pushed each second", pushes=True, routes=1000),
    ]


def _http2() -> list[Scenario]:
    return [
        Scenario(
            name=f"{'gRPC' if kind is Kind.GRPC else 'HTTP/2'}, {connections} connections x {streams} streams",
            kind=kind,
            connections=connections,
            streams=streams,
            proxies=(FAST, EQUAL),
        )
        for kind in (Kind.HTTP2, Kind.GRPC)
        for connections, streams in ((4, 32), (32, 1))
    ]


def full() -> tuple[AnyScenario, ...]:
    """The rows of `make bench-full`."""
    timed = [*_http1(), *_mesh(), *_opaque(), *_latency(), *_http2()]
    return (
        *(replace(row, seconds=max(row.seconds, _LONGER_S)) for row in timed),
        MemoryScenario(),
        *(RoutesScenario(name=f"{count:,} routes", routes=count) for count in (0, 10, 100, 1000, 5000)),
        *(IdleScenario(name=f"{count:,} idle connections", connections=count) for count in (1000, 10_000)),
        IdleScenario(name="1,000 idle connections, mutual TLS", connections=1000, mtls=True),
    )


def of_each_kind() -> tuple[AnyScenario, ...]:
    """One row of each kind, for a smoke run: every proxy, load and table once."""
    names = {
        "Host + 12, and others",
        "common policies, Host + 12",
        "5 000 requests/s",
        "body of 16 KiB",
        "80 % eligible",
        "new connection each",
        "two sidecars, Host + 12",
        "TCP, exchanges",
        "TCP, one stream",
        "latency, half load, 50 handshakes/s",
        "latency, half load, 1 000 routes pushed each second",
        "HTTP/2, 4 connections x 32 streams",
        "gRPC, 4 connections x 32 streams",
        "memory, two sidecars",
        "10 routes",
        "1,000 idle connections, mutual TLS",
    }
    return tuple(row for row in full() if row.name in names)
