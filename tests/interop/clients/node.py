"""node:http and node:http2, by client.mjs."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.interop.clients.common import CLIENT_TIMEOUT_S
from tests.interop.record import Ask, FieldsSeen, Record
from tests.support import needs

_SCRIPT = Path(__file__).with_name("client.mjs")


def run(version: str, port: int, ask: Ask) -> Record:
    """Send `ask` and the request after it."""
    node = needs.find("node")
    assert node is not None, needs.missing(["node"])
    done = subprocess.run(
        [node, str(_SCRIPT), version, str(port), json.dumps(ask.as_json())],
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    for name in ("fields", "trailers"):
        told[name] = _fields(told[name])
    told["interims"] = tuple((status, _fields(fields)) for status, fields in told["interims"])
    return Record(**told)


def _fields(pairs: list[list[str]]) -> FieldsSeen:
    return tuple((name, value) for name, value in pairs)
