"""Records what real programs send: `python -m tests.recorded.record` writes tests/data/heads afresh.

Clients ask service.mjs, or the services of the interop tests, through a relay that keeps the bytes; nginx, HAProxy and
Envoy are clients, too, of the Node service behind them. Needs what those tests need, and chromium, java and openssl.
Names and secrets in the files are made up; what a program says of itself (its version, its platform) stays.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo.process import free_ports
from tests.interop import cases
from tests.interop.children import start
from tests.interop.clients import RUN
from tests.interop.upstreams.farm import H1, H2, SPEAKS, Farm
from tests.recorded import corpus, cut
from tests.recorded.clients import web
from tests.recorded.tee import Connection, FirstBytes, Tee
from tests.support import needs

HERE = Path(__file__).parent
CLIENT_S = 30.0  # of one program, Chromium's start included
FILE_MAX_BYTES = 4096  # what is larger is body
FILES_MAX = {**dict.fromkeys(corpus.KINDS, 60), corpus.H2_CLIENTS: 8, corpus.HELLOS: 3}  # of one program
_CHANGES = re.compile(rb"(?:127\.0\.0\.1|localhost):[0-9]+|date: [^\r]*|x-request-id: [^\r]*", re.IGNORECASE)
BODY = b"a few hundred bytes of body\n" * 10
# Features of the interop matrix whose messages are small.
FEATURES = ("get", "query", "post", "chunked", "continue", "trailers", "head", "204", "304", "range", "103", "close")
CALLS = ("unary", "upload", "talk", "fail")
CURL = """-I | -X OPTIONS | -X DELETE | -X PURGE | -d a=1 | -d @- | --data-urlencode "q=a b&c"
-F a=1 -F "f=@-;filename=a"
-T - | -u a:b | -b "a=1; b=2" | -e http://example.com/ | -A own/1.0 | --compressed | -r 0-3 | --http1.0 | -H "Accept;"
-H "Accept:" | -H "X-Own: a" -H "X-Own: b" | -L | -z "1 Jan 2024" | -H "Expect: 100-continue" -d text
-H "Transfer-Encoding: chunked" -d text | --json {} | --oauth2-bearer abc | -H "Connection: close" | --path-as-is
-H "TE: trailers" | --http2 | -H "Host: a.example:8080" | -X PATCH -d a --url-query q=1 | --tr-encoding | -x PROXY
-p -x PROXY | -G -d a=1"""


class Recorder:
    """Writes files; messages that differ in an address or a date only are the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[tuple[str, bytes]] = set()
        self._numbers: Counter[tuple[str, str]] = Counter()
        for kind in corpus.KINDS:
            shutil.rmtree(folder / kind, ignore_errors=True)
            (folder / kind).mkdir(parents=True)

    def http1(self, client: str, server: str, connections: Sequence[Connection]) -> None:
        """What went over connections of HTTP/1.1."""
        for connection in connections:
            requests = cut.requests(bytes(connection.client))
            methods = [request.split(b" ", 1)[0].decode() for request in requests]
            answers = cut.responses(bytes(connection.server), methods)
            for request, method in zip(requests, methods, strict=True):
                self._write(corpus.REQUESTS, client, request, method)
            for answer, method in zip(answers, methods, strict=False):
                self._write(corpus.RESPONSES, server, answer, method)

    def http2(self, client: str, server: str, connections: Sequence[Connection]) -> None:
        """Connections of HTTP/2, whole."""
        for connection in connections:
            name = f"{client}-{server}"
            small = len(connection.server) <= FILE_MAX_BYTES
            if small and self._write(corpus.H2_CLIENTS, name, bytes(connection.client)):
                number = self._numbers[corpus.H2_CLIENTS, name]
                (self._folder / corpus.H2_SERVERS / f"{name}.{number:03}").write_bytes(connection.server)

    def hello(self, client: str, connections: Sequence[Connection]) -> None:
        """First bytes over TLS."""
        for connection in connections:
            self._write(corpus.HELLOS, client, bytes(connection.client))

    def _write(self, kind: str, program: str, data: bytes, method: str = "") -> bool:
        program = program.replace(".", "-")
        key = (program + kind, _CHANGES.sub(b"", data))
        if not 0 < len(data) <= FILE_MAX_BYTES or key in self._known or self._numbers[kind, program] == FILES_MAX[kind]:
            return False
        self._known.add(key)
        self._numbers[kind, program] += 1
        name = f"{program}.{self._numbers[kind, program]:03}" + (f".{method}" if method else "")
        (self._folder / kind / name).write_bytes(data)
        return True


def main() -> int:
    """Record everything; print what there is."""
    recorder = Recorder(corpus.FOLDER)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _service(folder) as tee:
            _web_clients(recorder, tee, folder)
        _interop(recorder, folder)
        _hellos(recorder, folder)
    for kind in corpus.KINDS:
        programs = Counter(one.program for one in corpus.recorded(kind))
        print(f"{kind}: {programs.total()}:", ", ".join(f"{who} {count}" for who, count in sorted(programs.items())))
    return 0


@contextmanager
def _service(folder: Path) -> Iterator[Tee]:
    [port] = free_ports(1)
    child = start("service", [_tool("node"), HERE / "service.mjs", port], folder)
    tee = Tee(port)
    try:
        child.until_listening(port)
        yield tee
    finally:
        tee.close()
        child.stop()


def _web_clients(recorder: Recorder, tee: Tee, folder: Path) -> None:
    base = f"http://127.0.0.1:{tee.port}"
    for options in filter(None, CURL.replace("\n", "|").split("|")):
        shell = options.replace("PROXY", f"127.0.0.1:{tee.port}")
        path = "/a/../json" if "--path-as-is" in options else "/redirect" if "-L" in options else "/json"
        _run(["sh", "-c", f"echo text | curl -s -o /dev/null -m 3 {shell} {base}{path}"], folder)
    recorder.http1("curl", "service-node", tee.taken())
    for library in web.LIBRARIES:
        _run([sys.executable, "-m", "tests.recorded.clients.web", library, base], folder)
        recorder.http1(library, "service-node", tee.taken())
    for how in ("http", "fetch"):
        _run([_tool("node"), HERE / "clients" / "web.mjs", how, base], folder)
        recorder.http1(f"node-{how}", "service-node", tee.taken())
    for how in ("HttpClient", "URLConnection"):
        _run(["java", HERE / "clients" / "Web.java", how, base], folder)
        recorder.http1(f"java-{how}", "service-node", tee.taken())
    browser = start("chromium", [*_chromium(folder), "--remote-debugging-port=0", f"{base}/page"], folder)
    try:
        recorder.http1("chromium", "service-node", tee.taken(until=b"GET /last "))
    finally:
        browser.stop()


def _interop(recorder: Recorder, folder: Path) -> None:
    farm_folder = folder / "farm"
    farm_folder.mkdir()
    bodies = folder / "bodies"
    bodies.mkdir()
    for name in (cases.SMALL_UPLOAD, cases.BIG_UPLOAD):
        (bodies / name).write_bytes(BODY)
    farm = Farm(farm_folder)
    try:
        for name in ("node", "grpcio"):
            farm.need(name)
        # From now on whoever is configured with Node's or grpcio's port goes through a relay.
        behind = {(name, version): Tee(farm.ports[name, version]) for name, version in (("node", H1), ("grpcio", H2))}
        farm.ports |= {key: tee.port for key, tee in behind.items()}
        for upstream, versions in SPEAKS.items():
            farm.need(upstream)
            for version in versions:
                tee = behind.get((upstream, version)) or Tee(farm.ports[upstream, version])
                for client, spoken in cases.CLIENT_SPEAKS.items():
                    everything = upstream in ("node", "grpcio") or client in ("curl", "node-http2")
                    if version in spoken and everything:
                        _ask_all(client, upstream, version, tee.port, bodies)
                    write = recorder.http1 if version == H1 else recorder.http2
                    write(client, upstream, tee.taken())
                for key, other in behind.items():
                    if other is not tee:
                        (recorder.http1 if key[1] == H1 else recorder.http2)(upstream, key[0], other.taken())
    finally:
        farm.stop()


def _ask_all(client: str, upstream: str, version: str, port: int, bodies: Path) -> None:
    for feature in CALLS if client == "grpcio" else FEATURES:
        if not cases.why_not((client, f"{version}-{version}", upstream, feature)):
            try:
                RUN[client](version, port, cases.ask(client, upstream, feature, bodies))
            except Exception as exc:  # what was sent until then was sent by a real program
                print(f"{client}, {upstream}, {feature}: {exc!r}"[:200], file=sys.stderr)


def _hellos(recorder: Recorder, folder: Path) -> None:
    tee = FirstBytes()
    base = f"https://localhost:{tee.port}"
    script = f"import ssl, urllib.request; urllib.request.urlopen('{base}', context=ssl._create_unverified_context())"
    grpc = (
        f"import grpc; c = grpc.secure_channel('localhost:{tee.port}', grpc.ssl_channel_credentials());"
        "grpc.channel_ready_future(c).result(2)"
    )
    fetch = f"fetch('{base}').catch(() => 0)"
    session = f"require('http2').connect('{base}').on('error', () => process.exit())"
    commands: tuple[tuple[str, Sequence[object]], ...] = (
        *((f"curl{option}", ["curl", "-s", option, base]) for option in ("--tlsv1.3", "--http2", "--no-alpn")),
        *((name, [_tool("node"), "-e", code]) for name, code in (("node-fetch", fetch), ("node-http2", session))),
        *((name, [sys.executable, "-c", code]) for name, code in (("python", script), ("grpcio", grpc))),
        ("openssl", ["openssl", "s_client", "-connect", f"127.0.0.1:{tee.port}"]),
        (
            "openssl-1-2",
            ["openssl", "s_client", "-tls1_2", "-servername", "a.example", "-connect", f"localhost:{tee.port}"],
        ),
        ("java", ["java", HERE / "clients" / "Web.java", "HttpClient", base]),
        ("chromium", [*_chromium(folder), "--dump-dom", base]),
    )
    for client, argv in commands:
        _run(argv, folder)
        recorder.hello(client, tee.taken())
    tee.close()


def _chromium(folder: Path) -> list[object]:
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    return [_tool("chromium"), *quiet, "--disable-component-update", f"--user-data-dir={folder / 'chromium'}"]


def _run(argv: Sequence[object], folder: Path) -> None:
    """Run a client; what it thinks of the answers is its own affair."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "HOME": str(folder)}
    try:
        done = subprocess.run(
            [str(part) for part in argv], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=CLIENT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{Path(str(argv[0])).name}: not through in {CLIENT_S:g}s", file=sys.stderr)
        return
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        print(f"{Path(str(argv[0])).name}: status {done.returncode} {said}", file=sys.stderr)


def _tool(name: str) -> str:
    found = needs.find(name)
    assert found is not None, needs.missing([name])
    return found


if __name__ == "__main__":
    sys.exit(main())
