"""meshctl's client against servers that are not what it hoped for, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.client import Client, path, server_url
from control_plane.cli.complaint import FAILED, TIMED_OUT, USAGE, Complaint
from control_plane.cli.session import Session, read_token
from control_plane.cli.waiting import wait_for_revision

Answer = tuple[int, str, bytes]


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives `answers` in turn, the last one for ever; yields its URL and what was asked."""
    asked: list[Any] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            size = int(self.headers.get("content-length", 0))
            body = self.rfile.read(size)
            asked.append((self.command, self.path, self.headers.get("authorization"), body))
            status, kind, content = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_json(status: int, value: object) -> Answer:
    return status, "application/json", json.dumps(value).encode()


def error(status: int, kind: str, message: str = "no", hint: str = "", details: tuple[str, ...] = ()) -> Answer:
    return as_json(status, {"error": {"message": message, "hint": hint, "details": list(details), "kind": kind}})


def refused(*answers: Answer, token: str | None = "t" * 30, place: str = "./api.token") -> tuple[Complaint, str]:
    with answering(*answers) as (url, _), Client(url, token, place) as client, pytest.raises(Complaint) as complaint:
        client.get("/v1/version")
    return complaint.value, url


def test_an_answer_is_its_object_and_the_token_travels() -> None:
    with answering(as_json(200, {"revision": 3})) as (url, asked), Client(url, "secret", "") as client:
        assert client.post(path("traffic", "shop", "a/b"), {"weights": {"v1": 1}}) == {"revision": 3}
        assert client.get("/v1/resources", {"kind": "Service"}) == {"revision": 3}
    assert asked == [
        ("POST", "/v1/traffic/shop/a%2Fb", "Bearer secret", b'{"weights":{"v1":1}}'),
        ("GET", "/v1/resources?kind=Service", "Bearer secret", b""),
    ]


def test_proxies_of_the_environment_do_not_see_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with answering(as_json(200, {})) as (url, _), Client(url, "secret", "") as client:
        assert client.get("/v1/version") == {}


def test_nobody_there_says_how_to_start_one() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with Client(url, None, "") as client, pytest.raises(Complaint) as complaint:
        client.get("/v1/version")
    assert str(complaint.value) == f"error: no control plane at {url} (start it: control-plane serve, or pass --server)"
    assert complaint.value.status == FAILED


def test_a_server_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, None, "") as client, pytest.raises(Complaint) as complaint:
            client.get("/v1/version", timeout_s=0.1)
    assert str(complaint.value) == f"error: no answer from {url} within 0.1 s"
    assert complaint.value.status == TIMED_OUT


def test_an_address_that_cannot_be_reached_is_said_with_the_reason() -> None:
    with Client("http://255.255.255.255:1", None, "") as client, pytest.raises(Complaint) as complaint:
        client.get("/v1/version")
    assert complaint.value.message.startswith("cannot reach http://255.255.255.255:1: ")
    assert complaint.value.status == FAILED


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", b"<html>"),
        (200, "application/json", b"[]"),
        (502, "text/plain", b"bad gateway"),
        (500, "application/json", b'{"error": "text"}'),
    ],
)
def test_something_else_on_the_port_is_recognised(answer: Answer) -> None:
    complaint, url = refused(answer)
    assert complaint.message == (
        f"what answers at {url} is not the API of a control plane (HTTP {answer[0]}, {answer[1]})"
    )


def test_a_wrong_token_and_no_token_are_two_things() -> None:
    wrong, url = refused(error(401, "token"))
    assert wrong.message == f"the control plane at {url} does not accept the token in ./api.token"
    none, url = refused(error(401, "token"), token=None, place="--token-file, MESHCTL_TOKEN_FILE and ./x")
    assert none.message == f"the control plane at {url} wants a token, and none was found"
    assert none.details == ["looked at --token-file, MESHCTL_TOKEN_FILE and ./x"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [("invalid", FAILED), ("conflict", FAILED), ("not_found", USAGE), ("ambiguous", USAGE), ("slow", TIMED_OUT)],
)
def test_a_refusal_keeps_its_words_and_gets_a_status(kind: str, status: int) -> None:
    complaint, _ = refused(error(409, kind, "two routes", "name one", ("HTTPRoute/shop/a", "HTTPRoute/shop/b")))
    assert str(complaint) == "error: two routes\n  HTTPRoute/shop/a\n  HTTPRoute/shop/b\nhint: name one"
    assert complaint.status == status


def state(done: bool, acked: int, waiting: int, rejected: int = 0) -> Answer:
    reasons = [
        {"node": f"shop/r{n}", "name": "HTTPRoute/shop/a", "version": 5, "reason": "unknown \x07value"}
        for n in range(rejected)
    ]
    nodes = [f"shop/w{n}" for n in range(waiting)]
    body = {"revision": 5, "done": done, "acked": ["x"] * acked, "waiting": nodes, "rejected": reasons}
    return as_json(200, body)


def wait_refused(timeout_s: float, *answers: Answer) -> Complaint:
    with answering(*answers) as (url, _), Client(url, None, "") as client, pytest.raises(Complaint) as complaint:
        wait_for_revision(client, 5, timeout_s)
    return complaint.value


def test_waiting_ends_when_everybody_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    answers = state(False, 0, 2), state(False, 1, 1), state(True, 2, 0)
    with answering(*answers) as (url, asked), Client(url, None, "") as client:
        wait_for_revision(client, 5, 30)
    assert len(asked) == 3
    assert capsys.readouterr().err == "0/2 sidecars\n1/2 sidecars\n2/2 sidecars\n"


def test_a_rejection_is_told_with_its_reasons() -> None:
    complaint = wait_refused(30, state(False, 0, 2, 1), state(True, 1, 0, 1))
    assert complaint.status == FAILED
    assert complaint.message == "revision 5 was rejected by 1 sidecar"
    assert complaint.details == ["shop/r0: HTTPRoute/shop/a: unknown \ufffdvalue"]


def test_laggards_are_named_when_time_is_up() -> None:
    complaint = wait_refused(0, state(False, 1, 1))
    assert (complaint.status, complaint.details) == (TIMED_OUT, ["waiting for shop/w0"])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:15010", "http://127.0.0.1:15010"),
        ("http://127.0.0.1:15010/", "http://127.0.0.1:15010"),
        ("https://mesh.internal", "https://mesh.internal"),
        ("[::1]:15010", "http://[::1]:15010"),
    ],
)
def test_servers_in_every_spelling(text: str, url: str) -> None:
    assert server_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "http://", "ftp://a", "http://a/b", "a b", "http://a:99999", "http://u@a", "http://[x"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(Complaint, match="is not an address such as") as complaint:
        server_url(text)
    assert complaint.value.status == USAGE


def test_the_token_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHCTL_TOKEN_FILE", raising=False)
    monkeypatch.delenv("MESHCTL_SERVER", raising=False)
    found = []
    with answering(as_json(200, {})) as (url, asked):
        for prepare in (None, "mesh-data/api.token", "env.token", "flag.token"):
            if prepare is not None:
                (tmp_path / prepare).parent.mkdir(exist_ok=True)
                (tmp_path / prepare).write_text(prepare.replace("/", "-") + "\n")
            if prepare == "env.token":
                monkeypatch.setenv("MESHCTL_TOKEN_FILE", "env.token")
            session = Session(url, Path("flag.token") if prepare == "flag.token" else None)
            with session.client() as client:
                client.get("/v1/version")
        found = [authorization for _, _, authorization, _ in asked]
    assert found == [None, "Bearer mesh-data-api.token", "Bearer env.token", "Bearer flag.token"]


def test_the_server_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHCTL_SERVER", "127.0.0.1:1")
    assert Session().client().server == "http://127.0.0.1:1"
    assert Session("127.0.0.1:2").client().server == "http://127.0.0.1:2"
    monkeypatch.delenv("MESHCTL_SERVER")
    assert Session().client().server == "http://127.0.0.1:15010"


def test_a_file_without_a_token_is_named(tmp_path: Path) -> None:
    (tmp_path / "join.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    with pytest.raises(Complaint, match=r"join\.pem holds no API token") as complaint:
        read_token(tmp_path / "join.pem")
    assert complaint.value.status == USAGE
    with pytest.raises(Complaint, match=r"cannot read the token file .*nothing: no such file or directory"):
        read_token(tmp_path / "nothing")


def test_clear_text_to_another_machine_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    with Client("http://255.255.255.255:1", "secret", "") as client, pytest.raises(Complaint):
        client.get("/v1/version")
    assert capsys.readouterr().err == (
        "warning: the API token travels to 255.255.255.255 unencrypted; a tunnel (ssh -L) hides it\n"
    )
