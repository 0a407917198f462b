"""Snapshots and identities on their way to a worker: what arrives is what was meant, in whatever steps."""

import json
import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sidecar.app import handoff
from sidecar.app.channel import MAX_FRAME_BYTES, Channel, ChannelClosed, Message
from sidecar.app.handoff import Assembler, difference, identity_message, identity_of
from sidecar.config.resources import resource_of
from sidecar.model.clusters import Endpoint, EndpointSet, Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Resource, Snapshot
from tests.support import pki

NAMES = ("orders", "stock", "web")


def resources(name: str, address: int, version: int) -> list[Resource]:
    key = ServiceKey("shop", name)
    endpoint = Endpoint(id=f"{name}-1", service_port=80, host=f"10.0.0.{address}", port=8080)
    return [
        resource_of(Service(key, (ServicePort(80),)), version),
        resource_of(EndpointSet(key, (endpoint,)), version),
    ]


def deliver(assembler: Assembler, messages: list[Message]) -> Snapshot:
    """What the worker does, with what JSON leaves of the messages."""
    *parts, last = [json.loads(json.dumps(message)) for message in messages]
    for part in parts:
        assert part["type"] == "put"
        assembler.put(part)
    assert last["type"] == "switch"
    return assembler.switch(last)


steps = st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3)), max_size=6)


@given(steps, st.sampled_from([1, 300, 262_144]), st.booleans())
def test_any_steps_arrive_as_they_are(steps: list[dict[str, int]], part_bytes: int, complete: bool) -> None:
    assembler = Assembler()
    sent: Snapshot | None = None
    wanted = Snapshot(complete=complete)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handoff, "PART_BYTES", part_bytes)
        for version, services in enumerate(steps, 1):
            put = [each for name, address in services.items() for each in resources(name, address, version)]
            gone = wanted.resources.keys() - {each.name for each in put}
            absent = frozenset(ServiceKey("shop", name) for name in NAMES if name not in services)
            wanted = wanted.changed(put, gone, version=version, absent=absent)
            before = assembler.snapshot
            got = deliver(assembler, list(difference(sent, wanted)))
            assert {name: each.body for name, each in got.resources.items()} == {
                name: each.body for name, each in wanted.resources.items()
            }
            assert (got.version, got.complete, got.absent) == (wanted.version, wanted.complete, wanted.absent)
            for name in got.resources.keys() & before.resources.keys():
                if got.resources[name].body == before.resources[name].body:
                    assert got.resources[name].body is before.resources[name].body
            sent = wanted


def test_what_did_not_change_is_not_sent() -> None:
    first = Snapshot().changed(resources("orders", 1, 1) + resources("stock", 1, 1), version=1)
    second = first.changed(resources("stock", 2, 2)[1:], version=2)
    [switch] = difference(first, second)
    assert [name for name, _, _ in switch["set"]] == ["Endpoints/shop/stock"]


def test_a_worker_gets_the_whole_identity() -> None:
    who = pki.identity("orders")
    assert identity_of(json.loads(json.dumps(identity_message(who)))) == who


async def test_messages_of_any_size_come_whole_and_in_order() -> None:
    here, there = (Channel(end) for end in socket.socketpair())
    sizes = [0, 1, 70_000, 3, 1_000_000]
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for size in sizes:
                await here.send({"type": "x", "data": "a" * size})
            here.close()

        nursery.start_soon(send)
        got = [len((await there.receive())["data"]) for _ in sizes]
        with pytest.raises(ChannelClosed):
            await there.receive()
    assert got == sizes
    with pytest.raises(ChannelClosed):
        await there.send({"type": "x"})
    there.close()


async def test_a_length_that_is_nonsense_is_a_bug_and_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    there = Channel(theirs)
    ours.sendall((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="on the channel between processes"):
        await there.receive()
    ours.close()
    there.close()
