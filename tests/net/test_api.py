"""The API over real sockets: who may ask, how much, for how long, and what an error looks like."""

import json
from typing import Any

import httpx2
import pytest
import trio

from control_plane.api import listen
from control_plane.api.guard import Limits
from tests.net.api_server import AUTH, LIMITS, TOKEN, serving


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "hint", "details", "kind"}
    assert isinstance(error, dict)
    return error


async def test_a_request_with_the_token_is_answered() -> None:
    async with serving() as server, server.client() as client:
        answer = await client.get("/v1/version")
        assert answer.status_code == 200
        assert answer.json() == {"version": "0.1.0", "trust_domain": "mesh.local", "revision": 7, "started_s": 1.5}
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer " + TOKEN[:-1]])
async def test_a_request_without_the_token_is_refused(sent: str | None) -> None:
    async with serving() as server, server.client({"authorization": sent} if sent else {}) as client:
        for path in ("/v1/version", "/metrics", "/nothing"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert "api.token" in error_of(answer)["hint"]
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["connection"] == "close"


async def test_probes_need_no_token_and_no_known_host() -> None:
    async with serving() as server, server.client({"host": "10-0-0-7.pods.example"}) as client:
        for path in ("/live", "/ready"):
            assert (await client.get(path)).text == "ok\n"


async def test_metrics_can_be_opened() -> None:
    async with serving(open_paths=frozenset({"/metrics"})) as server, server.client({}) as client:
        answer = await client.get("/metrics")
        assert (answer.status_code, answer.text) == (200, "control_plane_sessions 0\n")
        assert (await client.get("/v1/version")).status_code == 401


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:5", "10.1.2.3", "mesh.internal:15010"]
)
async def test_hosts_that_no_browser_can_be_tricked_into_are_served(host: str) -> None:
    async with serving(hosts=frozenset({"mesh.internal"})) as server, server.client({**AUTH, "host": host}) as client:
        assert (await client.get("/v1/version")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:15010", "::1", "a[::1]"]
)
async def test_a_rebound_name_is_refused_before_the_token_is_looked_at(host: str) -> None:
    async with serving() as server, server.client({"host": host}) as client:
        answer = await client.get("/v1/version")
        assert answer.status_code == 421
        assert error_of(answer)["kind"] == "host"


async def test_unknown_paths_and_methods_say_what_is_possible() -> None:
    async with serving() as server, server.client() as client:
        answer = await client.get("/v2/nothing")
        assert (answer.status_code, error_of(answer)["message"]) == (404, "there is nothing at /v2/nothing")
        answer = await client.put("/v1/resources/Service/shop/orders", content=b"{}")
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}
        assert error_of(answer)["kind"] == "method"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "field 'documents' is missing"),
        (b'{"documents": 3}', "documents: not a text"),
        (b'{"documents": "", "dryrun": true}', "unknown field 'dryrun'"),
        (b'{"documents": "", "dry_run": 1}', "dry_run: not a truth value"),
    ],
)
async def test_a_malformed_body_is_refused(body: bytes, says: str) -> None:
    async with serving() as server, server.client() as client:
        answer = await client.post("/v1/apply", content=body)
        assert answer.status_code == 400
        assert says in error_of(answer)["message"]
        assert server.plane.asked == []


async def test_apply_hands_over_text_source_and_dry_run() -> None:
    async with serving() as server, server.client() as client:
        answer = await client.post(
            "/v1/apply", json={"documents": "kind: Service", "source": "a.yaml", "dry_run": True}
        )
        assert answer.json() == {
            "revision": 8,
            "changed": ["Service/shop/orders"],
            "unchanged": [],
            "dry_run": True,
            "warnings": [],
        }
        assert server.plane.asked == [("apply", "kind: Service", "a.yaml", True)]


async def test_refusals_of_the_mesh_keep_their_words_and_get_a_status() -> None:
    async with serving() as server, server.client() as client:
        answer = await client.post("/v1/apply", json={"documents": "bad", "source": "b.yaml"})
        assert answer.status_code == 422
        error = error_of(answer)
        assert error == {"message": "1 problem", "hint": "mend it", "details": ["b.yaml:1:1: what"], "kind": "invalid"}
        assert (await client.get("/v1/resources/Service/shop/x")).status_code == 404
        answer = await client.post("/v1/traffic/shop/orders", json={"weights": {"v1": 1}})
        assert (answer.status_code, error_of(answer)["kind"]) == (409, "ambiguous")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/resources?kinds=Service", "unknown parameter 'kinds'"),
        ("/v1/resources?kind=a&kind=b", "there twice"),
        ("/v1/version?x=1", "unknown parameter 'x'"),
        ("/v1/wait", "revision=: not a whole number"),
        ("/v1/wait?revision=-1", "not a whole number"),
        ("/v1/wait?revision=" + "9" * 30, "not a whole number"),
        ("/v1/wait?revision=1&timeout_s=nan", "not a number from 0 to 10"),
        ("/v1/wait?revision=1&timeout_s=11", "not a number from 0 to 10"),
    ],
)
async def test_query_parameters_are_checked(path: str, says: str) -> None:
    async with serving() as server, server.client() as client:
        answer = await client.get(path)
        assert answer.status_code == 400
        assert says in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/traffic/shop/orders", {"weights": {"v1": True}}, "weights.v1: True is not a whole number"),
        ("/v1/traffic/shop/orders", {"weights": {"v1": 1.5}}, "weights.v1: 1.5 is not a whole number"),
        ("/v1/traffic/shop/orders", {"weights": [1]}, "weights: not a JSON object"),
        ("/v1/tokens", {"service": "orders"}, "field 'namespace' is missing"),
        ("/v1/tokens", {"service": "orders", "namespace": "shop", "uses": 0}, "uses: 0 is not between"),
        ("/v1/tokens", {"service": "orders", "namespace": "shop", "uses": True}, "uses: not a whole number"),
        (
            "/v1/tokens",
            {"service": "orders", "namespace": "shop", "ttl_s": 1e9},
            "ttl_s: 1e+09 is not between 1 and 2592000 (30 days)",
        ),
        ("/v1/certs/rotate", {"spread_s": -1}, "spread_s: -1 is not between"),
    ],
)
async def test_fields_are_checked(path: str, body: dict[str, Any], says: str) -> None:
    async with serving() as server, server.client() as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 400
        assert says in error_of(answer)["message"]
        assert server.plane.asked == []


async def test_delete_and_token_and_rotation_reach_the_mesh() -> None:
    async with serving() as server, server.client() as client:
        assert (await client.delete("/v1/resources/HTTPRoute/shop/orders?dry_run=true")).json()["revision"] == 9
        made = await client.post("/v1/tokens", json={"service": "orders", "namespace": "shop", "ttl_s": 60})
        assert made.json() == {"id": "t1", "join_file": "-----BEGIN", "expires_s": 10.0}
        assert (await client.post("/v1/certs/rotate")).json() == {"asked": 2, "spread_s": 30.0}
        grant = {"service": "orders", "namespace": "shop", "account": "", "uses": 1, "ttl_s": 60}
        assert server.plane.asked == [("delete", "HTTPRoute", "shop", "orders", True), ("token", grant)]


async def test_a_bug_is_reported_to_the_operator_and_hidden_from_the_client() -> None:
    async with serving() as server, server.client() as client:
        answer = await client.get("/v1/resources/Service/shop/bug")
        assert answer.status_code == 500
        assert error_of(answer)["kind"] == "internal"
        assert "secret" not in answer.text
        assert server.bugs == ["GET /v1/resources/Service/shop/bug: KeyError('a secret of the program')"]
        assert (await client.get("/v1/version")).status_code == 200


async def test_a_store_that_fails_is_told_to_both() -> None:
    async with serving() as server, server.client() as client:
        answer = await client.post("/v1/apply", json={"documents": "full"})
        assert (answer.status_code, error_of(answer)["kind"]) == (503, "store")
        assert error_of(answer)["message"] == "the control plane's store failed; nothing was changed"
        assert error_of(answer)["details"] == ["data/store.db: database or disk is full"]
        assert [line.partition(":")[0] for line in server.bugs] == ["POST /v1/apply"]


async def test_a_handler_that_hangs_is_cut_off() -> None:
    async with serving(Limits(answer_s=0.05)) as server, server.client() as client:
        answer = await client.get("/v1/check")
        assert (answer.status_code, error_of(answer)["kind"]) == (504, "slow")


async def test_a_body_that_never_comes_is_not_waited_for() -> None:
    async with serving(Limits(answer_s=0.05)) as server:
        head = f"POST /v1/apply HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
        got = await server.raw(f"{head}content-length: 9\r\n\r\n{{".encode())
        assert got.startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("authorized", [True, False])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
async def test_a_body_over_the_limit_is_refused_and_the_connection_freed(framing: str, authorized: bool) -> None:
    async with serving() as server:
        secret = TOKEN if authorized else "wrong"
        head = f"POST /v1/apply HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n".encode()
        size = 40 * LIMITS.body_bytes
        if framing == "declared":
            sent = head + b"content-length: %d\r\n\r\n" % size + b"x" * size
        else:
            chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
            sent = head + b"transfer-encoding: chunked\r\n\r\n" + chunk * (size // 0x4000)
        # The server may close while the client still sends; what counts is that it ends, and that nothing was applied.
        got = await server.raw(sent)
        assert got == b"" or got.startswith(b"HTTP/1.1 413 " if authorized else b"HTTP/1.1 401 ")
        assert server.plane.asked == []
        async with server.client() as client:
            assert (await client.get("/v1/version")).status_code == 200


async def test_a_body_at_the_limit_is_taken() -> None:
    async with serving() as server, server.client() as client:
        empty = json.dumps({"documents": ""})
        text = "x" * (LIMITS.body_bytes - len(empty))
        answer = await client.post("/v1/apply", content=json.dumps({"documents": text}))
        assert answer.status_code == 200
        assert server.plane.asked == [("apply", text, "<input>", False)]
        assert (await client.post("/v1/apply", content=json.dumps({"documents": text + "x"}))).status_code == 413


async def test_a_head_over_the_limit_is_refused() -> None:
    async with serving() as server:
        got = await server.raw(b"GET /v1/version HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 40_000)
        assert got.startswith(b"HTTP/1.1 431 ")


async def test_a_client_that_leaves_ends_its_wait() -> None:
    async with serving() as server:
        with trio.move_on_after(5) as asking:
            async with server.client() as client, trio.open_nursery() as nursery:

                async def leave() -> None:
                    await server.plane.waiting.wait()
                    asking.cancel()

                nursery.start_soon(leave)
                await client.get("/v1/wait?revision=1&timeout_s=10")
        with trio.fail_after(2):
            await server.plane.left.wait()


async def test_a_wait_of_its_own_length_is_answered() -> None:
    async with serving(Limits(answer_s=0.05, longest_wait_s=10.0)) as server, server.client() as client:
        answer = await client.get("/v1/wait?revision=5&timeout_s=0.2")
        assert answer.json()["waiting"] == ["shop/orders-1"]


async def test_connections_are_reused_and_answers_do_not_mix() -> None:
    async with serving() as server, server.client() as client:
        for _ in range(20):
            assert (await client.get("/v1/version")).json()["revision"] == 7
            assert (await client.post("/v1/apply", content=b"{")).status_code == 400


async def test_more_requests_than_allowed_are_told_to_come_back() -> None:
    limits = Limits(in_flight=1, answer_s=5, longest_wait_s=5)
    async with serving(limits) as server, server.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.get, "/v1/wait?revision=1&timeout_s=5")
        await server.plane.waiting.wait()
        answer = await client.get("/v1/version")
        assert (answer.status_code, error_of(answer)["kind"]) == (503, "busy")
        assert (await client.get("/live")).status_code == 200
        server.plane.never.set()


async def test_stopping_ends_waits_and_idle_connections_soon() -> None:
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        async with serving() as server:
            client = server.client()
            await client.get("/v1/version")

            async def wait() -> None:
                try:
                    await client.get("/v1/wait?revision=1&timeout_s=10")
                except httpx2.HTTPError:
                    pass

            nursery.start_soon(wait)
            await server.plane.waiting.wait()
        await client.aclose()
    assert trio.current_time() - started < 2


async def test_a_client_that_does_not_read_loses_its_connection() -> None:
    async with serving() as server:
        server.plane.metrics_text = b"x" * (64 * 1024 * 1024)
        host, port = listen.split_address(server.address)
        stream = await trio.open_tcp_stream(host, port)
        async with stream:
            await stream.send_all(
                f"GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()
            )
            with trio.fail_after(10):
                await server.plane.metrics_sent.wait()
