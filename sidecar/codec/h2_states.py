"""The states of a stream: RFC 9113 section 5.1, figure 2, as a table, and what a frame means that comes in each.

Asked by both HTTP/2 codecs. `reserved` is left out: nobody pushes, so that nothing can be reserved. What the RFC
calls closed is several cases, because what may still come depends on who closed it; those cases have names here.
"""

from enum import IntEnum
from typing import Final

IDLE: Final = 0
OPEN: Final = 1
HALF_CLOSED_LOCAL: Final = 2  # we have ended, the peer may still send
HALF_CLOSED_REMOTE: Final = 3  # the peer has ended
CLOSED: Final = 4


class Input(IntEnum):
    """What moves a stream. The figure's H, ES and R, and its two directions."""

    SEND_H, RECV_H, SEND_ES, RECV_ES, SEND_R, RECV_R = range(6)


#                                send H / recv H
#                                    idle
#                                      |
#                                      v
#              send ES              open              recv ES
#         .------------------------- | -----------------------.
#         v                          | R                       v
#   half-closed (local)              |            half-closed (remote)
#         | recv ES / R              v                         | send ES / R
#         '---------------------> closed <---------------------'
TRANSITIONS: Final[dict[tuple[int, Input], int]] = {
    (IDLE, Input.SEND_H): OPEN,
    (IDLE, Input.RECV_H): OPEN,
    (OPEN, Input.SEND_ES): HALF_CLOSED_LOCAL,
    (OPEN, Input.RECV_ES): HALF_CLOSED_REMOTE,
    (OPEN, Input.SEND_R): CLOSED,
    (OPEN, Input.RECV_R): CLOSED,
    (HALF_CLOSED_LOCAL, Input.RECV_ES): CLOSED,
    (HALF_CLOSED_LOCAL, Input.SEND_R): CLOSED,
    (HALF_CLOSED_LOCAL, Input.RECV_R): CLOSED,
    (HALF_CLOSED_REMOTE, Input.SEND_ES): CLOSED,
    (HALF_CLOSED_REMOTE, Input.SEND_R): CLOSED,
    (HALF_CLOSED_REMOTE, Input.RECV_R): CLOSED,
}


def _after(moved: Input) -> tuple[int, ...]:
    """By state: the one after `moved`. What the figure has no arrow for changes nothing."""
    return tuple(TRANSITIONS.get((state, moved), state) for state in range(CLOSED + 1))


AFTER_SEND_ES: Final = _after(Input.SEND_ES)
AFTER_RECV_ES: Final = _after(Input.RECV_ES)
GOT_END: Final = (False, False, False, True, True)  # by state: the peer has ended
SENT_END: Final = (False, False, True, False, True)
