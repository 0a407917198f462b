"""httpx (its maintained successor httpx2): HTTP/1.1 by h11, HTTP/2 with prior knowledge by python-h2.

Shows no interim answers and no trailers.
"""

import httpx2

from tests.interop.clients.common import CLIENT_TIMEOUT_S, FOLLOW_UP, body_facts, decoded, pieces
from tests.interop.record import Ask, Record


def run(version: str, port: int, ask: Ask) -> Record:
    """Send `ask` and the request after it."""
    with httpx2.Client(
        http1=version == "h1", http2=version == "h2c", timeout=CLIENT_TIMEOUT_S, trust_env=False
    ) as client:
        answer, connection = _send(client, port, ask)
        followed, then = _send(client, port, FOLLOW_UP)
        assert followed.status_code == 200, f"the request after it got {followed.status_code}"
        return Record(
            version=answer.http_version.removeprefix("HTTP/").removesuffix(".0") if version == "h2c" else "1.1",
            status=answer.status_code,
            fields=decoded(answer.headers.raw),
            reused=connection == then,
            **body_facts(ask, answer.content),
        )


def _send(client: httpx2.Client, port: int, ask: Ask) -> tuple[httpx2.Response, object]:
    fields = list(ask.fields)
    content = None
    if ask.body is not None:
        content = ask.body.read_bytes() if ask.counted else pieces(ask.body)
    with client.stream(ask.method, f"http://127.0.0.1:{port}{ask.path}", headers=fields, content=content) as answer:
        connection = answer.extensions["network_stream"].get_extra_info("client_addr")
        answer.read()
        return answer, connection
