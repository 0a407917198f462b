"""Scenario files: what they mean, and what is said of wrong ones."""

import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigError
from sidecar.model.policies import DEFAULT_POLICY
from sidecar.sim.read import read_scenario
from sidecar.sim.scenario import Kind, Latency, Measure

SMALL = """\
scenario: small
duration: 10s
services:
  orders: {latency: {p50: 10ms}, calls: [stock]}
  stock: {endpoints: 2, latency: {p50: 5ms, p99: 20ms}, policy: {retries: {attempts: 1}}}
clients:
  web: {calls: orders, rate: 20}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read_scenario(text, "s.yaml")
    return refused.value.problems


def test_defaults() -> None:
    made, warnings = read_scenario(SMALL, "s.yaml")
    assert (made.name, made.seed, made.duration_s, made.network_s, made.about) == ("small", 1, 10.0, 0.001, "")
    assert made.services["orders"].latency == Latency(0.01, 0.01)
    assert made.services["orders"].policy == DEFAULT_POLICY
    assert made.services["stock"].policy.retries.attempts == 1
    assert made.clients["web"].method == b"GET"
    assert not warnings


def test_faults_befall_endpoints_services_and_clients() -> None:
    made, _ = read_scenario(
        SMALL
        + "faults:\n"
        + "- {kind: slow, whom: [stock, orders-1], times: 3, from: 2s, until: 4s, every: 500ms}\n"
        + "- {kind: errors, whom: [stock-2], percent: 30, status: 500}\n"
        + "- {kind: load, whom: [web], times: 2}\n",
        "s.yaml",
    )
    slow, errors, load = made.faults
    assert slow.whom == ("stock-1", "stock-2", "orders-1")
    assert (slow.from_s, slow.until_s, slow.amount, slow.period_s) == (2.0, 4.0, 3.0, 0.5)
    assert (errors.kind, errors.amount, errors.status, errors.until_s) == (Kind.ERRORS, 0.3, 500, math.inf)
    assert load.whom == ("web",)


def test_endpoints_are_in_zones_in_turn_and_faults_befall_a_zone() -> None:
    text = SMALL.replace("endpoints: 2", "endpoints: 3, zones: [east, west]").replace(
        "rate: 20", "rate: 20, zone: west"
    )
    made, _ = read_scenario(text + "faults: [{kind: crash, zone: east}]\n", "s.yaml")
    assert [made.services["stock"].zone_of(number) for number in (1, 2, 3)] == ["east", "west", "east"]
    assert made.services["orders"].zone_of(1) == ""
    assert made.clients["web"].zone == "west"
    assert made.faults[0].whom == ("stock-1", "stock-3")


def test_expectations_and_variants() -> None:
    made, _ = read_scenario(
        SMALL
        + "expect:\n"
        + "- {measure: success, of: web, atLeast: 99.9}\n"
        + "- {measure: p99, of: web, from: 2s, atMost: 100ms}\n"
        + "variants:\n  none: {stock: {retries: {attempts: 0}}}\n",
        "s.yaml",
    )
    success, p99 = made.expectations
    assert (success.measure, success.at_least, success.at_most) == (Measure.SUCCESS, 99.9, None)
    assert (p99.from_s, p99.until_s, p99.at_most) == (2.0, 10.0, 0.1)
    assert made.variants["none"]["stock"].retries.attempts == 0


FAULT, EXPECT = SMALL + "faults: [{%s}]\n", SMALL + "expect: [{%s}]\n"
WRONG = {
    "nothing": ("", "1:1: document: has 0 documents; one scenario is needed"),
    "two": (SMALL + "---\n" + SMALL, "1:1: document: has 2 documents; one scenario is needed"),
    "unknown call": (
        SMALL.replace("calls: [stock]", "calls: [stok]"),
        "4:42: services.orders.calls[0]: 'stok' is not one of the services",
    ),
    "circle": (
        SMALL.replace("endpoints: 2", "calls: [orders]"),
        "4:41: services.orders.calls: leads back to the service itself: its requests would never end",
    ),
    "too many": (
        SMALL.replace("rate: 20", "rate: 60000"),
        (
            "7:3: clients: about 1,200,000 requests (with those that services make); at most 1,000,000 are simulated: "
            "lower the rates or the duration"
        ),
    ),
    "name of both": (
        SMALL.replace("web:", "stock:"),
        "7:3: clients.stock: is the name of a service too; choose another",
    ),
    "percentiles": (
        SMALL.replace("p99: 20ms", "p99: 1ms"),
        "5:50: services.stock.latency.p99: must not be less than p50",
    ),
    "too long": (SMALL.replace("10s", "2h"), "2:11: duration: '2h' is too long; at most 3600s are simulated"),
    "unknown whom": (
        FAULT % "kind: slow, whom: [stok-1], times: 2",
        "8:30: faults[0].whom[0]: 'stok-1' is neither a service nor an endpoint of one, such as orders-1",
    ),
    "share of a crash": (
        FAULT % "kind: crash, whom: [stock], percent: 3",
        "8:39: faults[0].percent: says nothing of crash",
    ),
    "no time": (
        FAULT % "kind: crash, whom: [stock], from: 5s, until: 5s",
        "8:10: faults[0]: from (5s) must be before until (5s)",
    ),
    "zone of nobody": (
        FAULT % "kind: crash, zone: north",
        "8:30: faults[0].zone: no service has an endpoint in 'north' (services.NAME.zones)",
    ),
    "whom and zone": (
        FAULT % "kind: crash, whom: [stock], zone: east",
        "8:39: faults[0].zone: beside whom; give one of them",
    ),
    "load of a zone": (
        FAULT % "kind: load, times: 2, zone: east",
        "8:33: faults[0].zone: says nothing of load; give whom, a client",
    ),
    "whose": (
        EXPECT % "measure: p99, of: stock, atMost: 1s",
        "8:29: expect[0].of: 'stock' is no client here, and p99 is a client's",
    ),
    "no bound": (EXPECT % "measure: p99, of: web", "8:10: expect[0]: has no bound; give atLeast or atMost"),
    "no unit": (
        EXPECT % "measure: p99, of: web, atMost: 5",
        "8:42: expect[0].atMost: 5 has no unit; write a duration such as 250ms, 3s or 1m30s",
    ),
    "variant of nobody": (
        SMALL + "variants: {x: {stok: {}}}\n",
        "8:16: variants.x.stok: 'stok' is not one of the services",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_said_of_a_wrong_one(name: str) -> None:
    text, said = WRONG[name]
    assert f"s.yaml:{said}" in problems(text)


def test_the_size_counts_what_services_ask() -> None:
    most = SMALL.replace("duration: 10s", "duration: 50s")
    read_scenario(most.replace("rate: 20", "rate: 10000"), "s.yaml")
    assert problems(most.replace("rate: 20", "rate: 10001"))


def read_or_told(text: str) -> None:
    """Raises only what must not be raised."""
    with suppress(ConfigError):
        read_scenario(text, "s.yaml")


@given(st.text(max_size=200) | st.sampled_from(SMALL.split()).map(lambda word: SMALL.replace(word, "")))
def test_any_text_is_a_scenario_or_problems(text: str) -> None:
    read_or_told(text)


@given(st.data())
def test_a_broken_scenario_is_told_in_problems(data: st.DataObject) -> None:
    whole = (Path(__file__).parents[3] / "examples/sim/retry-storm.yaml").read_text()
    at = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 30))
    put = data.draw(st.sampled_from(["", ": ", "[", "}", "- ", "9e9", "-1", "'", "\n", "0s", "null"]))
    read_or_told(whole[:at] + put + whole[at + length :])
