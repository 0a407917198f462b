"""The paths of the admin and metrics listeners, and what each answers.

Two tables, made from one `AdminView`: admin (loopback or unix socket) has everything, the metrics listener, which is
open to the network, only numbers, startup and readiness. Whatever changes something is POST.
"""

from collections.abc import Callable

from sidecar.admin.messages import AdminAnswer, AdminRequest, Route, as_json, refusal
from sidecar.admin.view import AdminView
from sidecar.model.bootstrap import LogWhen
from sidecar.telemetry.families import families, stats
from sidecar.telemetry.render import OPENMETRICS_TYPE, TEXT_TYPE, render, wants_openmetrics

Routes = dict[str, Route]


def admin_routes(view: AdminView) -> Routes:
    """Everything: what runs, and what may be changed."""
    return {
        "/live": Route("GET", lambda _: _live(view)),
        "/started": Route("GET", lambda _: _started(view)),
        "/ready": Route("GET", lambda _: _ready(view)),
        "/config": Route("GET", lambda _: as_json(view.config())),
        "/clusters": Route("GET", lambda _: as_json({"clusters": view.clusters()}), view.refresh),
        "/stats": Route("GET", lambda _: _stats(view), view.refresh),
        "/drain": Route("POST", lambda _: _told(view.drain, {"draining": True})),
        "/quit": Route("POST", lambda _: _told(view.quit, {"quitting": True})),
        "/log-level": Route("POST", lambda request: _log_level(view, request)),
    }


def metrics_routes(view: AdminView) -> Routes:
    """What the network may see."""
    metrics = Route("GET", lambda request: _metrics(view, request), view.refresh)
    return {
        "/metrics": metrics,
        "/stats/prometheus": metrics,  # where scrape configurations made for Istio look
        "/started": Route("GET", lambda _: _started(view)),
        "/ready": Route("GET", lambda _: _ready(view)),
    }


def _live(view: AdminView) -> AdminAnswer:
    live = view.live()
    return as_json({"live": live}, 200 if live else 503)


def _started(view: AdminView) -> AdminAnswer:
    """For a startup probe: an app that waits for its sidecar must not be waited for by it."""
    reasons = view.started()
    return as_json({"started": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _ready(view: AdminView) -> AdminAnswer:
    reasons = view.ready()
    return as_json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _stats(view: AdminView) -> AdminAnswer:
    return as_json(stats(view.metrics, view.facts(), view.process(), view.now_s()))


def _metrics(view: AdminView, request: AdminRequest) -> AdminAnswer:
    openmetrics = wants_openmetrics(request.accept)
    shown = families(view.metrics, view.facts(), view.process(), view.now_s())
    return AdminAnswer(200, render(shown, openmetrics=openmetrics), OPENMETRICS_TYPE if openmetrics else TEXT_TYPE)


def _told(act: Callable[[], None], said: dict[str, object]) -> AdminAnswer:
    """Answer first, act after: the act may end this very listener."""
    answer = as_json(said)
    return AdminAnswer(answer.status, answer.body, after=act)


def _log_level(view: AdminView, request: AdminRequest) -> AdminAnswer:
    wanted = request.query.get("level", "")
    try:
        when = LogWhen(wanted)
    except ValueError:
        levels = ", ".join(LogWhen)
        return refusal(400, f"level={wanted[:40]} is not a level; use one of {levels}, as in POST /log-level?level=all")
    view.log_requests(when)
    return as_json({"level": when})
