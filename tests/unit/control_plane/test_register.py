"""Who may be what, and what is registered for it."""

import dataclasses

import pytest

from control_plane import register
from control_plane.compile import MAX_PORTS, Content, Edit
from control_plane.register import (
    HelloRefused,
    check_identity,
    check_owner,
    readiness,
    registration,
    removal,
    workload_of,
)
from control_plane.resources import application, parse
from sidecar.control.messages import Hello, Node, PortInfo, WorkloadInfo
from sidecar.model.clusters import Protocol, ServiceKey, ServicePort, Workload

NODE = Node(service="orders", namespace="shop", version="v1", id="orders-1", account="orders", zone="eu-1a")
INFO = WorkloadInfo(inbound=15006, ports=(PortInfo(port=8080, protocol="http"),), ready=True)


def hello(node: Node = NODE, info: WorkloadInfo | None = INFO) -> Hello:
    return Hello(node=node, version="0.1.0", instance="i", workload=info)


def made(**changes: object) -> Workload:
    found = workload_of(hello(), "10.0.0.7")
    assert found is not None
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]  # fields by name, for tables


def with_registered(*workloads: Workload) -> Content:
    content = Content()
    for each in workloads:
        content = content.edited(registration(content, each))
    return content


class TestIdentity:
    def test_the_certificates_account_and_a_granted_service(self) -> None:
        check_identity(NODE, "shop", "orders", {"orders", "stock"})

    @pytest.mark.parametrize(("namespace", "account"), [("bank", "orders"), ("shop", "stock")])
    def test_another_account_than_the_certificates_is_refused(self, namespace: str, account: str) -> None:
        with pytest.raises(HelloRefused, match=f"the certificate is for account {account} in namespace {namespace}"):
            check_identity(NODE, namespace, account, {"orders"})

    def test_a_service_that_no_token_granted_is_refused(self) -> None:
        with pytest.raises(HelloRefused, match=r"account orders may not serve orders \(allowed: stock\)") as refusal:
            check_identity(NODE, "shop", "orders", {"stock"})
        assert (
            refusal.value.hint == "join anew: meshctl token create --service orders --namespace shop --account orders"
        )
        assert refusal.value.final

    def test_an_id_that_another_account_uses_is_taken(self) -> None:
        check_owner(NODE, "")
        check_owner(NODE, "orders")
        with pytest.raises(
            HelloRefused, match="node id orders-1 in namespace shop is in use by account thief"
        ) as refusal:
            check_owner(NODE, "thief")
        assert not refusal.value.final


class TestWorkload:
    def test_what_is_registered(self) -> None:
        assert workload_of(hello(), "10.0.0.7") == Workload(
            namespace="shop",
            name="orders-1",
            service="orders",
            address="10.0.0.7",
            ports=(ServicePort(8080, Protocol.HTTP),),
            inbound=15006,
            account="orders",
            zone="eu-1a",
            version="v1",
        )

    def test_an_address_of_its_own_counts(self) -> None:
        info = dataclasses.replace(INFO, address="2001:db8::5")
        found = workload_of(hello(info=info), "10.0.0.7")
        assert found is not None
        assert found.address == "2001:db8::5"

    def test_a_pure_caller_registers_nothing(self) -> None:
        assert workload_of(hello(info=None), "10.0.0.7") is None

    @pytest.mark.parametrize(
        ("node", "info", "message"),
        [
            ({"id": "Orders_1"}, {}, "'Orders_1' is not a name"),
            ({"id": "caf\u00e9"}, {}, "is not a name"),
            ({"version": "V 1"}, {}, "metadata.labels.version"),
            ({"zone": "a/b"}, {}, "spec.zone"),
            ({"labels": {"a": "b c"}}, {}, "metadata.labels"),
            ({}, {"ports": ()}, "spec.ports"),
            ({}, {"ports": (PortInfo(port=80, protocol="quic"),)}, "protocol 'quic' is not known .known: auto, http"),
            ({}, {"ports": (PortInfo(port=80), PortInfo(port=80))}, "declared twice"),
            ({}, {"address": "not an address"}, "spec.address"),
        ],
    )
    def test_what_no_users_workload_could_be_either(
        self, node: dict[str, object], info: dict[str, object], message: str
    ) -> None:
        asked = hello(dataclasses.replace(NODE, **node), dataclasses.replace(INFO, **info))  # type: ignore[arg-type]
        with pytest.raises(HelloRefused, match=message):
            workload_of(asked, "10.0.0.7")

    def test_names_of_a_pure_caller_are_checked_too(self) -> None:
        with pytest.raises(HelloRefused, match="'A B' is not a name"):
            workload_of(hello(dataclasses.replace(NODE, id="A B"), None), "10.0.0.7")


class TestRegistration:
    def test_the_same_again_is_no_edit(self) -> None:
        content = with_registered(made())
        assert registration(content, made()) == Edit()

    def test_a_change_is_one(self) -> None:
        edit = registration(with_registered(made()), made(address="10.0.0.9"))
        assert list(edit.registered) == ["shop/orders-1"]

    def test_a_node_may_move_to_another_service(self) -> None:
        content = with_registered(made())
        moved = content.edited(registration(content, made(service="stock")))
        assert [each.service for each in moved.registered.values()] == ["stock"]

    def test_the_mesh_and_each_service_have_room_for_so_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = with_registered(made(), made(name="orders-2"))
        monkeypatch.setattr(register, "MAX_OF_SERVICE", 2)
        with pytest.raises(HelloRefused, match="orders has 2 workloads"):
            registration(content, made(name="orders-3"))
        assert registration(content, made(name="stock-1", service="stock"))
        assert registration(content, made(address="10.0.0.9"))  # those that are there may change
        monkeypatch.setattr(register, "MAX_WORKLOADS", 2)
        with pytest.raises(HelloRefused, match="2 workloads are registered") as refusal:
            registration(content, made(name="stock-1", service="stock"))
        assert not refusal.value.final

    def test_versions_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(register, "MAX_VERSIONS", 1)
        with pytest.raises(HelloRefused, match="orders has 1 versions"):
            registration(with_registered(made()), made(name="orders-2", version="v2"))


WORKLOAD = """
kind: Workload
metadata: {name: legacy-1, namespace: shop, labels: {version: v1}}
spec: {service: orders-eu, address: 10.0.0.5, ports: [{port: 8080}]}
"""


def applied() -> Content:
    return Content().edited(application(Content(), parse(WORKLOAD, "w.yaml"), "mesh.local", "w.yaml").edit)


class TestOthersTraffic:
    """What a workload whose certificate is good, and whose intentions are not, must not get."""

    @pytest.mark.parametrize("content", [with_registered(made(name="eu-1", service="orders-eu")), applied()])
    def test_a_version_whose_name_is_a_version_of_another_service_is_refused(self, content: Content) -> None:
        with pytest.raises(
            HelloRefused, match="version eu-v1 of orders would be orders-eu-v1, which is taken"
        ) as refusal:
            registration(content, made(version="eu-v1"))
        assert refusal.value.hint == "name the version otherwise"

    @pytest.mark.parametrize(
        "content", [with_registered(made(name="eu-1", service="orders-eu", version="")), applied()]
    )
    def test_nor_one_whose_name_is_a_service(self, content: Content) -> None:
        with pytest.raises(HelloRefused, match="version eu of orders would be orders-eu, which is taken"):
            registration(content, made(version="eu"))
        emptied = content.edited(removal(content, content.registered))
        with pytest.raises(HelloRefused, match="orders-eu, which is taken"):  # also while it has no workload
            registration(emptied, made(version="eu"))

    def test_a_version_of_its_own_service_is_everybodys(self) -> None:
        content = with_registered(made(), made(name="orders-2"))
        assert registration(content, made(address="10.0.0.9", version="v2"))

    def test_a_node_does_not_take_the_place_of_an_applied_workload_of_another_service(self) -> None:
        with pytest.raises(HelloRefused, match=r"node id legacy-1 .* applied Workload of service orders-eu") as refusal:
            registration(applied(), made(name="legacy-1"))
        assert not refusal.value.final
        own = made(name="legacy-1", service="orders-eu", account="orders-eu")
        assert registration(applied(), own)

    def test_versions_that_a_node_leaves_behind_are_forgotten(self) -> None:
        content = with_registered(made())
        for number in range(2, 6):
            content = content.edited(registration(content, made(version=f"v{number}")))
        assert set(content.remembered) == {ServiceKey("shop", "orders"), ServiceKey("shop", "orders-v5")}

    def test_ports_that_a_node_leaves_behind_are_bounded(self) -> None:
        content = Content()
        for first in range(1, 1_001, 50):
            ports = tuple(ServicePort(number, Protocol.HTTP) for number in range(first, first + 50))
            content = content.edited(registration(content, made(ports=ports)))
        kept = content.remembered[ServiceKey("shop", "orders")].ports
        assert len(kept) <= MAX_PORTS
        assert {port.port for port in kept} >= set(range(951, 1_001))


def test_removal_forgets_versions_that_nobody_serves_or_names() -> None:
    content = with_registered(made(), made(name="orders-2", version="v2"))
    edit = removal(content, ["shop/orders-2", "shop/unknown"])
    assert edit == Edit(registered={"shop/orders-2": None}, remembered={ServiceKey("shop", "orders-v2"): None})
    assert removal(content, ["shop/unknown"]) == Edit()


def test_readiness_changes_only_what_is_different() -> None:
    content = with_registered(made())
    assert readiness(content, "shop/orders-1", ready=True) == Edit()
    assert readiness(content, "shop/unknown", ready=True) == Edit()
    edit = readiness(content, "shop/orders-1", ready=False)
    assert edit == Edit(registered={"shop/orders-1": made(ready=False)})
