"""The well-behaved client of the attacks: what it finds wrong is the sidecar's doing, never its own."""

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from trio.testing import lockstep_stream_pair

from bench.attacks.victim import Http2Connection

PATIENCE_S = 5.0


async def test_a_request_and_an_acknowledgement_at_once_are_sent_one_after_the_other() -> None:
    here, there = lockstep_stream_pair()  # what is sent is under way until the other end takes it
    connection = Http2Connection(here)
    http = H2Connection(H2Configuration(client_side=False))
    http.initiate_connection()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.begin)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(connection.read)
            await there.send_all(http.data_to_send())  # its settings, which the reader is to acknowledge
            await trio.testing.wait_all_tasks_blocked()
            events: list[object] = []
            while not any(isinstance(event, RequestReceived) for event in events):
                events += http.receive_data(await there.receive_some())
            nursery.cancel_scope.cancel()
