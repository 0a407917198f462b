"""The demo's app: who asked is counted, what must be passed on is, and a failure below is a failure here."""

import json
from functools import partial
from typing import Any

import pytest
import trio

from demo.http1 import Answer, Request, Server
from demo.service import PASSED_ON, Service, caller_of, work_ms_of

ORDERS_ID = "spiffe://mesh.local/ns/shop/sa/orders"
XFCC = {"x-forwarded-client-cert": f"By=spiffe://mesh.local/ns/shop/sa/stock;Hash=ab;URI={ORDERS_ID}"}


def said(answer: Answer) -> Any:
    return json.loads(answer.body)


async def test_an_answer_says_who_worked_and_who_asked(autojump_clock: trio.testing.MockClock) -> None:
    answer = await Service("stock", id="stock-1").handle(Request(fields=XFCC | {"x-request-id": "7"}))

    work_ms = work_ms_of("7/stock")
    expected = {"service": "stock", "version": "", "id": "stock-1", "caller": ORDERS_ID, "work_ms": work_ms}
    assert said(answer) == expected
    assert trio.current_time() == pytest.approx(work_ms / 1000)


async def test_counts_tell_callers_methods_and_work_under_way(autojump_clock: trio.testing.MockClock) -> None:
    service = Service("stock", id="stock-1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, Request("POST", fields=XFCC))
        nursery.start_soon(service.handle, Request())
        await trio.testing.wait_all_tasks_blocked()
        busy = said(await service.handle(Request(target="/counts")))
    counts = said(await service.handle(Request(target="/counts")))

    assert (busy["in_flight"], busy["started"], busy["served"]) == (2, 2, 0)
    assert (counts["in_flight"], counts["served"]) == (0, 2)
    assert counts["served_by_caller"] == {ORDERS_ID: 1, "": 1}
    assert counts["started_by_method"] == {"POST": 1, "GET": 1}


async def test_what_an_app_must_pass_on_reaches_the_next_one() -> None:
    seen: list[Request] = []

    async def below(request: Request) -> Answer:
        seen.append(request)
        return Answer(200, b'{"service": "stock"}')

    fields = {name: f"value of {name}" for name in PASSED_ON}
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, Server(below).serve, 0, host="127.0.0.1"))
        address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        answer = await Service("orders", calls=("stock", address)).handle(
            Request("POST", "/", fields | {"cookie": "mine"}, b"body")
        )
        nursery.cancel_scope.cancel()

    assert said(answer)["called"] == {"service": "stock"}
    assert (seen[0].method, seen[0].body) == ("POST", b"body")
    assert fields.items() <= seen[0].fields.items()
    assert "cookie" not in seen[0].fields
    assert seen[0].fields["host"] == "stock"


async def test_nobody_below_is_a_502_that_says_who(autojump_clock: trio.testing.MockClock) -> None:
    answer = await Service("orders", calls=("stock", "127.0.0.1:1")).handle(Request())

    assert answer.status == 502
    assert said(answer)["error"].startswith("orders -> stock: 127.0.0.1:1")


async def test_other_paths_are_not_work() -> None:
    service = Service("stock")

    assert (await service.handle(Request(target="/healthz"))).status == 200
    assert (await service.handle(Request(target="/other"))).status == 404
    assert service.counts()["started"] == 0


@pytest.mark.parametrize(
    ("value", "caller"),
    [
        (f"By=x;URI={ORDERS_ID}", ORDERS_ID),
        (f'Hash=1;URI="{ORDERS_ID}";Subject=""', ORDERS_ID),
        (f"URI={ORDERS_ID}", ORDERS_ID),
        ("Hash=1", ""),
        ("", ""),
    ],
)
def test_the_caller_is_the_uri_of_the_client_certificate(value: str, caller: str) -> None:
    assert caller_of(Request(fields={"x-forwarded-client-cert": value})) == caller


def test_work_takes_20_to_50_ms_and_the_same_for_the_same_request() -> None:
    times = [work_ms_of(f"load-{number}/stock") for number in range(2000)]

    assert (min(times), max(times)) == (20, 50)
    assert work_ms_of("load-1/stock") == times[1]


async def test_callers_that_are_counted_apart_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    service = Service("stock")
    for number in range(150):
        await service.handle(Request(fields={"x-forwarded-client-cert": f"URI=spiffe://x/{number}"}))

    assert len(service.served) == 101
    assert service.served["others"] == 50
