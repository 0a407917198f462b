"""Envoy's configuration for the mesh of mesh.py: the same routes, tries, ejection, limits and times as ours.

One worker, metrics on (Envoy's own, always), errors only in the access log, no filter but the router: what a careful
operator would write. The routes are a list in order of precedence, as Istio and Envoy Gateway make it.
"""

from pathlib import Path
from typing import Any

from bench import mesh
from sidecar.model.policies import Backoff, RetryOn

Config = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.extensions"
_MANAGER = f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_RETRY_ON = {
    RetryOn.CONNECT_FAILURE: "connect-failure",
    RetryOn.REFUSED_STREAM: "refused-stream",
    RetryOn.RESET: "reset",
    RetryOn.GATEWAY_ERROR: "gateway-error",
}


def configuration(port: int, log: Path) -> Config:
    """The bootstrap. Listener and admin take free ports."""
    clusters = [_cluster(version, addresses, port) for version, addresses in mesh.ENDPOINTS.items()]
    return {
        "admin": {"address": _address("127.0.0.1", 0)},
        "static_resources": {"listeners": [_listener(port, log)], "clusters": clusters},
    }


def _address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}


def seconds(value: float | None) -> str:
    """A protobuf duration; None (no limit) is 0s, as Envoy has it."""
    return f"{value or 0:g}s"


def _listener(port: int, log: Path) -> Config:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "normalize_path": True,
        "stream_idle_timeout": seconds(mesh.POLICY.timeouts.stream_idle_s),
        "access_log": [_error_log(log)],
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
        "route_config": {"name": "bench", "validate_clusters": True, "virtual_hosts": [_virtual_host(port)]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": "bench", "address": _address("127.0.0.1", 0), "filter_chains": [{"filters": filters}]}


def _error_log(log: Path) -> Config:
    """A line for a status of 500 or more, or any response flag."""
    status = {"comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "bench.log"}}}
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"or_filter": {"filters": [{"status_code_filter": status}, {"response_flag_filter": {}}]}},
        "typed_config": {"@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog", "path": str(log)},
    }


def _virtual_host(port: int) -> Config:
    host = mesh.HOST
    names = [host, f"{host}.mesh", f"{host}.svc.cluster.local", mesh.SERVICE]
    domains = [*names, *(f"{name}:{port}" for name in names)]
    return {"name": host, "domains": domains, "routes": [_route(route) for route in mesh.make_routes()]}


def _route(route: mesh.Route) -> Config:
    match: Config = {"path_separated_prefix": route.prefix}
    if route.header is not None:
        name, value = route.header
        match["headers"] = [{"name": name, "string_match": {"exact": value}}]
    weights = [{"name": version, "weight": weight} for version, weight in route.weights]
    target = {"cluster": weights[0]["name"]} if len(weights) == 1 else {"weighted_clusters": {"clusters": weights}}
    timeout = seconds(mesh.POLICY.timeouts.request_s)
    return {"match": match, "route": {**target, "timeout": timeout, "retry_policy": _retry_policy()}}


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
                "typed_config": {"@type": f"{_TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _backoff(backoff: Backoff) -> Config:
    return {"base_interval": seconds(backoff.base_s), "max_interval": seconds(backoff.max_s)}


def _cluster(name: str, addresses: tuple[str, ...], port: int) -> Config:
    policy = mesh.POLICY
    endpoints = [{"endpoint": {"address": _address(address, port)}} for address in addresses]
    budget = policy.retries.budget
    limits = {
        "max_connections": policy.limits.connections,
        "max_pending_requests": policy.limits.pending,
        "max_requests": policy.limits.requests,
        "retry_budget": {
            "budget_percent": {"value": budget.percent},
            "min_retry_concurrency": max(1, round(budget.min_per_second)),
        },
    }
    ejection = policy.ejection
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": seconds(policy.timeouts.connect_s),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [limits]},
        "outlier_detection": {
            "consecutive_5xx": ejection.consecutive_failures,
            "base_ejection_time": seconds(ejection.base_s),
            "max_ejection_time": seconds(ejection.max_s),
            "max_ejection_percent": ejection.max_percent,
        },
    }
