"""curl: the only client here that shows everything, interim answers and trailers too."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.interop.clients.common import CLIENT_TIMEOUT_S, FOLLOW_UP, body_facts
from tests.interop.record import Ask, FieldsSeen, Record
from tests.support import needs

_VERSIONS = {"h1": "--http1.1", "h2c": "--http2-prior-knowledge"}


def run(version: str, port: int, ask: Ask) -> Record:
    """Send `ask` and the request after it."""
    curl = needs.find("curl")
    assert curl is not None, needs.missing(["curl"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common: list[object] = ["-sS", _VERSIONS[version], "-m", f"{CLIENT_TIMEOUT_S:g}", "-w", "%{json}\n"]
        url = f"http://127.0.0.1:{port}"
        argv = [curl, *common, *_options(ask), "-D", folder / "heads", "-o", folder / "body", url + ask.path]
        if version == "h1":  # curl 7.88 breaks the second request of a connection with prior knowledge
            argv += ["--next", *common, "-o", folder / "body2", url + FOLLOW_UP.path]
        with (ask.body or Path(os.devnull)).open("rb") as stdin:
            done = subprocess.run(list(map(str, argv)), stdin=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        then = [json.loads(line) for line in done.stdout.splitlines()[1:]]
        for followed in then:
            assert followed["response_code"] == 200, f"the request after it got {followed['response_code']}"
        kept = ask.method != "HEAD" and (folder / "body").exists()  # with -I curl writes the head there
        body = (folder / "body").read_bytes() if kept else b""
        reused = then[0]["num_connects"] == 0 if then else None
        heads = (folder / "heads").read_bytes().decode("latin-1")
    return Record(**_heads(heads), **body_facts(ask, body), reused=reused)


def _options(ask: Ask) -> list[object]:
    # curl waits for 100 Continue with large bodies unless told not to.
    fields = [*ask.fields, ("Expect", "100-continue" if ask.expect else "")]
    options: list[object] = [part for name, value in fields for part in ("-H", f"{name}: {value}")]
    if ask.method == "HEAD":
        return [*options, "-I"]
    if ask.body is not None:
        # A file by its name has a length, standard input has none.
        upload = ["--data-binary", f"@{ask.body}"] if ask.counted else ["-T", "-"]
        return [*options, "-X", ask.method, *upload]
    return options


def _heads(text: str) -> dict[str, Any]:
    """Read what `-D` writes: each interim head, the final one, and trailers after it."""
    interims: list[tuple[int, FieldsSeen]] = []
    blocks = text.split("\r\n\r\n")
    for number, block in enumerate(blocks):
        first, _, rest = block.partition("\r\n")
        version, status = first.split(" ")[:2]
        fields = _fields(rest)
        if int(status) >= 200:
            return {
                "version": version.removeprefix("HTTP/"),
                "status": int(status),
                "fields": fields,
                "trailers": _fields("\r\n".join(blocks[number + 1 :])),
                "interims": tuple(interims),
            }
        interims.append((int(status), fields))
    raise AssertionError(f"no final head in {text!r}")


def _fields(text: str) -> FieldsSeen:
    pairs = (line.partition(":") for line in text.split("\r\n") if line)
    return tuple((name, value.strip()) for name, _, value in pairs)
