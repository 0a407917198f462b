"""The table of states against RFC 9113 section 5.1, figure 2, written down a second time."""

import pytest

from sidecar.codec.h2_states import (
    AFTER_RECV_ES,
    AFTER_SEND_ES,
    CLOSED,
    GOT_END,
    HALF_CLOSED_LOCAL,
    HALF_CLOSED_REMOTE,
    IDLE,
    OPEN,
    SENT_END,
    TRANSITIONS,
    Input,
)

ARROWS = """
idle                 send H   open
idle                 recv H   open
open                 recv ES  half-closed (remote)
open                 send ES  half-closed (local)
half-closed (remote) send ES  closed
half-closed (local)  recv ES  closed
open                 send R   closed
open                 recv R   closed
half-closed (remote) send R   closed
half-closed (remote) recv R   closed
half-closed (local)  send R   closed
half-closed (local)  recv R   closed
"""
NAMES = {"idle": IDLE, "open": OPEN, "half-closed (local)": HALF_CLOSED_LOCAL,
         "half-closed (remote)": HALF_CLOSED_REMOTE, "closed": CLOSED}  # fmt: skip
FIGURE = {
    (NAMES[line[:21].strip()], Input[line[21:30].strip().replace(" ", "_").upper()]): NAMES[line[30:].strip()]
    for line in ARROWS.strip().splitlines()
}


def test_the_table_is_the_figure() -> None:
    assert TRANSITIONS == FIGURE


@pytest.mark.parametrize("state", [OPEN, HALF_CLOSED_LOCAL, HALF_CLOSED_REMOTE, CLOSED])
def test_what_follows_from_it(state: int) -> None:
    assert GOT_END[AFTER_RECV_ES[state]]
    assert SENT_END[AFTER_SEND_ES[state]]
    assert GOT_END[AFTER_SEND_ES[state]] == GOT_END[state]
    assert SENT_END[AFTER_RECV_ES[state]] == SENT_END[state]
    assert AFTER_SEND_ES[AFTER_RECV_ES[state]] == CLOSED
