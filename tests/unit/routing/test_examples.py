"""The examples of routes do what their comments say."""

from pathlib import Path

import pytest

from sidecar.config.files import load
from sidecar.model.clusters import ServiceKey
from sidecar.model.messages import RequestHead
from sidecar.model.snapshot import Snapshot
from sidecar.routing.plan import L4Table, RoutePlan
from sidecar.routing.table import Router

EXAMPLES = Path(__file__).parents[3] / "examples"


def snapshot_of(example: str) -> Snapshot:
    snapshot = load(EXAMPLES / example / "sidecar.yaml", {}).snapshot
    assert snapshot is not None
    return snapshot


def plan_of(example: str, service: str, port: int, head: RequestHead) -> RoutePlan:
    table = Router().table(snapshot_of(example), ServiceKey("shop", service), port)
    assert table is not None
    plan = table.match(head)
    assert plan is not None
    return plan


def l4_of(service: str, port: int) -> L4Table:
    table = Router().l4_table(snapshot_of("tcp"), ServiceKey("shop", service), port)
    assert table is not None
    return table


def rule_name(plan: RoutePlan | None) -> str:
    return "" if plan is None else plan.name.split("/", 2)[2]


def request(target: bytes, *fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", target, b"orders", [(b"host", b"orders"), *fields])


@pytest.mark.parametrize(
    ("head", "rule"),
    [
        (request(b"/v1/list?page=3"), "orders/moved"),
        (request(b"/v2/orders/7?full=1"), "orders/shorter"),
        (request(b"/?beta=1"), "orders/beta"),
        (request(b"/", (b"X-User", b"ann@example.com")), "orders/beta"),
        (request(b"/", (b"X-User", b"anna@example.com")), "orders/rest"),
        (request(b"/v3/x"), "orders/beta"),
        (request(b"/v2/other"), "orders/rest"),
    ],
)
def test_filters_choose(head: RequestHead, rule: str) -> None:
    assert rule_name(plan_of("filters", "orders", 8080, head)) == rule


def test_filters_change() -> None:
    head = request(b"/v1/list?page=3")
    moved = plan_of("filters", "orders", 8080, head).filters
    assert moved is not None
    assert moved.redirect(head) == (301, b"http://orders/v2/list?page=3")
    head = request(b"/v2/orders/7?full=1", (b"x-debug", b"1"))
    shorter = plan_of("filters", "orders", 8080, head).filters
    assert shorter is not None
    sent = shorter.apply_request(head)
    assert (sent.target, sent.authority) == (b"/7?full=1", b"orders.internal")
    assert sent.fields == [(b"host", b"orders.internal"), (b"x-api", b"2")]
    assert shorter.apply_response([]) == [(b"cache-control", b"no-store")]
    (of_backend,) = plan_of("filters", "orders", 8080, request(b"/?beta=1")).backend_filters
    assert of_backend is not None
    assert of_backend.apply_request(request(b"/")).get(b"x-beta") == b"true"


def test_calls_of_grpc_go_by_method() -> None:
    search = plan_of("grpc", "orders", 9000, request(b"/shop.v1.Orders/Search"))
    assert rule_name(search) == "orders/search"
    assert [failure for failure in search.policy.retries.on if failure.startswith("grpc-")]
    tester = request(b"/shop.v1.Orders/Get", (b"x-tester", b"true"))
    assert rule_name(plan_of("grpc", "orders", 9000, tester)) == "orders/testers"
    rest = plan_of("grpc", "orders", 9000, request(b"/shop.v1.Orders/Get"))
    assert (rule_name(rest), rest.cumulative) == ("orders/rest", (9, 10))


def test_connections_go_by_weight_or_by_server_name() -> None:
    database = l4_of("db", 5432).match(None)
    assert database is not None
    assert (rule_name(database), database.cumulative, database.policy.timeouts.tunnel_idle_s) == (
        "db/rule-0",
        (99, 100),
        28_800.0,
    )
    gate = l4_of("gate", 8443)
    led = [rule_name(gate.match(name)) for name in (b"pay.example.com", b"x.example.com", b"example.com", None)]
    assert led == ["pay/rule-0", "partners/rule-0", "", ""]
