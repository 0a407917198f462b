"""What each admin path answers."""

import json
from pathlib import Path

import pytest

from sidecar.admin.endpoints import admin_routes, metrics_routes
from sidecar.admin.messages import AdminAnswer, AdminRequest
from sidecar.admin.process import process_stats
from tests.support.admin_view import FakeView
from tests.unit.telemetry.told import done


def ask(view: FakeView, path: str, accept: bytes | None = None, **query: str) -> AdminAnswer:
    route = (metrics_routes(view) | admin_routes(view))[path]
    return route.handle(AdminRequest(route.method, path, query, accept))


def said(answer: AdminAnswer) -> object:
    assert isinstance(answer.body, bytes)
    assert answer.content_type == "application/json"
    assert answer.body.endswith(b"\n")
    return json.loads(answer.body)


def page(answer: AdminAnswer) -> bytes:
    assert not isinstance(answer.body, bytes)
    return b"".join(answer.body)


def test_live_and_ready_say_so_by_status_and_word() -> None:
    view = FakeView()
    assert ask(view, "/live").status == ask(view, "/ready").status == 200
    view.alive = False
    view.reasons = ["no configuration has arrived yet"]
    assert (ask(view, "/live").status, said(ask(view, "/live"))) == (503, {"live": False})
    assert ask(view, "/ready").status == 503
    assert said(ask(view, "/ready")) == {"ready": False, "reasons": ["no configuration has arrived yet"]}


def test_started_has_reasons_of_its_own() -> None:
    view = FakeView(reasons=["the app does not accept connections at 127.0.0.1:8080"])
    assert said(ask(view, "/started")) == {"started": True, "reasons": []}
    view.unstarted = ["no identity yet"]
    assert ask(view, "/started").status == 503
    assert said(ask(view, "/started")) == {"started": False, "reasons": ["no identity yet"]}


def test_what_is_counted_elsewhere_is_asked_for_first() -> None:
    view = FakeView()
    routes = admin_routes(view) | metrics_routes(view)
    asking = {path for path, route in routes.items() if route.first is not None}
    assert asking == {"/clusters", "/stats", "/metrics", "/stats/prometheus"}


def test_what_runs_is_shown() -> None:
    view = FakeView()
    view.metrics.request_done(done())
    assert said(ask(view, "/config")) == view.config()
    assert said(ask(view, "/clusters")) == {"clusters": view.clusters()}
    shown = said(ask(view, "/stats"))
    assert isinstance(shown, dict)
    assert shown["requests"][0]["service"] == "orders.shop"
    assert shown["values"]["process_open_fds"][0]["value"] > 0


@pytest.mark.parametrize(("path", "word"), [("/drain", "drain"), ("/quit", "quit")])
def test_changes_happen_after_the_answer(path: str, word: str) -> None:
    view = FakeView()
    assert admin_routes(view)[path].method == "POST"
    answer = ask(view, path)
    assert answer.status == 200
    assert view.did == []
    assert answer.after is not None
    answer.after()
    assert view.did == [word]


def test_log_level_takes_one_of_three() -> None:
    view = FakeView()
    assert said(ask(view, "/log-level", level="all")) == {"level": "all"}
    assert view.did == ["log all"]
    refused = ask(view, "/log-level", level="debug")
    assert refused.status == 400
    assert said(refused) == {
        "error": "level=debug is not a level; use one of never, errors, all, as in POST /log-level?level=all"
    }


def test_metrics_come_in_the_form_that_was_asked_for() -> None:
    view = FakeView()
    view.metrics.request_done(done())
    for path in ("/metrics", "/stats/prometheus"):
        plain = ask(view, path, b"*/*")
        assert plain.content_type.startswith("text/plain; version=0.0.4")
        assert b"istio_requests_total{" in page(plain)
    opened = ask(view, "/metrics", b"application/openmetrics-text;version=1.0.0,text/plain;q=0.1")
    assert opened.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert page(opened).endswith(b"# EOF\n")


def test_network_sees_numbers_and_readiness_only() -> None:
    routes = metrics_routes(FakeView())
    assert set(routes) == {"/metrics", "/stats/prometheus", "/started", "/ready"}
    assert {route.method for route in routes.values()} == {"GET"}


def test_process_is_read_from_proc() -> None:
    stats = process_stats()
    assert stats is not None
    assert 5e6 < stats.resident_bytes < stats.virtual_bytes
    assert 0 < stats.open_fds < stats.max_fds
    assert stats.cpu_s > 0
    assert stats.started_unix_s > 1.7e9


def test_hidden_or_broken_proc_is_no_process(tmp_path: Path) -> None:
    assert process_stats(tmp_path) is None
    (tmp_path / "self/fd").mkdir(parents=True)
    (tmp_path / "self/stat").write_text("1 (a b) S")
    (tmp_path / "stat").write_text("cpu 1\n")
    assert process_stats(tmp_path) is None
    (tmp_path / "stat").write_text("cpu 1\nbtime 1790000000\n")
    assert process_stats(tmp_path) is None
