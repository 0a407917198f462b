"""Envoy's configuration for the mesh of mesh.py: the same routes, tries, ejection, limits and times as ours.

One worker, no filter but the router: what a careful operator would write, and, with `minimal`, what one would write who
wants nothing but speed. The routes are a list in order of precedence, as Istio and Envoy Gateway make it.
"""

import json
from pathlib import Path
from typing import Any

from bench import mesh
from bench.proxies.site import Site
from bench.scenarios import Kind, Log
from sidecar.model.policies import Backoff, RetryOn

Config = dict[str, Any]
TYPE = "type.googleapis.com/envoy.extensions"
_MANAGER = f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_RETRY_ON = {
    RetryOn.CONNECT_FAILURE: "connect-failure",
    RetryOn.REFUSED_STREAM: "refused-stream",
    RetryOn.RESET: "reset",
    RetryOn.GATEWAY_ERROR: "gateway-error",
}


HTTP2: Config = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}


def configuration(site: Site, *, minimal: bool) -> Config:
    """The bootstrap. Listener and admin take free ports.

    Args:
        minimal: Envoy at its cheapest that still routes and tries again: no ejection, no limits, no statistics, no
            request ids, paths as they come.
    """
    settings = policies_of(minimal=minimal)
    if site.scenario.kind in (Kind.HTTP2, Kind.GRPC):
        settings |= HTTP2
    clusters = [cluster(version, addresses, site.port) | settings for version, addresses in mesh.ENDPOINTS.items()]
    made: Config = {
        "admin": {"address": address("127.0.0.1", 0)},
        "static_resources": {"listeners": [_listener(site, minimal)], "clusters": clusters},
    }
    return made | ({"stats_config": {"stats_matcher": _few_statistics(site)}} if minimal else {})


def _few_statistics(site: Site) -> Config:
    """None, or the one that says whether pushes arrive."""
    if not site.scenario.pushes:
        return {"reject_all": True}
    return {"inclusion_list": {"patterns": [{"suffix": "rds.bench.config_reload"}]}}


def address(host: str, port: int) -> Config:
    """An address; port 0 is any free one."""
    return {"socket_address": {"address": host, "port_value": port}}


def seconds(value: float | None) -> str:
    """A protobuf duration; None (no limit) is 0s, as Envoy has it."""
    return f"{value or 0:g}s"


def _listener(site: Site, minimal: bool) -> Config:
    filters = [manager(site, {"route_config": route_config(site)}, minimal=minimal)]
    return {"name": "bench", "address": address("127.0.0.1", 0), "filter_chains": [{"filters": filters}]}


def manager(site: Site, routes: Config, *, minimal: bool) -> Config:
    """The HTTP filter. `routes` is `route_config` or `rds`."""
    config = {
        "@type": _MANAGER,
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "normalize_path": not minimal,
        "generate_request_id": not minimal,
        "stream_idle_timeout": seconds(mesh.POLICY.timeouts.stream_idle_s),
        "access_log": [_access_log(site)],
        "http_filters": [_router(minimal)],
        **routes,
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def route_document(site: Site, turn: int) -> str:
    """The routes as a file that Envoy watches; odd and even turns differ in the weights of one route."""
    name = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    routes = {"@type": name, **route_config(site, turn)}
    return json.dumps({"version_info": str(turn), "resources": [routes]})


def discovered_routes(config: Config, file: Path) -> None:
    """Let the listener of `config` take its routes from `file`."""
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    http = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del http["route_config"]
    http["rds"] = {"route_config_name": "bench", "config_source": source}
    config["node"] = {"id": "bench", "cluster": "bench"}


def _router(minimal: bool) -> Config:
    router = {"@type": f"{TYPE}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    if minimal:
        router["dynamic_stats"] = False
    return {"name": "envoy.filters.http.router", "typed_config": router}


def route_config(site: Site, turn: int = 0) -> Config:
    """The routes of mesh.py."""
    return {"name": "bench", "validate_clusters": True, "virtual_hosts": [_virtual_host(site, turn)]}


def _access_log(site: Site) -> Config:
    """A JSON line for each request, or for a status of 500 or more and any response flag."""
    log: Config = {
        "@type": f"{TYPE}.access_loggers.file.v3.FileAccessLog",
        "path": str(site.folder / "access.log"),
        "log_format": {"json_format": _LINE},
    }
    made: Config = {"name": "envoy.access_loggers.file", "typed_config": log}
    if site.scenario.log is Log.ERRORS:
        status = {"comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "bench.log"}}}
        made["filter"] = {"or_filter": {"filters": [{"status_code_filter": status}, {"response_flag_filter": {}}]}}
    return made


# What our line says (sidecar/telemetry/access_log.py), as far as Envoy knows it.
_LINE = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "authority": "%REQ(:AUTHORITY)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
    "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "principal": "%DOWNSTREAM_PEER_URI_SAN%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "user_agent": "%REQ(USER-AGENT)%",
    "route_name": "%ROUTE_NAME%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
}


def _virtual_host(site: Site, turn: int) -> Config:
    host, port = mesh.HOST, site.port
    names = [host, f"{host}.mesh", f"{host}.svc.cluster.local", mesh.SERVICE]
    domains = [*names, *(f"{name}:{port}" for name in names)]
    return {
        "name": host,
        "domains": domains,
        "routes": [_route(route) for route in mesh.make_routes(site.scenario.routes, turn)] or [_any_route()],
    }


def _route(route: mesh.Route) -> Config:
    match: Config = {"path_separated_prefix": route.prefix}
    if route.header is not None:
        name, value = route.header
        match["headers"] = [{"name": name, "string_match": {"exact": value}}]
    weights = [{"name": version, "weight": weight} for version, weight in route.weights]
    target = {"cluster": weights[0]["name"]} if len(weights) == 1 else {"weighted_clusters": {"clusters": weights}}
    timeout = seconds(mesh.POLICY.timeouts.request_s)
    return {"match": match, "route": {**target, "timeout": timeout, "retry_policy": _retry_policy()}}


def _any_route() -> Config:
    """Without routes all requests go to the service as a whole."""
    weights = [{"name": version, "weight": len(addresses)} for version, addresses in mesh.ENDPOINTS.items()]
    route = {"weighted_clusters": {"clusters": weights}, "timeout": seconds(mesh.POLICY.timeouts.request_s)}
    return {"match": {"prefix": "/"}, "route": {**route, "retry_policy": _retry_policy()}}


def _retry_policy() -> Config:
    retries = mesh.POLICY.retries
    return {
        "retry_on": ",".join(sorted(_RETRY_ON[failure] for failure in retries.on)),
        "num_retries": retries.attempts,
        "retry_back_off": _backoff(retries.backoff),
        # Never the endpoint that just failed, if another is there.
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _backoff(backoff: Backoff) -> Config:
    return {"base_interval": seconds(backoff.base_s), "max_interval": seconds(backoff.max_s)}


def cluster(name: str, addresses: tuple[str, ...], port: int) -> Config:
    """Endpoints under a name, chosen by least request."""
    endpoints = [{"endpoint": {"address": address(host, port)}} for host in addresses]
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": seconds(mesh.POLICY.timeouts.connect_s),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def policies_of(*, minimal: bool) -> Config:
    """What a cluster has besides: limits and ejection, or nothing."""
    return {} if minimal else _limits() | _ejection()


def _limits() -> Config:
    limits, budget = mesh.POLICY.limits, mesh.POLICY.retries.budget
    threshold = {
        "max_connections": limits.connections,
        "max_pending_requests": limits.pending,
        "max_requests": limits.requests,
        "retry_budget": {
            "budget_percent": {"value": budget.percent},
            "min_retry_concurrency": max(1, round(budget.min_per_second)),
        },
    }
    return {"circuit_breakers": {"thresholds": [threshold]}}


def _ejection() -> Config:
    ejection = mesh.POLICY.ejection
    return {
        "outlier_detection": {
            "consecutive_5xx": ejection.consecutive_failures,
            "base_ejection_time": seconds(ejection.base_s),
            "max_ejection_time": seconds(ejection.max_s),
            "max_ejection_percent": ejection.max_percent,
        }
    }
