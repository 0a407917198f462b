"""h11 as a reader; it runs in this process."""

import h11

from tests.conformance.readers.seen import Answer, Refused, Seen


class H11Reader:
    """See `Reader`."""

    name = "h11"

    def read(self, stream: bytes, count: int) -> list[Answer]:
        """See `Reader`."""
        peer = h11.Connection(h11.SERVER)
        peer.receive_data(stream)
        answers: list[Answer] = []
        while len(answers) < count:
            try:
                one = _one(peer)
                if one is None:
                    break
                answers.append(one)
                peer.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                peer.send(h11.EndOfMessage())
                if peer.our_state is not h11.DONE:
                    break  # it was the last one
                peer.start_next_cycle()
            except h11.RemoteProtocolError as exc:
                answers.append(Refused(str(exc)))
                break
        return answers


def _one(peer: h11.Connection) -> Seen | None:
    """The next request; None when there is no whole one."""
    head = peer.next_event()
    if not isinstance(head, h11.Request):
        return None
    body = b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += event.data
    if not isinstance(event, h11.EndOfMessage):
        return None
    fields = [(bytes(name), bytes(value)) for name, value in head.headers]
    trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
    return Seen(head.method, head.target, dict(fields).get(b"host", b""), fields, body, trailers)
