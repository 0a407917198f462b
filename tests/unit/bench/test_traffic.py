"""The load: nothing in it can be answered from memory of a whole head, and every route is used."""

import h11
import pytest

from bench import mesh
from bench.scenarios import Heads
from bench.traffic import COUNT, SEPARATOR, UNIQUE, Request, make_requests

HOST = "orders.shop:8080"


def parsed(request: Request) -> h11.Request:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(request.encode(HOST))
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    return event


@pytest.mark.parametrize("heads", Heads)
def test_all_requests_differ(heads: Heads) -> None:
    requests = make_requests(heads)

    assert len({request.encode(HOST) for request in requests}) == COUNT
    assert len({request.target for request in requests}) == COUNT


@pytest.mark.parametrize(("heads", "fields"), [(Heads.HOST, 1), (Heads.TWELVE, 13)])
def test_heads_are_valid_and_of_the_size_that_the_row_says(heads: Heads, fields: int) -> None:
    for request in make_requests(heads)[:200]:
        event = parsed(request)
        assert len(event.headers) == fields
        assert event.target == request.target.encode()


def test_request_ids_and_cookies_differ_too() -> None:
    requests = [dict(request.headers) for request in make_requests(Heads.TWELVE)]

    for name in ("X-Request-Id", "Cookie", "traceparent"):
        assert len({headers[name] for headers in requests}) == COUNT


def test_every_route_gets_traffic() -> None:
    requests = make_requests(Heads.TWELVE)
    prefixes = {route.prefix for route in mesh.make_routes()}

    assert {request.target.partition("/items")[0] for request in requests} == prefixes
    assert {request.target.partition("/items")[0] for request in requests if request.canary} == {
        mesh.area(number) for number in range(mesh.CANARY_ROUTES)
    }


def test_canary_requests_are_those_with_the_header_on_a_header_route() -> None:
    for request in make_requests(Heads.TWELVE):
        headers = {name.lower(): value for name, value in request.headers}
        assert request.canary == (headers["x-tier"] == "canary")
    assert not any(request.canary for request in make_requests(Heads.HOST))


def test_two_runs_send_the_same() -> None:
    assert make_requests(Heads.TWELVE) == make_requests(Heads.TWELVE)


def test_fresh_heads_leave_places_for_the_load_generator() -> None:
    for request in make_requests(Heads.TWELVE, fresh=True):
        headers = dict(request.headers)
        assert UNIQUE in request.target
        assert UNIQUE in headers["Cookie"]
        assert UNIQUE in headers["X-Request-Id"]
    assert not any(UNIQUE.encode() in request.encode(HOST) for request in make_requests(Heads.TWELVE))


def test_the_separator_never_stands_in_a_request() -> None:
    assert not any(SEPARATOR in request.encode(HOST) for request in make_requests(Heads.TWELVE, fresh=True))


def test_sampled_requests_ask_for_their_spans() -> None:
    assert dict(make_requests(Heads.TWELVE, sampled=True)[0].headers)["traceparent"].endswith("-01")
    assert dict(make_requests(Heads.TWELVE)[0].headers)["traceparent"].endswith("-00")


@pytest.mark.parametrize("percent", [100, 95, 80, 0])
def test_the_requests_that_no_fast_path_may_serve_are_spread_evenly(percent: int) -> None:
    requests = make_requests(Heads.TWELVE, eligible_percent=percent)

    for start in range(0, 4000, 100):
        assert sum(not request.upload for request in requests[start : start + 100]) == percent


def test_an_upload_is_chunked_and_has_a_trailer() -> None:
    encoded = make_requests(Heads.HOST, eligible_percent=0)[0].encode("orders.shop")

    head, _, body = encoded.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/area-000/")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b'e\r\n{"quantity":3}\r\n0\r\nx-checksum: 1\r\n\r\n'
