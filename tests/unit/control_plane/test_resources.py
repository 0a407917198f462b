"""Applying, deleting and listing, on contents made from text."""

from collections.abc import Collection
from types import MappingProxyType

import pytest

from control_plane.answers import Kind, Refused
from control_plane.compile import Compiler, Content, Edit, next_snapshot, remember
from control_plane.resources import Application, application, deletion, every, full_name, parse
from sidecar.model.clusters import ServicePort, Workload
from sidecar.model.snapshot import Snapshot

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: shop}
spec: {ports: [{port: 8080}]}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules:
    - backendRefs: [{name: %s, port: 8080}]
"""
POLICY = """
kind: TrafficPolicy
metadata: {name: %s, namespace: shop}
spec: {targetRefs: [{kind: Service, name: %s}], retries: {attempts: 1}}
"""
EMPTY = Content()


def apply(content: Content, text: str, source: str = "mesh.yaml") -> Application:
    return application(content, parse(text, source), "mesh.local", source)


def after(content: Content, *texts: str) -> Content:
    for text in texts:
        content = content.edited(apply(content, text).edit)
    return content


def with_workload(content: Content = EMPTY, name: str = "orders-1", version: str = "v1") -> Content:
    made = Workload(
        namespace="shop",
        name=name,
        service="orders",
        address="10.0.0.1",
        ports=(ServicePort(8080),),
        account="orders",
        version=version,
    )
    return content.edited(Edit(registered={f"shop/{name}": made}, remembered=remember(content, made)))


def snapshot(content: Content) -> Snapshot:
    return next_snapshot(Snapshot(), Compiler("mesh.local").compile(content), 7)


class TestApply:
    def test_new_changed_and_unchanged_are_told_apart(self) -> None:
        first = after(EMPTY, SERVICE % "orders" + "---" + SERVICE % "stock")
        second = apply(first, SERVICE % "orders" + "---" + (SERVICE % "stock").replace("8080", "9090"))
        assert second.changed == ("Service/shop/stock",)
        assert second.unchanged == ("Service/shop/orders",)
        assert sorted(second.edit.user) == ["Service/shop/stock"]

    @pytest.mark.parametrize("kind", ["GRPCRoute", "TCPRoute"])
    def test_a_route_of_any_kind_may_not_lead_nowhere_and_keeps_what_it_leads_to(self, kind: str) -> None:
        route = ROUTE.replace("HTTPRoute", kind)
        with pytest.raises(Refused) as refusal:
            apply(after(EMPTY, SERVICE % "orders"), route % "stock")
        assert "backendRef stock.shop:8080: no such Service" in refusal.value.details[0]
        content = after(EMPTY, SERVICE % "orders", SERVICE % "stock", route % "stock")
        with pytest.raises(Refused, match="is still needed"):
            deletion(content, snapshot(content), (), "Service/shop/stock")

    def test_a_route_that_does_nothing_beside_another_is_warned_of(self) -> None:
        content = after(EMPTY, SERVICE % "orders", ROUTE.replace("HTTPRoute", "GRPCRoute") % "orders")
        (warning,) = apply(content, ROUTE % "orders").warnings
        assert "on the same port only GRPCRoutes count, and this HTTPRoute does nothing" in warning

    def test_comments_and_order_of_fields_are_no_change(self) -> None:
        first = after(EMPTY, SERVICE % "orders")
        text = "# a comment\nkind: Service\nspec:\n  ports:\n  - port: 8080\napiVersion: v1\n"
        assert apply(first, text + "metadata:\n  namespace: shop\n  name: orders\n").changed == ()

    def test_every_problem_is_told_with_its_place(self) -> None:
        with pytest.raises(Refused) as refusal:
            parse(
                (SERVICE % "orders").replace("port:", "prt:") + "---\nkind: Servce\nmetadata: {name: a}\n", "mesh.yaml"
            )
        assert refusal.value.kind is Kind.INVALID
        assert refusal.value.message == f"{len(refusal.value.details)} problems in mesh.yaml"
        assert refusal.value.hint == "nothing was changed; correct this and apply again"
        assert all(line.startswith("mesh.yaml:") for line in refusal.value.details)

    def test_a_dangling_backend_is_refused(self) -> None:
        with pytest.raises(Refused) as refusal:
            apply(after(EMPTY, SERVICE % "orders"), ROUTE % "orders-v9")
        (line,) = refusal.value.details
        assert line.startswith("mesh.yaml:8:")
        assert "backendRef orders-v9.shop:8080: no such Service (did you mean 'orders.shop'?" in line

    def test_a_backend_port_that_is_not_declared_is_refused(self) -> None:
        with pytest.raises(Refused) as refusal:
            apply(after(EMPTY, SERVICE % "orders"), (ROUTE % "orders").replace("8080", "9999"))
        assert "the Service has no such port (declared: 8080)" in refusal.value.details[0]

    def test_a_backend_may_come_in_the_same_text_or_from_workloads(self) -> None:
        assert apply(EMPTY, SERVICE % "orders" + "---" + ROUTE % "orders").changed
        assert apply(with_workload(), ROUTE % "orders-v1").changed

    def test_a_backend_that_was_served_once_is_known(self) -> None:
        gone = with_workload().edited(Edit(registered={"shop/orders-1": None}))
        assert apply(gone, ROUTE % "orders").changed

    def test_a_policy_for_a_service_to_come_is_a_warning(self) -> None:
        made = apply(EMPTY, POLICY % ("orders", "orders"))
        assert made.changed == ("TrafficPolicy/shop/orders",)
        assert any("no such Service" in line for line in made.warnings)

    def test_warnings_about_other_resources_are_not_repeated(self) -> None:
        first = after(EMPTY, POLICY % ("orders", "orders"))
        assert apply(first, SERVICE % "stock").warnings == ()

    def test_a_change_that_would_break_a_stored_route_is_refused_naming_it(self) -> None:
        stored = after(EMPTY, SERVICE % "orders" + "---" + ROUTE % "orders")
        with pytest.raises(Refused) as refusal:
            apply(stored, (SERVICE % "orders").replace("8080", "9090"))
        (line,) = refusal.value.details
        assert line.startswith("HTTPRoute/shop/orders: spec.rules[0].backendRefs[0]")

    def test_a_stored_route_that_dangles_already_stands_in_nobodys_way(self) -> None:
        stored = after(EMPTY, SERVICE % "orders" + "---" + ROUTE % "orders")
        dangling = stored.edited(Edit(user={"Service/shop/orders": None}))
        assert apply(dangling, SERVICE % "stock").changed == ("Service/shop/stock",)

    def test_another_trust_domain_is_refused(self) -> None:
        text = "kind: MeshPolicy\nmetadata: {name: mesh}\nspec: {trustDomain: other.example}\n"
        with pytest.raises(Refused) as refusal:
            apply(EMPTY, text)
        assert "mesh.yaml:3:" in refusal.value.details[0]
        assert "this control plane's trust domain is mesh.local; leave the field out" in refusal.value.details[0]
        assert apply(EMPTY, text.replace("other.example", "mesh.local")).changed

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n"])
    def test_a_text_without_documents_is_refused(self, text: str) -> None:
        with pytest.raises(Refused, match=r"mesh\.yaml"):
            parse(text, "mesh.yaml")

    def test_a_document_that_fits_into_no_frame_is_refused(self) -> None:
        text = (SERVICE % "orders").replace("namespace: shop", "namespace: shop, annotations: {a: %s}" % ("x" * 2**20))
        with pytest.raises(Refused):
            parse(text, "mesh.yaml")


class TestDelete:
    def gone(self, content: Content, kind: str, name: str, connected: Collection[str] = ()) -> Content:
        edit = deletion(content, snapshot(content), connected, full_name(kind, "shop", name))
        return content.edited(edit)

    def test_an_applied_resource(self) -> None:
        assert self.gone(after(EMPTY, SERVICE % "orders"), "services", "orders").user == {}

    def test_what_a_route_leads_to_is_still_needed(self) -> None:
        stored = after(EMPTY, SERVICE % "orders" + "---" + ROUTE % "orders")
        with pytest.raises(Refused, match="Service/shop/orders is still needed") as refusal:
            self.gone(stored, "Service", "orders")
        assert refusal.value.kind is Kind.CONFLICT
        assert refusal.value.details[0].startswith("HTTPRoute/shop/orders: spec.rules[0]")

    def test_a_registration_of_a_sidecar_that_is_away(self) -> None:
        assert self.gone(with_workload(), "Workload", "orders-1").registered == {}
        with pytest.raises(Refused, match="registered by a sidecar that is connected"):
            self.gone(with_workload(), "Workload", "orders-1", {"shop/orders-1"})

    def test_a_service_that_nobody_serves_any_more_with_its_versions(self) -> None:
        empty = with_workload().edited(Edit(registered={"shop/orders-1": None}))
        assert self.gone(empty, "Service", "orders").remembered == {}

    def test_a_service_with_workloads_is_made_by_them(self) -> None:
        with pytest.raises(Refused, match="is made from others") as refusal:
            self.gone(with_workload(), "Service", "orders")
        assert refusal.value.hint == "it is there as long as its workloads are; end those"
        with pytest.raises(Refused, match="is made from others"):
            self.gone(with_workload(), "Endpoints", "orders")

    def test_what_is_not_there(self) -> None:
        with pytest.raises(Refused, match="there is no Service/shop/order") as refusal:
            self.gone(after(EMPTY, SERVICE % "orders"), "Service", "order")
        assert refusal.value.kind is Kind.NOT_FOUND
        assert "did you mean 'Service/shop/orders'?" in refusal.value.hint


def test_every_resource_says_where_it_comes_from() -> None:
    content = after(with_workload(), POLICY % ("orders", "orders"))
    found = every(content, {"shop/orders-1": 3}, snapshot(content))
    assert {name: each.origin for name, each in found.items()} == {
        "Endpoints/shop/orders": "generated",
        "Endpoints/shop/orders-v1": "generated",
        "Service/shop/orders": "generated",
        "Service/shop/orders-v1": "generated",
        "TrafficPolicy/shop/orders": "user",
        "Workload/shop/orders-1": "registered",
    }
    assert found["Workload/shop/orders-1"].version == 3
    assert found["TrafficPolicy/shop/orders"].document["spec"]["retries"] == {"attempts": 1}


@pytest.mark.parametrize(
    ("kind", "full"),
    [
        ("service", "Service"),
        ("SERVICES", "Service"),
        ("httproutes", "HTTPRoute"),
        ("endpoints", "Endpoints"),
        ("trafficpolicies", "TrafficPolicy"),
        ("AuthorizationPolicy", "AuthorizationPolicy"),
        ("workload", "Workload"),
    ],
)
def test_kinds_in_any_case_and_plural(kind: str, full: str) -> None:
    assert full_name(kind, "shop", "a") == f"{full}/shop/a"


def test_an_unknown_kind_lists_those_that_are_known() -> None:
    with pytest.raises(Refused, match="kind 'pod' is not known") as refusal:
        full_name("pod", "shop", "a")
    assert refusal.value.hint.startswith("known: Service, HTTPRoute")


def test_contents_are_immutable() -> None:
    assert isinstance(after(EMPTY, SERVICE % "orders").user, MappingProxyType)
