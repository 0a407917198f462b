"""The bootstrap file, its defaults, its short forms, and the variables that override it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.bootstrap import read_bootstrap
from sidecar.config.environment import LISTS, SCALARS, VARIABLES, variable_of
from sidecar.config.problems import Problems
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import (
    AccessLogConfig,
    AdminConfig,
    Bootstrap,
    ControlPlaneConfig,
    HostPort,
    IdentityFiles,
    InboundConfig,
    InboundPort,
    LogWhen,
    MetricsConfig,
    MtlsMode,
    NodeInfo,
    OutboundConfig,
    ProcessLimits,
    TracingConfig,
    UnixPath,
    Upstream,
)
from sidecar.model.clusters import Protocol, ServiceKey

CONTRACT = """
node: {service: orders, namespace: shop, version: v1, id: orders-1, account: orders, zone: eu-1a, labels: {team: core}}
control_plane: {address: "127.0.0.1:15012", join_file: ./join.pem, cache: ./cache}   # join_file: root certificate + token, 0600
# or, without a control plane:
# static: ./mesh.d                                            # a folder of resources (below)
# identity: {cert: svid.pem, key: svid.key, bundle: roots.pem}
inbound:
  listen: ["0.0.0.0:15006"]
  mtls: strict                                                # strict | permissive | off
  ports: [{port: 8080, protocol: auto, app: "127.0.0.1:8080"}]   # short form `app: ADDR` = one port
outbound:
  listen: ["127.0.0.1:15001"]
  capture: false
  upstreams: [{service: stock.shop, port: 8080, listen: "127.0.0.1:9001"}]
admin: {listen: "127.0.0.1:15000"}
metrics: {listen: "0.0.0.0:15020"}
tracing: {otlp: "http://127.0.0.1:4318", sample: 0.01}
access_log: {path: "-", format: json, when: errors}           # never | errors | all
workers: 1
fast_path: true
"""  # noqa: E501 - as it stands in the contract
CENTRAL = "node: {service: orders, namespace: shop}\ncontrol_plane: {address: '127.0.0.1:15012', join_file: j.pem}\n"
STATIC = "node: {service: orders, namespace: shop}\nstatic: mesh.d\n"


def bootstrap(text: str, environment: Mapping[str, str] | None = None, file: str = "/etc/mesh/s.yaml") -> Bootstrap:
    problems = Problems()
    made, _ = read_bootstrap(text, file, environment or {}, problems)
    problems.raise_if_any()
    return made


def refused(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        bootstrap(text, environment, "s.yaml")
    return caught.value.problems


def test_the_contracts_file_means_what_it_says() -> None:
    assert bootstrap(CONTRACT) == Bootstrap(
        source="/etc/mesh/s.yaml",
        node=NodeInfo(
            service="orders",
            namespace="shop",
            version="v1",
            id="orders-1",
            account="orders",
            zone="eu-1a",
            labels={"team": "core"},
        ),
        control_plane=ControlPlaneConfig(
            address=HostPort("127.0.0.1", 15012), join_file=Path("/etc/mesh/join.pem"), cache=Path("/etc/mesh/cache")
        ),
        inbound=InboundConfig(
            listen=(HostPort("0.0.0.0", 15006),),
            mtls=MtlsMode.STRICT,
            ports=(InboundPort(port=8080, protocol=Protocol.AUTO, app=HostPort("127.0.0.1", 8080)),),
        ),
        outbound=OutboundConfig(
            listen=(HostPort("127.0.0.1", 15001),),
            upstreams=(Upstream(service=ServiceKey("shop", "stock"), port=8080, listen=HostPort("127.0.0.1", 9001)),),
        ),
        admin=AdminConfig(listen=HostPort("127.0.0.1", 15000)),
        metrics=MetricsConfig(listen=HostPort("0.0.0.0", 15020)),
        tracing=TracingConfig(collector=HostPort("127.0.0.1", 4318), path="/v1/traces", sample=0.01),
        access_log=AccessLogConfig(path="-", format="json", when=LogWhen.ERRORS),
    )


def test_what_is_left_out_has_the_models_defaults() -> None:
    made = bootstrap(STATIC)
    assert made == Bootstrap(
        source="/etc/mesh/s.yaml",
        node=NodeInfo(service="orders", namespace="shop", id="orders", account="orders"),
        static=Path("/etc/mesh/mesh.d"),
    )
    assert made.limits == ProcessLimits(
        connections=10_000, head_timeout_s=10.0, body_idle_s=30.0, drain_delay_s=5.0, drain_timeout_s=30.0
    )


def test_the_id_takes_the_version_in() -> None:
    made = bootstrap("node: {service: orders, version: v2}\nstatic: mesh.d\n")
    assert (made.node.id, made.node.namespace, made.node.key) == (
        "orders-v2",
        "default",
        ServiceKey("default", "orders"),
    )


def test_a_pure_caller_needs_no_node() -> None:
    assert bootstrap("static: mesh.d\n").node.service == "unknown"
    assert refused("static: mesh.d\ninbound: {app: '127.0.0.1:80', mtls: off}\n") == [
        "s.yaml:1:1: document: field 'node' is missing (who this sidecar is, such as node: {service: orders})"
    ]


def test_app_is_the_short_form_of_one_port() -> None:
    made = bootstrap(CENTRAL + "inbound: {app: '127.0.0.1:8080'}\n").inbound
    assert made == InboundConfig(ports=(InboundPort(port=8080, app=HostPort("127.0.0.1", 8080)),))
    other = bootstrap(CENTRAL + "inbound: {ports: [{port: 8080}]}\n").inbound
    assert other == made


@pytest.mark.parametrize("section", ["{}", "{app: '127.0.0.1:80', ports: [{port: 80}]}"])
def test_inbound_has_either_app_or_ports(section: str) -> None:
    assert "give exactly one of: ports (a list), app" in refused(CENTRAL + f"inbound: {section}\n")[0]


def test_paths_are_relative_to_the_file() -> None:
    text = """
node: {service: orders}
static: ../mesh.d
identity: {cert: /run/svid.pem, key: keys/svid.key, bundle: roots.pem}
access_log: {path: logs/access.json}
admin: {listen: "unix:admin.sock"}
"""
    made = bootstrap(text, file="conf/s.yaml")
    assert made.static == Path("conf/../mesh.d")
    assert made.identity == IdentityFiles(
        cert=Path("/run/svid.pem"), key=Path("conf/keys/svid.key"), bundle=Path("conf/roots.pem")
    )
    assert made.access_log.path == "conf/logs/access.json"
    assert made.admin.listen == UnixPath(Path("conf/admin.sock"))
    assert str(made.admin.listen) == "unix:conf/admin.sock"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.9.1:15000", "localhost:15000", "[::1]:15000"])
def test_admin_listens_on_this_machine(listen: str) -> None:
    made = bootstrap(STATIC + f"admin: {{listen: '{listen}'}}\n").admin.listen
    assert str(made) == listen


def test_admins_socket_path_has_the_kernels_length() -> None:
    assert "at most 107 bytes" in refused(STATIC + f"admin: {{listen: 'unix:/{'x' * 107}'}}\n")[0]


def test_one_address_needs_no_list_and_an_empty_list_switches_the_explicit_proxy_off() -> None:
    assert bootstrap(STATIC + "outbound: {listen: '127.0.0.1:0'}\n").outbound.listen == (HostPort("127.0.0.1", 0),)
    assert bootstrap(STATIC + "outbound: {listen: []}\n").outbound.listen == ()


def test_an_upstream_without_namespace_is_in_the_nodes_own() -> None:
    text = STATIC + "outbound: {upstreams: [{service: stock, port: 80, listen: '127.0.0.1:9001'}]}\n"
    assert bootstrap(text).outbound.upstreams[0].service == ServiceKey("shop", "stock")


def test_a_collector_may_have_its_own_path() -> None:
    made = bootstrap(STATIC + "tracing: {otlp: 'http://[::1]:4318/otlp/traces'}\n").tracing
    assert made == TracingConfig(collector=HostPort("::1", 4318), path="/otlp/traces")


@pytest.mark.parametrize(
    "url", ["collector:4318", "http://collector", "http://a:b@c:4318", "http://c:4318/?x", "http://[::1"]
)
def test_what_is_no_collector_is_refused(url: str) -> None:
    assert "is not a collector such as" in refused(STATIC + f"tracing: {{otlp: '{url}'}}\n")[0]


def test_off_needs_no_quotes_where_it_is_a_word() -> None:
    made = bootstrap(STATIC + "inbound: {app: '127.0.0.1:80', mtls: off}\n").inbound
    assert made is not None
    assert made.mtls is MtlsMode.OFF


def test_listeners_on_port_0_never_collide() -> None:
    text = STATIC + "outbound: {listen: ['127.0.0.1:0', '127.0.0.1:0']}\nadmin: {listen: '127.0.0.1:0'}\n"
    assert len(bootstrap(text).outbound.listen) == 2


def test_a_control_plane_without_join_file_is_doubtful() -> None:
    problems = Problems()
    read_bootstrap("node: {service: a}\ncontrol_plane: {address: 'a:1'}\n", "s.yaml", {}, problems)
    assert problems.lines() == []
    assert problems.warning_lines()[0].startswith("s.yaml:2:16: control_plane: neither join_file nor identity")


def test_variables_are_named_after_section_and_key() -> None:
    assert variable_of("limits.headTimeout") == "SIDECAR_LIMITS_HEAD_TIMEOUT"
    assert variable_of("control_plane.join_file") == "SIDECAR_CONTROL_PLANE_JOIN_FILE"
    assert len(VARIABLES) == len(SCALARS) + len(LISTS)


def test_the_environment_beats_the_file_which_beats_the_default() -> None:
    environment = {
        "SIDECAR_NODE_ID": "orders-7",
        "SIDECAR_NODE_VERSION": "2",
        "SIDECAR_CONTROL_PLANE_ADDRESS": "mesh.example:15012",
        "SIDECAR_OUTBOUND_LISTEN": "127.0.0.1:1, [::1]:2",
        "SIDECAR_TRACING_OTLP": "http://127.0.0.1:4318",
        "SIDECAR_LIMITS_DRAIN_DELAY": "0s",
        "SIDECAR_FAST_PATH": "false",
        "SIDECAR_WORKERS": "1",
        "SIDECAR_NODE_ZONE": "",
        "HOME": "/root",
    }
    made = bootstrap(CENTRAL.replace("shop}", "shop, zone: eu-1a}"), environment)
    assert (made.node.id, made.node.version, made.node.zone) == ("orders-7", "2", "eu-1a")
    assert made.control_plane is not None
    assert made.control_plane.address == HostPort("mesh.example", 15012)
    assert made.outbound.listen == (HostPort("127.0.0.1", 1), HostPort("::1", 2))
    assert made.tracing is not None
    assert made.limits.drain_delay_s == 0.0
    assert made.fast_path is False


def test_an_empty_file_can_be_filled_from_the_environment() -> None:
    made = bootstrap("", {"SIDECAR_NODE_SERVICE": "orders", "SIDECAR_STATIC": "/mesh.d"})
    assert (made.node.service, made.static) == ("orders", Path("/mesh.d"))


def test_a_wrong_variable_is_named_in_the_complaint() -> None:
    assert refused(STATIC, {"SIDECAR_LIMITS_CONNECTIONS": "many"}) == [
        "SIDECAR_LIMITS_CONNECTIONS: limits.connections: 'many' is not a whole number from 1 to 1000000"
    ]


def test_a_variable_does_not_hide_that_its_section_is_wrong() -> None:
    (line,) = refused(STATIC + "limits: 5\n", {"SIDECAR_LIMITS_CONNECTIONS": "7"})
    assert line.startswith("s.yaml:3:9: limits: 5 is not a mapping of fields (connections, headTimeout, ")


sections = st.sampled_from(
    [*("node", "control_plane", "static", "identity", "inbound", "outbound", "admin", "metrics", "tracing"), "limits"]
)
values = st.sampled_from(
    [
        *("5", "text", "off", "[]", "{}", "", "[{}]", "{listen: 5}", "{listen: ['a:1']}", "{app: 'a:1'}", "{path: 5}"),
        *("{service: a}", "{address: 'a:1'}", "{upstreams: [{}]}", "{ports: [{port: 1}]}", "{otlp: 'http://a:1'}"),
    ]
)


@given(st.dictionaries(sections, values), st.dictionaries(st.sampled_from(sorted(VARIABLES)), st.text(max_size=12)))
def test_any_sections_and_variables_are_a_bootstrap_or_lines(
    content: dict[str, str], environment: dict[str, str]
) -> None:
    text = "".join(f"{name}: {value}\n" for name, value in content.items())
    problems = Problems()
    read_bootstrap(text, "s.yaml", environment, problems)
    assert all("\n" not in line for line in problems.lines())
