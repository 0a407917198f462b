"""Whatever a client gets from an upstream directly, it gets through us: about 150 cases, all pairs of choices.

A case that cannot be has its reason in cases.py, a difference that may be has its own in differences.py. More cases on
purpose: INTEROP_CASES=10000 pytest tests/interop/test_matrix.py plays every one that can be.
"""

import os

import pytest

from tests.interop import cases, pairs
from tests.interop.cases import CLIENT_SPEAKS, TRANSPORTS, Transport
from tests.interop.differences import Compared, differences
from tests.interop.upstreams.farm import BEHIND, SPEAKS
from tests.interop.world import World

CASES = int(os.environ.get("INTEROP_CASES", "150"))
_POSSIBLE = pairs.possible(cases.AXES, cases.why_not)
CHOSEN = pairs.select(_POSSIBLE, at_least=CASES)
# Tools by the client or upstream that is one.
NEEDS = {
    "curl": pytest.mark.needs("curl"),
    "node-http": pytest.mark.needs("node"),
    "node-http2": pytest.mark.needs("node"),
    "node": pytest.mark.needs("node"),
    "nginx": pytest.mark.needs("nginx"),
    "haproxy": pytest.mark.needs("haproxy"),
    "nghttpd": pytest.mark.needs("nghttpd"),
}


def _param(case: pairs.Combination) -> object:
    client, transport, upstream, feature = case
    stand_in = stand_in_for(client, TRANSPORTS[transport], upstream, feature)[0]
    programs = dict.fromkeys((client, stand_in, upstream, *BEHIND.get(upstream, ())))
    return pytest.param(*case, marks=[NEEDS[name] for name in programs if name in NEEDS], id="-".join(case))


def stand_in_for(client: str, transport: Transport, upstream: str, feature: str) -> tuple[str, str, str]:
    """Whose direct run is the measure: client, its version, the upstream's.

    The client itself, in the version in which we speak to the upstream; failing that in its own; else curl.
    """
    if transport.upstream in CLIENT_SPEAKS[client]:
        return client, transport.upstream, transport.upstream
    own = transport.client
    if own in SPEAKS[upstream] and not cases.why_not((client, f"{own}-{own}", upstream, feature)):
        return client, own, own
    return "curl", transport.upstream, transport.upstream


@pytest.mark.parametrize(("client", "transport", "upstream", "feature"), [_param(case) for case in CHOSEN])
def test_through_us_is_as_directly(world: World, client: str, transport: str, upstream: str, feature: str) -> None:
    way = TRANSPORTS[transport]
    measure, version, upstream_version = stand_in_for(client, way, upstream, feature)
    direct = world.directly(
        measure, version, upstream, upstream_version, cases.ask(measure, upstream, feature, world.bodies)
    )
    through = world.through(client, way, upstream, cases.ask(client, upstream, feature, world.bodies))
    how = Compared(
        same_case=way.client == way.upstream == "h1" and way.hop != "meshed",
        translated=way.client != way.upstream,
        stand_in=measure != client,
        closes=feature == "close",
    )
    found = differences(direct, through, how)
    if found:
        pytest.fail("\n".join(found), pytrace=False)
    assert through.version == {"h1": "1.1", "h2c": "2"}[way.client]
