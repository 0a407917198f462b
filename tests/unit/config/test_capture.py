"""Whom and what to capture: the bootstrap file's settings, and the rules that come of them."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.bootstrap import read_bootstrap
from sidecar.config.capture import merged, own_traffic_problem, parse_cidr, parse_ports
from sidecar.config.capture_rules import REMOVE, CapturePlan, Landing, plan_of, problems, ruleset
from sidecar.config.problems import Problems
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import Bootstrap, HostPort
from sidecar.model.capture import (
    EVERY_PORT,
    InboundCapture,
    OutboundCapture,
    PortRange,
    Selection,
    UnknownDestination,
)
from tests.golden.test_golden_config import compare

GOLDEN = Path(__file__).parents[2] / "golden/capture"
NEEDS = "connections need a listener with a fixed port on"
HEAD = "node: {service: orders, namespace: shop}\nstatic: mesh.d\n"


def load(text: str) -> tuple[Bootstrap, list[str]]:
    found = Problems()
    made, _ = read_bootstrap(HEAD + text, "s.yaml", {}, found)
    found.raise_if_any()
    return made, found.warning_lines()


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


WHOLE = """
inbound:
  mtls: off
  listen: ["0.0.0.0:15006", "[::]:15006"]
  ports: [{port: 8080}, {port: 9090, app: "10.0.0.5:9091"}]
  capture: true
outbound:
  capture:
    proxyUid: 65532
    only: {ports: [80, "8000-8100", 8050], cidrs: [10.0.0.0/9, 10.128.0.0/9]}
    skip: {uids: [33], ports: [8001], cidrs: [10.1.0.0/16, "fd00:1::/32"]}
  unknown: refuse
"""


def test_the_whole_setting_means_what_it_says() -> None:
    made, warnings = load(WHOLE)
    assert warnings == []
    assert made.outbound.unknown is UnknownDestination.REFUSE
    assert made.outbound.capture == OutboundCapture(
        proxy_uid=65532,
        only=Selection(ports=(PortRange(80, 80), PortRange(8000, 8100)), cidrs=("10.0.0.0/9", "10.128.0.0/9")),
        skip=Selection(uids=(33,), ports=(PortRange(8001, 8001),), cidrs=("10.1.0.0/16", "fd00:1::/32")),
    )
    assert made.inbound is not None
    assert made.inbound.capture == InboundCapture()


def test_true_captures_all_and_listens_where_both_families_land() -> None:
    made, warnings = load("inbound: {app: '127.0.0.1:8080', mtls: off, capture: true}\noutbound: {capture: true}")
    assert warnings == []
    assert made.inbound is not None
    assert made.inbound.listen == (HostPort("0.0.0.0", 15006), HostPort("::", 15006))
    assert made.outbound.listen == (HostPort("127.0.0.1", 15001), HostPort("::1", 15001))
    assert made.outbound.capture == OutboundCapture()
    assert made.outbound.unknown is UnknownDestination.PASS


def test_off_is_the_default_and_listens_as_ever() -> None:
    made, _ = load("outbound: {capture: false}")
    assert made.outbound.capture is None
    assert made.outbound.listen == (HostPort("127.0.0.1", 15001),)


def test_a_listener_that_redirected_connections_miss_is_told() -> None:
    assert refused("outbound: {capture: true, listen: '10.0.0.5:15001'}") == [
        f"s.yaml:3:35: outbound.listen: captured outgoing {NEEDS} 127.0.0.1 and [::1]"
    ]
    assert refused("inbound: {capture: true, mtls: off, app: '127.0.0.1:1', listen: '127.0.0.1:15006'}") == [
        f"s.yaml:3:65: inbound.listen: captured incoming {NEEDS} 0.0.0.0 and [::]"
    ]
    assert refused("outbound: {capture: true, listen: '127.0.0.1:0'}") != []


def test_one_family_alone_is_a_warning() -> None:
    made, warnings = load("outbound: {capture: true, listen: '127.0.0.1:15001'}")
    assert plan_of(made).outbound_to == Landing(15001, None)
    (line,) = warnings
    assert line.startswith("s.yaml:3:35: outbound.listen: outgoing IPv6 connections are not captured: no listener with")


def test_with_capture_an_upstream_needs_no_listener_of_its_own() -> None:
    """It is then only said to be called: with a control plane, its addresses come before the first call."""
    made, _ = load("outbound: {capture: true, upstreams: [{service: stock, port: 80}]}")
    assert [(str(one.service), one.port, one.listen) for one in made.outbound.upstreams] == [("stock.shop", 80, None)]
    (line,) = refused("outbound: {upstreams: [{service: stock, port: 80}]}")
    assert "field 'listen' is missing (the local address for the app, such as 127.0.0.1:9001)" in line


def test_a_dual_stack_listener_takes_both_families() -> None:
    text = "inbound: {capture: true, mtls: off, app: '127.0.0.1:1', listen: '[::]:15006'}"
    made, warnings = load(text)
    assert warnings == []
    assert plan_of(made).inbound_to == Landing(15006, 15006)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("{only: {ports: [0]}}", "0 is not a whole number from 1 to 65535"),
        ("{only: {ports: ['9-8']}}", "'9-8' is not a port or a range of ports such as 80 or 8000-8100 (1 to 65535)"),
        ("{skip: {cidrs: [10.0.0.1/8]}}", "'10.0.0.1/8' is not a network: it has bits beyond its prefix"),
        ("{skip: {cidrs: [nowhere]}}", "'nowhere' is not a network: such as 10.0.0.0/8 or fd00::/8"),
        ("{proxyUid: -1}", "-1 is not a whole number from 0 to 4294967294"),
        ("{proxyUid: 5, only: {uids: [5]}}", "5 is captured by `only`; the sidecar's own connections must not be"),
        ("{proxyUids: 5}", "unknown field 'proxyUids' (did you mean 'proxyUid'?"),
        ("often", "'often' is not true or false"),
    ],
)
def test_what_is_wrong_is_said_once(setting: str, said: str) -> None:
    (line,) = refused(f"outbound: {{capture: {setting}}}")
    assert said in line


def test_ports_that_touch_become_one_range() -> None:
    assert parse_ports("443, 80,81-90,85-100") == (PortRange(80, 100), PortRange(443, 443))
    assert parse_ports("*") == EVERY_PORT


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 20)), max_size=12))
def test_merging_keeps_the_ports_and_separates_the_ranges(drawn: list[tuple[int, int]]) -> None:
    ranges = [PortRange(first, first + more) for first, more in drawn]
    made = merged(ranges)
    assert {port for one in made for port in range(one.first, one.last + 1)} == {
        port for one in ranges for port in range(one.first, one.last + 1)
    }
    assert all(before.last + 1 < after.first for before, after in pairwise(made))


def test_an_address_is_a_network_of_one() -> None:
    assert (parse_cidr("10.0.0.5"), parse_cidr("fd00::5")) == ("10.0.0.5/32", "fd00::5/128")


EVERYTHING = OutboundCapture(proxy_uid=65532)
PLANS = {
    "outbound-everything": CapturePlan(outbound=EVERYTHING),
    "outbound-of-some-users": CapturePlan(outbound=OutboundCapture(only=Selection(uids=(1000, 1001), gids=(50,)))),
    "outbound-ipv4-to-some-networks": CapturePlan(
        outbound=OutboundCapture(proxy_gid=7, only=Selection(cidrs=("10.0.0.0/8", "172.16.0.0/12"))),
        outbound_to=Landing(15001, None),
    ),
    "outbound-all-networks-of-one-family": CapturePlan(
        outbound=OutboundCapture(proxy_uid=7, only=Selection(cidrs=("0.0.0.0/0",)), skip=Selection(cidrs=("::/0",)))
    ),
    "inbound-some-ports": CapturePlan(inbound=InboundCapture(only_ports=(PortRange(80, 80), PortRange(8080, 8090)))),
    "inbound-every-port": CapturePlan(
        outbound=EVERYTHING, inbound=InboundCapture(only_ports=EVERY_PORT, skip_ports=(PortRange(22, 22),))
    ),
    "from-a-file": plan_of(load(WHOLE)[0]),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_rules_are_as_written_down(name: str) -> None:
    assert problems(PLANS[name]) == []
    compare(GOLDEN / f"{name}.nft", ruleset(PLANS[name]))


def test_every_ruleset_begins_by_removing_what_was_there() -> None:
    assert all(ruleset(plan).startswith(REMOVE) for plan in PLANS.values())


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (CapturePlan(), "nothing is to be captured"),
        (CapturePlan(outbound=OutboundCapture()), "which connections are the sidecar's own? give --proxy-uid"),
        (
            CapturePlan(outbound=OutboundCapture(proxy_uid=5, only=Selection(uids=(5,)))),
            "the sidecar's own user must not be among the captured ones",
        ),
        (CapturePlan(inbound=InboundCapture()), "no port to capture incoming connections of"),
        (CapturePlan(outbound=EVERYTHING, outbound_to=Landing()), "no listener takes outgoing connections"),
        (
            CapturePlan(inbound=InboundCapture(only_ports=EVERY_PORT), inbound_to=Landing()),
            "no listener takes incoming connections",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_a_reason(plan: CapturePlan, said: str) -> None:
    assert [sentence for sentence in problems(plan) if sentence.startswith(said)]


@pytest.mark.parametrize(
    ("capture", "uid", "gid", "captures_itself"),
    [
        (OutboundCapture(proxy_uid=65532), 65532, 0, False),
        (OutboundCapture(proxy_uid=65532), 0, 0, True),
        (OutboundCapture(proxy_gid=7), 0, 7, False),
        (OutboundCapture(proxy_gid=7), 0, 8, True),
        (OutboundCapture(proxy_uid=65532, skip=Selection(uids=(0,))), 0, 0, False),
        (OutboundCapture(only=Selection(uids=(1000,))), 0, 0, False),
        (OutboundCapture(only=Selection(uids=(1000,))), 1000, 0, True),
        (OutboundCapture(proxy_uid=5, only=Selection(gids=(50,))), 6, 50, True),
        (OutboundCapture(), 0, 0, False),
    ],
)
def test_a_sidecar_that_would_capture_itself_is_told(
    capture: OutboundCapture, uid: int, gid: int, captures_itself: bool
) -> None:
    assert bool(own_traffic_problem(capture, uid, gid)) is captures_itself
