"""Environment variables that override a bootstrap file: `SIDECAR_SECTION_KEY`.

Precedence: environment, then file, then default. A variable that is set and empty counts as not set. Lists are
separated by commas. Problems name the variable where a file's problems name file, line and column.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from sidecar.config.limits import SETTINGS
from sidecar.config.node import Node, Source
from sidecar.config.problems import Problem

_PREFIX = "SIDECAR_"
SCALARS = (
    *("node.service", "node.namespace", "node.version", "node.id", "node.account", "node.zone"),
    *("control_plane.address", "control_plane.join_file", "control_plane.cache", "control_plane.report_interval"),
    *("static", "identity.cert", "identity.key", "identity.bundle", "inbound.mtls", "inbound.app"),
    *("inbound.capture", "outbound.capture", "outbound.unknown", "admin.listen", "metrics.listen"),
    *("tracing.otlp", "tracing.sample"),
    *("access_log.path", "access_log.format", "access_log.when", "workers", "fast_path"),
    *SETTINGS,
)
LISTS = ("inbound.listen", "outbound.listen")


def variable_of(setting: str) -> str:
    """`limits.headTimeout` -> `SIDECAR_LIMITS_HEAD_TIMEOUT`."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", setting)
    return _PREFIX + snake.replace(".", "_").upper()


VARIABLES = {variable_of(setting): setting for setting in (*SCALARS, *LISTS)}


def override(root: Node, environment: Mapping[str, str]) -> None:
    """Put the variables' values into the tree of a bootstrap file."""
    problems = root.source.problems
    for variable in sorted(environment):
        if not variable.startswith(_PREFIX):
            continue
        source = Source(variable, problems, spoken=True)
        setting = VARIABLES.get(variable)
        if setting is None:
            near = get_close_matches(variable, VARIABLES, n=1, cutoff=0.85)
            if near:  # others are none of our business: container platforms set variables of their own
                message = f"is not a setting and was ignored (did you mean {near[0]}?)"
                problems.warn(Problem(variable, 0, 0, "environment", message))
        elif environment[variable]:
            _put(root, setting.split("."), _value(source, environment[variable], setting in LISTS))


def _value(source: Source, text: str, several: bool) -> Node:
    if not several:
        return Node(source, text)
    items: list[Node] = []
    node = Node(source, items)
    for index, part in enumerate(text.split(",")):
        item = Node(source, part.strip())
        item.key, item.parent = index, node
        items.append(item)
    return node


def _put(root: Node, keys: list[str], leaf: Node) -> None:
    """Set `leaf` at a path, making the sections on the way. A section that is no mapping keeps its own complaint."""
    node = root
    for key in keys[:-1]:
        if not isinstance(node.value, dict):
            return
        below = node.value.get(key)
        if below is None or below.value is None:
            below = Node(leaf.source, {})
            below.key, below.parent = key, node
            node.value[key] = below
        node = below
    if isinstance(node.value, dict):
        leaf.key, leaf.parent = keys[-1], node
        node.value[keys[-1]] = leaf
