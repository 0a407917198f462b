"""Capture rules in a kernel, in namespaces of their own: who is redirected, who is not, and what is left at the end."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sidecar.app.data_plane import bind_all
from sidecar.config.capture_rules import REMOVE, CapturePlan, ruleset
from sidecar.model.bootstrap import OUTBOUND_CAPTURE_LISTEN, Bootstrap, HostPort, NodeInfo, OutboundConfig
from sidecar.model.capture import EVERY_PORT, InboundCapture, OutboundCapture, PortRange, Selection
from sidecar.transport.capture import is_own, original_destination
from sidecar.transport.own_dial import is_own_dial
from tests.support.needs import find
from tests.support.netns import Namespace, pair

pytestmark = pytest.mark.needs("ip", "nft")

PROXY, APP, OTHER = 65_532, 1000, 1001
OUTBOUND = CapturePlan(outbound=OutboundCapture(proxy_uid=PROXY))
INBOUND = CapturePlan(inbound=InboundCapture(only_ports=(PortRange(8080, 8080),)))
BOTH = CapturePlan(outbound=OUTBOUND.outbound, inbound=INBOUND.inbound)
SIDECAR = str(Path(sys.executable).parent / "sidecar")
BLINK_S = 0.3  # how long a connection that must not come is waited for


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    """The machine with the sidecar, and another one."""
    with pair() as ends:
        yield ends


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class Sidecar:
    """Listeners where a sidecar has them, on a machine with rules."""

    def __init__(self, stack: ExitStack, machine: Namespace, plan: CapturePlan) -> None:
        self.machine = machine
        apply(machine, ruleset(plan))
        self.outbound = {4: machine.listen("127.0.0.1", 15001), 6: machine.listen("::1", 15001)}
        self.inbound = {4: machine.listen("0.0.0.0", 15006), 6: machine.listen("::", 15006, ipv6_only=True)}
        for listener in (*self.outbound.values(), *self.inbound.values()):
            stack.enter_context(listener)


def apply(machine: Namespace, rules: str) -> None:
    nft = find("nft")
    assert nft is not None
    subprocess.run(machine.command(nft, "-f", "-"), input=rules, text=True, check=True, timeout=20)


def destination(listener: socket.socket) -> HostPort | None:
    """Where the next connection that arrives at `listener` wanted to go."""
    made, _ = listener.accept()
    with made:
        return original_destination(made)


def nobody_comes(listener: socket.socket) -> bool:
    listener.settimeout(BLINK_S)
    try:
        made, _ = listener.accept()
    except TimeoutError:
        return True
    made.close()
    return False


def address(machine: Namespace, family: int) -> str:
    return machine.ipv4 if family == 4 else machine.ipv6


@pytest.mark.parametrize("family", [4, 6])
def test_what_the_app_dials_arrives_at_the_sidecar_with_its_destination(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    here, there = machines
    sidecar = Sidecar(stack, here, OUTBOUND)
    with here.connect(address(there, family), 8080, uid=APP):
        assert destination(sidecar.outbound[family]) == HostPort(address(there, family), 8080)


@pytest.mark.parametrize("family", [4, 6])
def test_what_the_sidecar_dials_reaches_the_other_machine(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    here, there = machines
    sidecar = Sidecar(stack, here, OUTBOUND)
    upstream = stack.enter_context(there.listen(address(there, family), 8080))
    with here.connect(address(there, family), 8080, uid=PROXY):
        assert destination(upstream) is None
    assert nobody_comes(sidecar.outbound[family])


@pytest.mark.parametrize("family", [4, 6])
def test_only_the_named_users_are_captured(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    here, there = machines
    sidecar = Sidecar(stack, here, CapturePlan(outbound=OutboundCapture(only=Selection(uids=(APP,)))))
    upstream = stack.enter_context(there.listen(address(there, family), 8080))
    with here.connect(address(there, family), 8080, uid=OTHER):
        assert destination(upstream) is None
    with here.connect(address(there, family), 8080, uid=APP):
        assert destination(sidecar.outbound[family]) == HostPort(address(there, family), 8080)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "skip",
    [Selection(ports=(PortRange(8000, 8100),)), Selection(cidrs=("10.77.0.0/24", "fd77::/64")), Selection(uids=(APP,))],
    ids=["port", "network", "user"],
)
def test_what_is_skipped_goes_its_own_way(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int, skip: Selection
) -> None:
    here, there = machines
    Sidecar(stack, here, CapturePlan(outbound=OutboundCapture(proxy_uid=PROXY, skip=skip)))
    upstream = stack.enter_context(there.listen(address(there, family), 8080))
    with here.connect(address(there, family), 8080, uid=APP):
        assert destination(upstream) is None


@pytest.mark.parametrize("family", [4, 6])
def test_only_the_named_ports_and_networks_are_captured(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    here, there = machines
    only = Selection(ports=(PortRange(8080, 8080),), cidrs=("10.77.0.2/32", "fd77::2/128"))
    sidecar = Sidecar(stack, here, CapturePlan(outbound=OutboundCapture(proxy_uid=PROXY, only=only)))
    upstream = stack.enter_context(there.listen(address(there, family), 5432))
    with here.connect(address(there, family), 5432, uid=APP):
        assert destination(upstream) is None
    with here.connect(address(there, family), 8080, uid=APP):
        assert destination(sidecar.outbound[family]) == HostPort(address(there, family), 8080)


def test_without_ipv6_only_ipv4_is_captured(machines: tuple[Namespace, Namespace], stack: ExitStack) -> None:
    here, there = machines
    rules = ruleset(OUTBOUND).replace("\t\tmeta nfproto ipv6 meta l4proto tcp redirect to :15001\n", "")
    sidecar = Sidecar(stack, here, OUTBOUND)
    apply(here, rules)
    upstream = stack.enter_context(there.listen(there.ipv6, 8080))
    with here.connect(there.ipv6, 8080, uid=APP):
        assert destination(upstream) is None
    with here.connect(there.ipv4, 8080, uid=APP):
        assert destination(sidecar.outbound[4]) == HostPort(there.ipv4, 8080)


def test_udp_is_left_alone(machines: tuple[Namespace, Namespace], stack: ExitStack) -> None:
    here, there = machines
    Sidecar(stack, here, BOTH)
    with there.entered():
        server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind((there.ipv4, 53))
    server.settimeout(5.0)
    with here.entered():
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.sendto(b"orders.shop?", (there.ipv4, 53))
    assert server.recvfrom(100)[0] == b"orders.shop?"


@pytest.mark.parametrize("plan", [OUTBOUND, INBOUND, BOTH], ids=["outbound", "inbound", "both"])
@pytest.mark.parametrize("family", [4, 6])
def test_loopback_and_the_machines_own_address_are_not_captured_for_the_app(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int, plan: CapturePlan
) -> None:
    here, _ = machines
    Sidecar(stack, here, plan)
    loopback = "127.0.0.1" if family == 4 else "::1"
    for host in (loopback, address(here, family)):
        with here.listen(host, 8080) as app, here.connect(host, 8080, uid=APP):
            assert destination(app) is None


@pytest.mark.parametrize("family", [4, 6])
def test_the_explicit_proxy_is_no_captured_connection(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    """The kernel answers for it with the listener's own address: not a loop, nothing to follow."""
    here, _ = machines
    sidecar = Sidecar(stack, here, BOTH)
    with here.connect("127.0.0.1" if family == 4 else "::1", 15001, uid=APP):
        assert destination(sidecar.outbound[family]) is None


@pytest.mark.parametrize("family", [4, 6])
def test_callers_of_a_declared_port_arrive_at_the_sidecar(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    here, there = machines
    sidecar = Sidecar(stack, here, INBOUND)
    with there.connect(address(here, family), 8080):
        assert destination(sidecar.inbound[family]) == HostPort(address(here, family), 8080)
    with there.connect(address(here, family), 15006):  # a peer's sidecar, which means the sidecar
        assert destination(sidecar.inbound[family]) is None
    with closing(here.listen(address(here, family), 22)) as other, there.connect(address(here, family), 22):
        assert destination(other) is None


def test_every_inbound_port_but_the_skipped_ones(machines: tuple[Namespace, Namespace], stack: ExitStack) -> None:
    here, there = machines
    every = InboundCapture(only_ports=EVERY_PORT, skip_ports=(PortRange(22, 22),))
    sidecar = Sidecar(stack, here, CapturePlan(inbound=every))
    for port in (22, 15020):  # skipped, and the sidecar's metrics
        with here.listen(here.ipv4, port) as other, there.connect(here.ipv4, port):
            assert destination(other) is None
    with there.connect(here.ipv4, 9999):
        assert destination(sidecar.inbound[4]) == HostPort(here.ipv4, 9999)


def test_what_the_machine_only_forwards_is_not_for_its_app(
    machines: tuple[Namespace, Namespace], stack: ExitStack
) -> None:
    here, there = machines
    sidecar = Sidecar(stack, here, INBOUND)
    assert there.run(str(find("ip")), "route", "add", "10.88.0.0/24", "via", here.ipv4).returncode == 0
    with pytest.raises(OSError):  # noqa: PT011 - no route or no answer, which depends on the kernel
        there.connect("10.88.0.9", 8080, timeout_s=BLINK_S)
    assert nobody_comes(sidecar.inbound[4])


def test_a_dual_stack_listener_learns_ipv4_destinations(machines: tuple[Namespace, Namespace]) -> None:
    here, there = machines
    apply(here, ruleset(INBOUND))
    with here.listen("::", 15006) as both, there.connect(here.ipv4, 8080):
        assert destination(both) == HostPort(here.ipv4, 8080)


@pytest.mark.parametrize("family", [4, 6])
def test_a_sidecar_that_calls_its_own_service_enters_through_its_inbound_side(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    here, _ = machines
    sidecar = Sidecar(stack, here, BOTH)
    with here.connect(address(here, family), 8080, uid=PROXY):
        assert destination(sidecar.inbound[family]) == HostPort(address(here, family), 8080)
    with closing(here.listen("127.0.0.1", 8080)) as app, here.connect("127.0.0.1", 8080, uid=PROXY):
        assert destination(app) is None


def test_our_own_listeners_are_known_by_any_address_of_the_machine(machines: tuple[Namespace, Namespace]) -> None:
    here, there = machines
    listeners = [HostPort("0.0.0.0", 15006), HostPort("::", 15006), HostPort("127.0.0.1", 15001)]
    with here.entered():
        assert is_own(HostPort(here.ipv4, 15006), listeners)
        assert is_own(HostPort(here.ipv6, 15006), listeners)
        assert not is_own(HostPort(there.ipv4, 15006), listeners)
        assert not is_own(HostPort(there.ipv6, 15006), listeners)
        assert not is_own(HostPort(here.ipv4, 8080), listeners)


@pytest.mark.parametrize("family", [4, 6])
def test_rules_for_the_wrong_user_are_found_out_at_the_first_connection(
    machines: tuple[Namespace, Namespace], stack: ExitStack, family: int
) -> None:
    """This process is the sidecar here: what it dials comes back to it, and is known as its own; the app's is not."""
    here, there = machines
    sidecar = Sidecar(stack, here, OUTBOUND)
    meant = HostPort(address(there, family), 8080)
    for uid, own in ((0, True), (APP, False)):
        with here.connect(*meant, uid=uid), sidecar.outbound[family].accept()[0] as accepted, here.entered():
            assert original_destination(accepted) == meant
            assert is_own_dial(accepted, meant) is own


@pytest.mark.parametrize(("ipv6", "sockets"), [(True, 2), (False, 1)])
def test_a_machine_without_ipv6_is_listened_to_on_ipv4(
    machines: tuple[Namespace, Namespace], stack: ExitStack, ipv6: bool, sockets: int
) -> None:
    here, _ = machines
    if not ipv6:
        off = "for one in all lo; do echo 1 > /proc/sys/net/ipv6/conf/$one/disable_ipv6; done"
        assert here.run("sh", "-c", off).returncode == 0
    outbound = OutboundConfig(listen=OUTBOUND_CAPTURE_LISTEN, capture=OutboundCapture())
    with here.entered():
        bound = bind_all(Bootstrap(node=NodeInfo(service="orders", id="orders", account="orders"), outbound=outbound))
    for one in bound:
        stack.enter_context(one.sock)
    assert len(bound) == sockets


def talks(client: socket.socket, server: socket.socket) -> bool:
    client.sendall(b"still?")
    return server.recv(10) == b"still?"


def test_connections_that_were_up_before_stay_as_they_are(
    machines: tuple[Namespace, Namespace], stack: ExitStack
) -> None:
    """Both directions of capture, connections of both directions, in a kernel that tracked nothing before."""
    here, there = machines
    out, app = stack.enter_context(there.listen(there.ipv4, 8080)), stack.enter_context(here.listen(here.ipv4, 8080))
    client = stack.enter_context(here.connect(there.ipv4, 8080, uid=APP))
    server = stack.enter_context(out.accept()[0])
    caller = stack.enter_context(there.connect(here.ipv4, 8080))
    served = stack.enter_context(app.accept()[0])
    for peer in (client, server, caller, served):
        peer.settimeout(5.0)
    apply(here, ruleset(BOTH))
    for one, other in ((client, server), (server, client), (caller, served), (served, caller)) * 2:
        assert talks(one, other)


def test_captured_connections_outlive_new_rules(machines: tuple[Namespace, Namespace], stack: ExitStack) -> None:
    here, there = machines
    sidecar = Sidecar(stack, here, OUTBOUND)
    with here.connect(there.ipv4, 8080, uid=APP) as client, sidecar.outbound[4].accept()[0] as server:
        server.settimeout(5.0)
        apply(here, ruleset(BOTH))
        assert talks(client, server)
        assert talks(server, client)


FOREIGN = "table ip theirs {\n\tchain output {\n\t\ttype nat hook output priority -100; policy accept;\n\t}\n}\n"


def test_the_command_sets_rules_replaces_them_and_leaves_nothing(
    machines: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    here, _ = machines
    apply(here, FOREIGN)
    before = here.ruleset()
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        "node: {service: orders}\nstatic: mesh.d\n"
        "inbound: {mtls: off, capture: true, ports: [{port: 8080}]}\noutbound: {capture: {proxyUid: 65532}}\n"
    )

    first = here.run(SIDECAR, "capture", "apply", "-c", str(file))
    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr.startswith("outgoing and incoming TCP connections are captured from now on")
    once = here.ruleset()
    assert before in once
    assert here.run(SIDECAR, "capture", "apply", "-c", str(file)).returncode == 0
    assert here.ruleset() == once

    printed = here.run(SIDECAR, "capture", "print", "-c", str(file)).stdout
    apply(here, printed)
    assert here.ruleset() == once

    assert here.run(SIDECAR, "capture", "apply", "-c", str(file), "--no-inbound").returncode == 0
    assert here.ruleset() != once

    for _ in range(2):  # there is nothing left to remove the second time, which is fine
        assert here.run(SIDECAR, "capture", "remove").returncode == 0
        assert here.ruleset() == before


def test_a_refused_change_changes_nothing_and_says_why(machines: tuple[Namespace, Namespace]) -> None:
    here, _ = machines
    apply(here, ruleset(OUTBOUND))
    before = here.ruleset()
    weak = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    for verb in (("apply", "--proxy-uid", "7"), ("remove",)):
        done = here.run(*weak, SIDECAR, "capture", *verb)
        assert done.returncode == 1
        assert done.stderr.startswith("the kernel lets only a network administrator change rules: run as root")
        assert done.stderr.count("\n") == 1
    assert here.ruleset() == before


def test_half_a_ruleset_is_never_there(machines: tuple[Namespace, Namespace]) -> None:
    here, _ = machines
    apply(here, ruleset(OUTBOUND))
    before = here.ruleset()
    nft = find("nft")
    assert nft is not None
    broken = REMOVE + "table inet sidecar_mesh {\n\tchain outbound {\n\t\tjump nowhere\n\t}\n}\n"
    done = subprocess.run(here.command(nft, "-f", "-"), input=broken, text=True, capture_output=True, timeout=20)
    assert done.returncode != 0
    assert here.ruleset() == before


def test_the_kernel_keeps_the_rules_as_written(machines: tuple[Namespace, Namespace]) -> None:
    """One table, two chains, both families: read back from the kernel as data."""
    here, _ = machines
    apply(here, ruleset(BOTH))
    nft = find("nft")
    assert nft is not None
    found = json.loads(here.run(nft, "-j", "list", "ruleset").stdout)["nftables"]
    chains = {item["chain"]["name"]: item["chain"] for item in found if "chain" in item}
    assert {(one["family"], one["table"], one["hook"], one["prio"]) for one in chains.values()} == {
        ("inet", "sidecar_mesh", "output", -110),
        ("inet", "sidecar_mesh", "prerouting", -110),
    }
