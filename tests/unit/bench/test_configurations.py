"""Both sides are told to do the same work: 100 routes, a split, the product's policies."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import backend, mesh
from bench.proxies import haproxy, nginx
from bench.proxies.documents import RULES_A_ROUTE, write_folder
from bench.proxies.envoy_config import Config, configuration, seconds
from bench.proxies.sidecar import bootstrap_of
from bench.proxies.site import Site
from bench.scenarios import Log, Scenario
from sidecar.config.files import load_bootstrap, load_static_folder
from sidecar.model.clusters import EndpointSet, Mesh, Plain
from sidecar.model.policies import DEFAULT_POLICY
from sidecar.model.routes import HttpRoute

PORT = 8080
SCENARIO = Scenario(name="some")


def site(scenario: Scenario = SCENARIO) -> Site:
    return Site(Path("/tmp/envoy"), 0, PORT, scenario)


def envoy(scenario: Scenario = SCENARIO, *, minimal: bool = False) -> Config:
    resources: Config = json.loads(json.dumps(configuration(site(scenario), minimal=minimal)))["static_resources"]
    return resources


def manager(resources: Config) -> Config:
    found: Config = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def envoy_routes(scenario: Scenario = SCENARIO) -> list[Config]:
    routes: list[Config] = manager(envoy(scenario))["route_config"]["virtual_hosts"][0]["routes"]
    return routes


def test_a_hundred_routes_of_which_three_match_by_header() -> None:
    routes = mesh.make_routes()

    assert len(routes) == 100
    assert [route.header for route in routes[:3]] == [mesh.CANARY_HEADER] * 3
    assert all(route.header is None and dict(route.weights) == {"v1": 90, "v2": 10} for route in routes[3:])
    assert {len(addresses) for addresses in mesh.ENDPOINTS.values()} == {3}


def test_without_routes_envoy_too_sends_everything_to_the_service_as_a_whole() -> None:
    [route] = envoy_routes(replace(SCENARIO, routes=0))

    assert route["match"] == {"prefix": "/"}
    shares = {each["name"]: each["weight"] for each in route["route"]["weighted_clusters"]["clusters"]}
    assert shares == {version: len(addresses) for version, addresses in mesh.ENDPOINTS.items()}


def test_envoy_has_the_routes_in_order_of_precedence() -> None:
    routes = envoy_routes()

    assert [route["match"]["path_separated_prefix"] for route in routes] == [r.prefix for r in mesh.make_routes()]
    assert [index for index, route in enumerate(routes) if "headers" in route["match"]] == [0, 1, 2]


def test_envoy_has_the_products_policies() -> None:
    route, cluster = envoy_routes()[50]["route"], envoy()["clusters"][0]

    assert route["timeout"] == f"{DEFAULT_POLICY.timeouts.request_s:g}s"
    assert route["retry_policy"]["num_retries"] == DEFAULT_POLICY.retries.attempts
    assert route["retry_policy"]["retry_on"] == "connect-failure,gateway-error,refused-stream"
    assert cluster["outlier_detection"]["consecutive_5xx"] == DEFAULT_POLICY.ejection.consecutive_failures
    assert cluster["circuit_breakers"]["thresholds"][0]["max_requests"] == DEFAULT_POLICY.limits.requests


def test_minimal_envoy_still_tries_again_and_does_nothing_else() -> None:
    resources = envoy(minimal=True)

    assert resources["clusters"][0].keys().isdisjoint({"outlier_detection", "circuit_breakers"})
    host = manager(resources)["route_config"]["virtual_hosts"][0]
    assert all(route["route"]["retry_policy"]["num_retries"] for route in host["routes"])
    assert [entry["name"] for entry in manager(resources)["http_filters"]] == ["envoy.filters.http.router"]
    assert configuration(site(), minimal=True)["stats_config"]["stats_matcher"] == {"reject_all": True}


def test_envoy_logs_errors_or_all() -> None:
    errors = manager(envoy())["access_log"][0]
    everything = manager(envoy(replace(SCENARIO, log=Log.ALL)))["access_log"][0]

    assert "filter" in errors
    assert "filter" not in everything
    assert everything["typed_config"]["log_format"]["json_format"]["response_code"] == "%RESPONSE_CODE%"


def test_haproxy_and_nginx_have_every_route_and_endpoint() -> None:
    few = site(replace(SCENARIO, routes=10))
    haproxy_text, nginx_text = haproxy.configuration(few, 1), nginx.configuration(few, 1)

    areas = [mesh.area(number) + "/" for number in range(mesh.areas(10))]
    assert [line.split()[0] for line in haproxy.area_map(10).splitlines()] == areas
    assert re.findall(r"location (/api\S+) ", nginx_text) == areas
    for addresses in mesh.ENDPOINTS.values():
        assert all(f"{address}:{PORT}" in haproxy_text and f"{address}:{PORT}" in nginx_text for address in addresses)


def test_envoy_durations_keep_milliseconds_and_no_limit_is_zero() -> None:
    assert [seconds(value) for value in (0.025, 15.0, None)] == ["0.025s", "15s", "0s"]


@pytest.mark.parametrize("count", [0, 100, 1000, 5000])
def test_our_folder_is_valid_and_holds_the_same_routes(tmp_path: Path, count: int) -> None:
    write_folder(tmp_path / "mesh.d", PORT, routes=count)
    snapshot, warnings = load_static_folder(tmp_path / "mesh.d", mesh=False)
    resources = snapshot.resources.values()

    assert warnings == []
    routes = [resource.body for resource in resources if isinstance(resource.body, HttpRoute)]
    assert sum(len(route.rules) for route in routes) == count
    assert all(len(route.rules) <= RULES_A_ROUTE for route in routes)
    sets = {r.body.service.name: r.body for r in resources if isinstance(r.body, EndpointSet)}
    assert {name: len(found.endpoints) for name, found in sets.items()} == {"orders": 6, "orders-v1": 3, "orders-v2": 3}
    assert all(isinstance(endpoint.hop, Plain) for endpoint in sets["orders"].endpoints)


def test_with_an_inbound_port_every_endpoint_is_behind_a_sidecar(tmp_path: Path) -> None:
    write_folder(tmp_path / "mesh.d", PORT, inbound=15006)
    snapshot, _ = load_static_folder(tmp_path / "mesh.d", mesh=True)

    endpoints = [e for r in snapshot.resources.values() if isinstance(r.body, EndpointSet) for e in r.body.endpoints]
    assert endpoints
    assert all(isinstance(e.hop, Mesh) and e.port == 15006 for e in endpoints)
    assert {e.host for e in endpoints} == {host for version in mesh.VERSIONS for host in mesh.SIDECARS[version]}


@pytest.mark.parametrize("fast_path", [True, False])
def test_the_bootstrap_says_which_path_is_measured(tmp_path: Path, fast_path: bool) -> None:
    (tmp_path / "mesh.d").mkdir()
    file = tmp_path / "sidecar.yaml"
    file.write_text(json.dumps(bootstrap_of("frontend", fast_path=fast_path)))

    bootstrap, warnings = load_bootstrap(file, {})
    assert bootstrap.fast_path is fast_path
    assert bootstrap.outbound.listen[0].port == 0
    assert warnings == []


def test_a_body_too_long_for_a_configuration_comes_from_a_file(tmp_path: Path) -> None:
    assert "return 200 '{" in backend.configuration(8080, 1024, tmp_path)
    assert "rewrite ^ /body.json" in backend.configuration(8080, 16_384, tmp_path)


@pytest.mark.parametrize("size", [40, 80, 1024, 16_384])
def test_the_backends_body_has_exactly_the_size_and_is_json(size: int) -> None:
    text = backend.body(size)

    assert len(text) == size
    assert json.loads(text)["state"] == "paid"


def test_the_backend_listens_at_every_endpoint_and_names_its_version(tmp_path: Path) -> None:
    text = backend.configuration(8080, 80, tmp_path)

    for version, addresses in mesh.ENDPOINTS.items():
        for address in addresses:
            assert re.search(rf"listen {address}:8080 [^}}]*x-version {version};", text)
