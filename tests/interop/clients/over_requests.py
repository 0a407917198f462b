"""requests, which is urllib3 over http.client. Shows no interim answers and no trailers."""

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from tests.interop.clients.common import CLIENT_TIMEOUT_S, FOLLOW_UP, body_facts, pieces
from tests.interop.record import Ask, Record


def run(version: str, port: int, ask: Ask) -> Record:
    """Send `ask` and the request after it."""
    with requests.Session() as session:
        session.trust_env = False
        made = _counted(session)
        answer, body = _send(session, port, ask)
        followed, _ = _send(session, port, FOLLOW_UP)
        assert followed.status_code == 200, f"the request after it got {followed.status_code}"
        return Record(
            version={11: "1.1", 10: "1.0"}[answer.raw.version],
            status=answer.status_code,
            fields=tuple(answer.raw._original_response.msg.items()),
            reused=len(made) == 1,
            **body_facts(ask, body),
        )


def _send(session: requests.Session, port: int, ask: Ask) -> tuple[requests.Response, bytes]:
    content = None
    if ask.body is not None:
        content = ask.body.read_bytes() if ask.counted else pieces(ask.body)
    url = f"http://127.0.0.1:{port}{ask.path}"
    fields = dict(ask.fields)
    with session.request(
        ask.method, url, headers=fields, data=content, stream=True, timeout=CLIENT_TIMEOUT_S, allow_redirects=False
    ) as answer:
        return answer, answer.content


def _counted(session: requests.Session) -> list[str]:
    """A list that grows with each connection of the session. One object of urllib3 may connect again and again."""
    made: list[str] = []

    class Connection(HTTPConnection):
        def connect(self) -> None:
            made.append(self.host)
            super().connect()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    adapter = session.get_adapter("http://")
    assert isinstance(adapter, HTTPAdapter)
    adapter.poolmanager.pool_classes_by_scheme = {"http": Pool}
    return made
