"""Node's ws: installed once from the npm registry into pytest's cache, and its client as one of ours."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.interop.websocket.script import SUBPROTOCOL, Script
from tests.support import needs

VERSION = "8.18.3"  # pinned: a test run is about our sidecars, not about today's registry
INSTALL_S = 120.0
HERE = Path(__file__).parent


def install(config: pytest.Config) -> Path:
    """The folder with `node_modules/ws`. Skips, or under CI fails, when npm cannot get it."""
    assert config.cache is not None
    folder = config.cache.mkdir("node-ws")
    if not (folder / "node_modules/ws/package.json").exists():
        npm = needs.find("npm")
        assert npm is not None, needs.missing(["npm"])
        flags = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error")
        done = subprocess.run(
            [npm, "install", "--prefix", str(folder), *flags, f"ws@{VERSION}"],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if done.returncode != 0:
            needs.give_up(f"npm cannot install ws@{VERSION}: {done.stderr.strip()[-300:]}", ci=needs.under_ci())
    return folder


def run(folder: Path, port: int, steps: Script, timeout_s: float) -> list[str]:
    """Play the steps on a new connection; return the transcript."""
    node = needs.find("node")
    assert node is not None, needs.missing(["node"])
    done = subprocess.run(
        [node, str(HERE / "client.mjs"), str(folder), str(port), SUBPROTOCOL, json.dumps(steps)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [str(line) for line in json.loads(done.stdout)]
