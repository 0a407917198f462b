"""Every path of the API: HTTP in, one call of the facade, JSON out. The mesh itself is decided elsewhere.

Values of `control_plane.answers` become JSON by their field names, so that this file has no shapes of its own.
Unknown query parameters and fields are refused: a misspelt `dry_run` must not apply.
"""

import dataclasses
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from control_plane.answers import Kind, Refused
from control_plane.api.answers import ApiError, bug, too_slow
from control_plane.api.guard import Limits
from control_plane.facade import ControlPlane
from control_plane.store.contract import StoreError
from control_plane.tokens import MAX_TTL_S, MAX_USES

STATUS_OF = {Kind.INVALID: 422, Kind.NOT_FOUND: 404, Kind.CONFLICT: 409, Kind.AMBIGUOUS: 409}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[Request], Awaitable[Response]]


class Routes:
    """The handlers, around one control plane."""

    def __init__(self, plane: ControlPlane, limits: Limits) -> None:
        self._plane = plane
        self._limits = limits

    def application(self) -> Starlette:
        """The ASGI application; to be served behind a `Guard` only."""
        return Starlette(
            routes=[
                self._route("/live", GET=self._fine),
                self._route("/ready", GET=self._fine),
                self._route("/metrics", GET=self._metrics),
                self._route("/v1/version", GET=self._version),
                self._route("/v1/check", GET=self._check),
                self._route("/v1/status", GET=self._status),
                self._route("/v1/stats", GET=self._stats),
                self._route("/v1/resources", GET=self._resources),
                self._route("/v1/resources/{kind}/{namespace}/{name}", GET=self._resource, DELETE=self._delete),
                self._route("/v1/apply", POST=self._apply),
                self._route("/v1/traffic/{namespace}/{service}", GET=self._traffic_show, POST=self._traffic_set),
                self._route("/v1/wait", self._limits.longest_wait_s, GET=self._wait),
                self._route("/v1/tokens", POST=self._token),
                self._route("/v1/certs", GET=self._certs),
                self._route("/v1/certs/rotate", POST=self._rotate),
            ],
            exception_handlers={
                HTTPException: _http_error,
                Refused: _refused,
                ApiError: _api_error,
                trio.TooSlowError: _too_slow,
                Exception: _bug,  # answered here; the guard, which sees it as well, reports it
            },
        )

    def _route(self, path: str, waits_s: float = 0.0, **handlers: Handler) -> Route:
        limit_s = self._limits.answer_s + waits_s

        async def bounded(request: Request) -> Response:
            handler = handlers["GET" if request.method == "HEAD" else request.method]
            with trio.fail_after(limit_s):
                return await handler(request)

        return Route(path, bounded, methods=list(handlers))

    async def _fine(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _metrics(self, request: Request) -> Response:
        _query(request)
        return Response(self._plane.metrics(), media_type=METRICS_TYPE)

    async def _version(self, request: Request) -> Response:
        _query(request)
        return _json(await self._plane.version())

    async def _check(self, request: Request) -> Response:
        _query(request)
        return _json({"lines": await self._plane.check()})

    async def _status(self, request: Request) -> Response:
        _query(request)
        return _json(await self._plane.status())

    async def _stats(self, request: Request) -> Response:
        _query(request)
        return _json(await self._plane.stats())

    async def _resources(self, request: Request) -> Response:
        asked = _query(request, "kind", "namespace")
        found = await self._plane.resources(asked.get("kind", ""), asked.get("namespace", ""))
        return _json({"resources": found})

    async def _resource(self, request: Request) -> Response:
        return _json(await self._plane.resource(**_place(request)))

    async def _delete(self, request: Request) -> Response:
        asked = _query(request, "dry_run")
        dry_run = {"": False, "false": False, "true": True}.get(asked.get("dry_run", ""))
        if dry_run is None:
            raise ApiError(400, f"dry_run={asked['dry_run']}: neither true nor false")
        return _json(await self._plane.delete(**_place(request), dry_run=dry_run))

    async def _apply(self, request: Request) -> Response:
        body = await _body(request, documents=str, source=str, dry_run=bool)
        documents, source = _needed(body, "documents"), body.get("source", "<input>")
        return _json(await self._plane.apply(documents, source, dry_run=body.get("dry_run", False)))

    async def _traffic_show(self, request: Request) -> Response:
        place = request.path_params
        return _json(await self._plane.traffic_show(place["namespace"], place["service"]))

    async def _traffic_set(self, request: Request) -> Response:
        place = request.path_params
        weights = _needed(await _body(request, weights=dict), "weights")
        for name, weight in weights.items():
            if type(weight) is not int:  # bool is an int, and no weight
                raise ApiError(400, f"weights.{name}: {weight!r} is not a whole number")
        return _json(await self._plane.traffic_set(place["namespace"], place["service"], weights))

    async def _wait(self, request: Request) -> Response:
        asked = _query(request, "revision", "timeout_s")
        text = asked.get("revision", "")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ApiError(
                400, f"revision={text[:40]}: not a whole number", hint="apply and traffic set answer with one"
            )
        timeout_s = _number(asked, "timeout_s", 60.0, self._limits.longest_wait_s)
        return _json(await self._plane.wait_revision(int(text), timeout_s))

    async def _token(self, request: Request) -> Response:
        body = await _body(request, service=str, namespace=str, account=str, uses=int, ttl_s=float)
        uses, ttl_s = body.get("uses", 1), body.get("ttl_s", 3600.0)
        if not 1 <= uses <= MAX_USES:
            raise ApiError(400, f"uses: {uses} is not between 1 and {MAX_USES}")
        if not 1.0 <= ttl_s <= MAX_TTL_S:
            raise ApiError(400, f"ttl_s: {ttl_s:g} is not between 1 and {MAX_TTL_S:.0f} (30 days)")
        made = await self._plane.create_token(
            service=_needed(body, "service"),
            namespace=_needed(body, "namespace"),
            account=body.get("account", ""),
            uses=uses,
            ttl_s=ttl_s,
        )
        return _json(made)

    async def _certs(self, request: Request) -> Response:
        _query(request)
        return _json(await self._plane.certs())

    async def _rotate(self, request: Request) -> Response:
        body = await _body(request, spread_s=float)
        spread_s = body.get("spread_s", 30.0)
        if not 0.0 <= spread_s <= 3600.0:
            raise ApiError(400, f"spread_s: {spread_s:g} is not between 0 and 3600")
        return _json(await self._plane.rotate(spread_s))


def _json(value: object) -> Response:
    text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type="application/json")


def _plain(value: object) -> object:
    """What `json` does not know: our dataclasses, and mappings that are no dict."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be answered")


def _place(request: Request) -> dict[str, str]:
    return {part: str(request.path_params[part]) for part in ("kind", "namespace", "name")}


def _query(request: Request, *known: str) -> Mapping[str, str]:
    """The query's parameters. Raises ApiError for one that nobody reads, or that is there twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise ApiError(400, f"unknown parameter {name!r}", hint=f"known: {', '.join(known) or 'none'}")
        if names.count(name) > 1:
            raise ApiError(400, f"parameter {name!r} is there twice")
    return request.query_params


def _number(asked: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = asked.get(name)
    if text is None:
        return default
    try:
        value = float(text[:40])
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:  # also refuses NaN
        raise ApiError(400, f"{name}={text[:40]}: not a number from 0 to {most:g}")
    return value


async def _body(request: Request, **known: type) -> dict[str, Any]:
    """The body's JSON object. Raises ApiError for anything else, unknown fields and wrong types."""
    try:
        got = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as exc:  # deep nesting ends in a RecursionError
        raise ApiError(400, "the body is not JSON", hint="send one JSON object") from exc
    if not isinstance(got, dict):
        raise ApiError(400, "the body is not a JSON object")
    for name, value in got.items():
        wanted = known.get(name)
        if wanted is None:
            raise ApiError(400, f"unknown field {name!r}", hint=f"known: {', '.join(known)}")
        if not _fits(value, wanted):
            raise ApiError(400, f"{name}: not a {_WORDS[wanted]}")
    return got


_WORDS: dict[type, str] = {str: "text", bool: "truth value", int: "whole number", float: "number", dict: "JSON object"}


def _fits(value: object, wanted: type) -> bool:
    if wanted in (int, float) and isinstance(value, bool):
        return False
    if wanted is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, wanted)


def _needed(body: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - `_body` has checked the type
    if name not in body:
        raise ApiError(400, f"field {name!r} is missing")
    return body[name]


async def _refused(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refused)
    error = ApiError(STATUS_OF[exc.kind], exc.message, hint=exc.hint, details=exc.details, kind=exc.kind.value)
    return error.answer()


async def _api_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return exc.answer()


async def _too_slow(_: Request, __: Exception) -> Response:
    return too_slow().answer()


async def _bug(_: Request, exc: Exception) -> Response:
    if isinstance(exc, StoreError):  # no bug, but for the operator's log like one
        message = "the control plane's store failed; nothing was changed"
        return ApiError(503, message, hint="see meshctl check", details=[str(exc)], kind="store").answer()
    return bug().answer()


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404:
        message = f"there is nothing at {request.url.path}"
        return ApiError(404, message, hint="paths begin with /v1/", kind="path").answer()
    if exc.status_code == 405:
        allowed = (exc.headers or {}).get("Allow", "")
        message = f"{request.method} is not possible at {request.url.path}"
        return ApiError(405, message, hint=f"allowed: {allowed}", kind="method", headers={"allow": allowed}).answer()
    return ApiError(exc.status_code, str(exc.detail), headers=exc.headers).answer()
