"""Transparent capture at both ends of the mesh: clients and servers as they are, mutual TLS in between, IPv4 and IPv6.

One world for each family, made once: rules, sidecars and servers stay for all tests of it.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.captured_mesh import (
    GREETER,
    GREETING,
    HTTP,
    POSTGRES,
    REDIS,
    SIDECAR,
    UNKNOWN,
    Machines,
    database,
    machines,
)

pytestmark = pytest.mark.needs("ip", "nft", "redis-server", "redis-cli", "initdb", "psql")
FRONTEND, DATA = "spiffe://mesh.local/ns/shop/sa/frontend", "spiffe://mesh.local/ns/shop/sa/data"
LIMIT_S = 5.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    with database() as made:
        yield made


@pytest.fixture(scope="module", params=[4, 6], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest, cluster: Path) -> Iterator[Machines]:
    with machines(request.param, cluster) as made:
        yield made


def logged(world: Machines, machine: str, text: str) -> dict[str, Any]:
    """The last line of a sidecar's access log that contains `text`."""
    ends_s = time.monotonic() + LIMIT_S
    while True:
        for line in reversed(world.sidecars[machine].lines):
            if line.startswith("{") and text in line:
                return dict(json.loads(line))
        assert time.monotonic() < ends_s, world.sidecars[machine].lines
        time.sleep(0.02)  # log lines are written in batches


def of(port: int) -> str:
    """What a line about a port of the service contains."""
    return f'"upstream_cluster":"data.shop:{port}"'


def test_redis_is_used_by_its_own_client(world: Machines) -> None:
    def redis(*words: str) -> str:
        done = world.client("redis-cli", "-h", world.address, "-p", str(REDIS), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert redis("PING") == "PONG"
    assert redis("SET", "key", "value") == "OK"
    assert redis("GET", "key") == "value"
    assert redis("EVAL", "return redis.call('SET', 'big', string.rep('x', 5000000))", "0") == "OK"
    assert len(redis("GET", "big")) == 5_000_000
    assert redis("--latency", "-i", "0.05", "--raw").count("\n") == 0  # many pings on one connection

    source, destination = logged(world, "here", of(REDIS)), logged(world, "there", of(REDIS))
    assert (source["reporter"], source["protocol"], source["response_flags"]) == ("source", "TCP", "-")
    assert (destination["protocol"], destination["response_flags"]) == ("TCP", "-")
    assert (source["tls"], source["principal"]) == (True, DATA)
    assert (destination["tls"], destination["principal"]) == (True, FRONTEND)


def test_postgresql_is_used_by_its_own_client(world: Machines) -> None:
    def psql(query: str) -> str:
        where = ("-h", world.address, "-p", str(POSTGRES), "-U", "postgres")
        done = world.client("psql", *where, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert psql("select 1 + 1") == "2"
    psql("drop table if exists goods")
    psql("create table goods as select n, repeat('x', 100) as text from generate_series(1, 20000) as n")
    rows = psql("copy goods to stdout").splitlines()
    assert len(rows) == 20_000
    assert rows[-1] == "20000\t" + "x" * 100
    assert psql("select sum(n) from goods") == "200010000"
    assert logged(world, "there", of(POSTGRES))["principal"] == FRONTEND


def test_a_server_speaks_first_on_a_port_that_declares_nothing(world: Machines) -> None:
    began_s = time.monotonic()
    with world.dial(GREETER) as client:
        client.settimeout(LIMIT_S)
        assert client.recv(100) == GREETING
        assert time.monotonic() - began_s < 1.0  # 0.2 of them detection's
        client.sendall(b"EHLO\r\n")
        assert client.recv(100) == b"EHLO\r\n"


def test_a_request_is_read_on_its_way(world: Machines) -> None:
    with world.dial(HTTP) as client:
        client.settimeout(LIMIT_S)
        client.sendall(b"GET /goods HTTP/1.1\r\nHost: whatever.example\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    request = next(each for each in reversed(world.requests) if b"/goods" in each)
    assert b"traceparent: " in request.lower()
    assert f"URI={FRONTEND}".encode() in request
    assert logged(world, "here", of(HTTP))["path"] == "/goods"


@pytest.mark.parametrize("port", [HTTP, REDIS])
def test_nobody_reaches_the_service_past_its_sidecar(world: Machines, port: int) -> None:
    """A caller that is not captured, as the sidecar's own user is not, speaks plain text: strict mode refuses it."""
    with world.dial(port, uid=SIDECAR) as client:
        client.settimeout(LIMIT_S)
        client.sendall(b"PING\r\n")
        try:
            answer = client.recv(100)
        except ConnectionResetError:
            answer = b""
    assert not answer.startswith((b"+PONG", b"HTTP/"))
    assert logged(world, "there", '"event":"peer-refused"')["reason"] == "handshake"


def test_what_the_mesh_does_not_know_is_refused_where_the_file_says_so(world: Machines) -> None:
    refused = contextlib.suppress(ConnectionResetError)
    with refused, world.there.listen(world.address, UNKNOWN), world.dial(UNKNOWN) as client:
        client.settimeout(LIMIT_S)
        assert client.recv(100) == b""
    assert logged(world, "here", '"reason":"unknown-destination"')["reporter"] == "source"


def test_remove_restores_the_rules_byte_for_byte(world: Machines) -> None:
    for name, machine in (("here", world.here), ("there", world.there)):
        assert machine.ruleset() != world.before[name]
        world.capture(name, "remove")
        assert machine.ruleset() == world.before[name]
    with pytest.raises(ConnectionRefusedError):  # nobody listens on the machine's own address any more
        world.dial(REDIS)
    world.apply()
    test_a_server_speaks_first_on_a_port_that_declares_nothing(world)
