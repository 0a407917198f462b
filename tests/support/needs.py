"""System tools that some tests need: `@pytest.mark.needs("promtool")`.

On a machine without the tool the test is skipped, with the line that would make it run. Under CI=true it fails
instead: a skip there would be a check that silently stopped checking.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

# Tool -> the Debian package that brings it.
PACKAGES = {
    "apt-get": "apt",
    "chromium": "chromium",
    "curl": "curl",
    "h2load": "nghttp2-client",
    "haproxy": "haproxy",
    "initdb": "postgresql",
    "ip": "iproute2",
    "kubectl": "kubernetes-client",
    "nft": "nftables",
    "nghttpd": "nghttp2-server",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "promtool": "prometheus",
    "psql": "postgresql-client",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "systemd-analyze": "systemd",
    "wrk": "wrk",
}
# Not on everybody's PATH: ip and nft live there, and PostgreSQL's server, by version.
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin")))


def find(tool: str) -> str | None:
    """Path of the tool, or None."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which(tool, path=os.pathsep.join((*folders, *_SYSTEM_FOLDERS)))


def missing(tools: Iterable[str]) -> str:
    """One line that says what is not there and how to get it; "" when nothing is missing."""
    absent = [tool for tool in tools if find(tool) is None]
    if not absent:
        return ""
    return f"needs {', '.join(absent)}: apt-get install {' '.join(PACKAGES.get(tool, tool) for tool in absent)}"


def under_ci() -> bool:
    """True where a skip is not good enough."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def enforce(item: pytest.Item, *, ci: bool) -> None:
    """Skip the test, or under CI fail it, when one of its tools is missing."""
    tools = [str(tool) for marker in item.iter_markers("needs") for tool in marker.args]
    line = missing(tools)
    if line:
        give_up(line, ci=ci)


def give_up(line: str, *, ci: bool) -> NoReturn:
    """Skip, or under CI fail, with a line that says what is not there."""
    if ci:
        pytest.fail(line, pytrace=False)
    pytest.skip(line)
