"""What becomes of a captured connection: to a service, to the app, on as it was meant, or nowhere."""

from sidecar.model.bootstrap import HostPort
from sidecar.model.capture import UnknownDestination
from sidecar.model.clusters import ClusterKey, Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.proxy import captured
from sidecar.proxy.captured import PassThrough, Refusal, Refuse, ToApp, ToService
from sidecar.routing.addresses import AddressIndex

ORDERS = ServiceKey("shop", "orders")
VIP = HostPort("10.96.0.7", 80)
ELSEWHERE = HostPort("192.0.2.1", 5432)
RESOURCE = Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(80),), (VIP.host,)))
INDEX = AddressIndex(Snapshot(complete=True).changed([RESOURCE], version=1))


def test_an_address_of_a_service_is_a_call_to_the_service() -> None:
    for unknown in UnknownDestination:
        assert captured.outbound(VIP, INDEX, unknown, own=False) == ToService(ClusterKey(ORDERS, 80))


def test_any_other_address_is_passed_on_as_it_was_meant() -> None:
    assert captured.outbound(ELSEWHERE, INDEX, UnknownDestination.PASS, own=False) == PassThrough(ELSEWHERE)


def test_or_refused_with_the_setting_that_did_it() -> None:
    verdict = captured.outbound(ELSEWHERE, INDEX, UnknownDestination.REFUSE, own=False)
    assert isinstance(verdict, Refuse)
    assert verdict.reason is Refusal.UNKNOWN_DESTINATION
    assert verdict.sentence.startswith("192.0.2.1:5432 is no address of a known service, and outbound.unknown is ref")


def test_a_loop_is_refused_whatever_the_address_means() -> None:
    for verdict in (
        captured.self_captured(ELSEWHERE),
        captured.outbound(VIP, INDEX, UnknownDestination.PASS, own=True),
        captured.inbound(HostPort("10.0.0.5", 8080), {8080}, own=True),
    ):
        assert isinstance(verdict, Refuse)
        assert verdict.reason is Refusal.LOOP


def test_the_port_that_was_dialled_names_the_apps_port() -> None:
    assert captured.inbound(HostPort("fd00::5", 8080), {80, 8080}, own=False) == ToApp(8080)


def test_a_port_that_nobody_declared_is_refused() -> None:
    verdict = captured.inbound(HostPort("10.0.0.5", 22), {8080, 80}, own=False)
    assert isinstance(verdict, Refuse)
    assert verdict.reason is Refusal.UNDECLARED_PORT
    assert "port 22 is captured and not declared in inbound.ports (declared: 80, 8080)" in verdict.sentence
