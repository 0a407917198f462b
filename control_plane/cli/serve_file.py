"""The small file of `control-plane serve -c FILE`: text in, values or every problem at once out. Pure.

    data: ./mesh-data                      # store, trust domain and API token; relative to the folder of this file
    trust_domain: mesh.local
    api:
      listen: "127.0.0.1:15010"
      hosts: [mesh.internal]               # names by which the API is reached, beside loopback names and addresses
      open_metrics: false                  # true: /metrics needs no token
    streams:
      listen: "127.0.0.1:15012"            # what sidecars connect to
      certificate_life: 24h

Every field may be left out. Flags of the command win over the file.
"""

from dataclasses import dataclass

from certs.names import SpiffeIdError, check_trust_domain
from sidecar.config.grammar import parse_host_port
from sidecar.config.node import Node, Source
from sidecar.config.problems import Problems
from sidecar.config.yaml_text import read_yaml

SHORTEST_LIFE_S = 300.0  # sidecars renew at half of it, and clocks differ
LONGEST_LIFE_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeFile:
    """What the file says; the defaults are what holds without one."""

    data: str = "mesh-data"
    trust_domain: str = "mesh.local"
    api: str = "127.0.0.1:15010"
    hosts: tuple[str, ...] = ()
    open_metrics: bool = False
    streams: str = "127.0.0.1:15012"
    certificate_life_s: float = 86_400.0


def parse_serve_file(text: str, file: str) -> ServeFile:
    """The settings in `text`. Raises ConfigError with every problem."""
    problems = Problems()
    documents = read_yaml(text, Source(file, problems))
    made = ServeFile()
    if len(documents) > 1:
        documents[1].complain("is a second document; the file has one")
    if documents:
        made = _read(documents[0])
    problems.raise_if_any()
    return made


def _read(node: Node) -> ServeFile:
    default = ServeFile()
    top = node.fields("data", "trust_domain", "api", "streams")
    empty = Node(node.source, {})
    api = top.maybe("api", lambda found: found, empty).fields("listen", "hosts", "open_metrics")
    streams = top.maybe("streams", lambda found: found, empty).fields("listen", "certificate_life")
    return ServeFile(
        data=top.maybe("data", Node.text, default.data),
        trust_domain=top.maybe("trust_domain", _trust_domain, default.trust_domain),
        api=api.maybe("listen", _address, default.api),
        hosts=api.maybe("hosts", _hosts, default.hosts),
        open_metrics=api.maybe("open_metrics", Node.boolean, default.open_metrics),
        streams=streams.maybe("listen", _address, default.streams),
        certificate_life_s=streams.maybe("certificate_life", _life, default.certificate_life_s),
    )


def _address(node: Node) -> str:
    return str(node.address(0))


def checked_address(text: str) -> str:
    """`text` as an address to listen on. Raises ValueError with the sentence that users read."""
    return str(parse_host_port(text, 0))


def checked_trust_domain(text: str) -> str:
    """`text` as a trust domain. Raises ValueError with the sentence that users read."""
    try:
        check_trust_domain(text)
    except SpiffeIdError as exc:
        raise ValueError(str(exc)) from exc
    return text


def _trust_domain(node: Node) -> str:
    return node.parsed(checked_trust_domain, "mesh.local", 255)


def _hosts(node: Node) -> tuple[str, ...]:
    return tuple(item.text(253).lower() for item in node.items())


def _life(node: Node) -> float:
    seconds = node.seconds(SHORTEST_LIFE_S)
    if seconds > LONGEST_LIFE_S:
        node.complain(f"{node.spelled or node.value} is too long; at most 720h are allowed")
    return seconds
