"""The load generator is open-loop: sends leave on time, all are counted, nothing is tried again."""

import pytest
import trio
from trio.testing import MockClock

from demo.http1 import Answer, NoAnswer, Request
from demo.load import MAX_OUTSTANDING, Load, Send, percentile_ms


async def ran(load: Load, for_s: float) -> Load:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(for_s)
        load.stop()
    return load


def sending(send: Send, *, rate: float = 100.0, timeout_s: float = 20.0) -> Load:
    return Load("nowhere", rate, timeout_s=timeout_s, send=send)


async def ok(request: Request) -> Answer:
    await trio.sleep(0.035)
    return Answer(200, b"{}")


async def test_a_fixed_rate_and_every_send_counted(autojump_clock: MockClock) -> None:
    load = await ran(sending(ok), 2.0025)

    summary = load.summary()
    assert (summary.sent, summary.failed, len(load.results)) == (201, 0, 201)
    assert [round(result.at_s, 2) for result in load.results] == [round(n / 100, 2) for n in range(201)]
    assert summary.p50_ms == pytest.approx(35)
    assert summary.p99_ms == pytest.approx(35)


async def test_slow_answers_do_not_slow_the_sends(autojump_clock: MockClock) -> None:
    async def slow(request: Request) -> Answer:
        await trio.sleep(3)
        return Answer(200)

    load = sending(slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(1.0025)
        assert (load.sent, load.outstanding, len(load.results)) == (101, 101, 0)
        load.stop()

    assert len(load.results) == 101


async def test_failures_are_counted_with_their_reasons_and_not_repeated(autojump_clock: MockClock) -> None:
    asked: list[str] = []

    async def bad(request: Request) -> Answer:
        asked.append(request.fields["x-request-id"])
        if len(asked) == 1:
            raise NoAnswer("nobody there")
        if len(asked) == 2:
            await trio.sleep(60)
        return Answer(503, b"no endpoint")

    load = await ran(sending(bad, timeout_s=1.0), 0.0225)

    assert asked == ["load-0", "load-1", "load-2"]
    assert [result.status for result in load.results] == [0, 503, 0]
    assert load.failed == 3
    assert set(load.problems) == {"nobody there", "503 no endpoint", "no answer within 1 s"}


async def test_the_time_runs_from_the_intended_moment(autojump_clock: MockClock) -> None:
    """Sends that a stall of the generator delayed carry that delay, and none is left out."""
    load = sending(ok)

    async def stall() -> None:
        await trio.sleep(0.0151)
        autojump_clock.jump(0.5)  # as if the process had not run

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await stall()
        await trio.sleep(0.1)
        load.stop()

    late = [result for result in load.results if result.latency_s > 0.05]
    assert load.sent == len(load.results)
    assert len(late) > 40
    assert max(result.latency_s for result in late) > 0.4


async def test_more_than_a_thousand_unanswered_are_failures_at_once(autojump_clock: MockClock) -> None:
    async def never(request: Request) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    load = sending(never, rate=1000.0, timeout_s=5.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(1.5005)
        assert load.outstanding == MAX_OUTSTANDING
        assert load.failed == load.sent - MAX_OUTSTANDING > 0
        load.stop()

    assert load.failed == load.sent


def test_percentiles() -> None:
    values = [number / 1000 for number in range(1, 101)]

    assert percentile_ms(values, 0.5) == pytest.approx(51)
    assert percentile_ms(values, 0.99) == pytest.approx(100)
    assert percentile_ms([], 0.5) is None
