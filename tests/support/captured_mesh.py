"""Two machines with a sidecar each, and programs that know of none: a client on one, servers on the other.

Machines are network namespaces. The client's outgoing connections and the servers' incoming ones are redirected by the
rules of `sidecar capture apply`; between the sidecars is strict mutual TLS. Sidecars run as a user of their own, as
their rules ask; clients are another, servers a third.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import pki
from tests.support.needs import find
from tests.support.netns import Namespace, pair
from tests.support.processes import BIN

SIDECAR, CLIENT, SERVER = 1337, 1000, 65534  # PostgreSQL wants a user that has a name: nobody
START_S = 15.0
STOP_S = 5.0
HTTP, GREETER, REDIS, POSTGRES, UNKNOWN = 8080, 2525, 6379, 5432, 9999
DECLARED = ((HTTP, "http"), (GREETER, "auto"), (REDIS, "tcp"), (POSTGRES, "tcp"))
GREETING = b"220 ready\r\n"

SERVICE_FILE = """
node: {service: data, namespace: shop}
static: ./mesh.d
identity: {cert: ./cert.pem, key: ./key.pem, bundle: ./bundle.pem}
inbound: {mtls: strict, capture: true, ports: [PORTS]}
outbound: {listen: []}
access_log: {when: all}
"""
CLIENT_FILE = f"""
node: {{service: frontend, namespace: shop}}
static: ./mesh.d
identity: {{cert: ./cert.pem, key: ./key.pem, bundle: ./bundle.pem}}
outbound: {{capture: {{proxyUid: {SIDECAR}}}, unknown: refuse}}
access_log: {{when: all}}
"""
WORKLOAD = """
kind: Workload
metadata: {name: data-1, namespace: shop}
spec: {service: data, address: "ADDRESS", inbound: 15006, ports: [PORTS]}
"""


class Program:
    """A process that was started and said that it is ready; its lines, of both outputs, are kept."""

    def __init__(self, words: list[str], ready: str, times: int = 1) -> None:
        """`ready`: what a line contains when it may be used; as many lines as `times`."""
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._awaited = (ready, times)
        self._ended_first = False
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_S) or self._ended_first:
            self.stop()
            raise AssertionError(f"{words} did not start: {self.lines}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        ready, left = self._awaited
        with self._process.stdout as pipe:
            for line in pipe:
                self.lines.append(line.rstrip())
                left -= ready in line
                if left == 0:
                    self._ready.set()
        self._ended_first = left > 0
        self._ready.set()

    def stop(self) -> None:
        """End it in order; PostgreSQL does not wait for its clients at this signal."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)
        self._reader.join(STOP_S)

    def kill(self) -> None:
        """End it at once: a sidecar drains for seconds else."""
        self._process.kill()
        self.stop()


@dataclass
class Machines:
    """The world. `address` is the servers', of one family; `before` what each machine's rules were without ours."""

    here: Namespace
    there: Namespace
    address: str
    sidecars: dict[str, Program] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)  # that reached the HTTP server

    def client(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a client program to its end."""
        return self.here.run(str(find(words[0])), *words[1:], uid=CLIENT)

    def dial(self, port: int, uid: int = CLIENT) -> socket.socket:
        """A client's connection."""
        return self.here.connect(self.address, port, uid=uid)

    def capture(self, name: str, *words: str) -> None:
        """Run `sidecar capture` on a machine."""
        machine = self.here if name == "here" else self.there
        done = machine.run(str(BIN / "sidecar"), "capture", *words)
        assert done.returncode == 0, done.stderr

    def apply(self) -> None:
        """Set the rules on both."""
        for name in ("here", "there"):
            self.capture(name, "apply", "-c", str(self.files[name]))


@contextmanager
def machines(family: int, cluster: Path) -> Iterator[Machines]:
    """Everything up and captured. `cluster`: from `database`."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder("mesh-machines-", SIDECAR))
        here, there = stack.enter_context(pair())
        made = Machines(here, there, there.ipv4 if family == 4 else there.ipv6)
        theirs = folder / "theirs.nft"  # rules of somebody else, which must be left alone
        theirs.write_text("table inet theirs {\n chain passing {\n  type filter hook forward priority 0;\n }\n}\n")
        for name, machine in (("here", here), ("there", there)):
            done = machine.run(str(find("nft")), "-f", str(theirs))
            assert done.returncode == 0, done.stderr
            made.before[name] = machine.ruleset()
        _serve(stack, made, cluster)
        service = SERVICE_FILE.replace("PORTS", _ports(", app: '127.0.0.1:{0}'"))
        _start(stack, made, "there", folder, service, "data")
        _start(stack, made, "here", folder, CLIENT_FILE, "frontend")
        made.apply()
        yield made


def _ports(more: str = "") -> str:
    entries = (f"{{port: {port}, protocol: {protocol}{more.format(port)}}}" for port, protocol in DECLARED)
    return ", ".join(entries)


def _start(stack: ExitStack, made: Machines, name: str, folder: Path, text: str, account: str) -> None:
    home = folder / name
    (home / "mesh.d").mkdir(parents=True)
    workload = WORKLOAD.replace("ADDRESS", made.address).replace("PORTS", _ports())
    (home / "mesh.d/workload.yaml").write_text(workload)
    identity = pki.identity(account)
    for file, content in (("cert", identity.chain_pem), ("key", identity.key_pem), ("bundle", identity.bundle_pem)):
        (home / f"{file}.pem").write_bytes(content)
        (home / f"{file}.pem").chmod(0o600)
        shutil.chown(home / f"{file}.pem", SIDECAR)
    made.files[name] = home / "sidecar.yaml"
    made.files[name].write_text(text)
    machine = made.here if name == "here" else made.there
    # Another user than root, who may still read Python where root has installed it.
    user = ("setpriv", f"--reuid={SIDECAR}", f"--regid={SIDECAR}", "--clear-groups")
    may = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    words = machine.command(*user, *may, str(BIN / "sidecar"), "run", "-c", str(made.files[name]))
    side = "outbound" if name == "here" else "inbound"
    sidecar = made.sidecars[name] = Program(words, f"listening {side}", times=2)  # both families
    stack.callback(sidecar.kill)


def _serve(stack: ExitStack, made: Machines, cluster: Path) -> None:
    """Start the servers; they listen on loopback only, where nobody but their sidecar gets."""
    there = made.there
    redis = [str(find("redis-server")), "--port", str(REDIS), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
    initdb = find("initdb")
    assert initdb is not None
    postgres = [str(Path(initdb).resolve().parent / "postgres"), "-D", str(cluster), "-p", str(POSTGRES)]
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB")
    for setting in settings:
        postgres += ["-c", setting]
    stack.callback(Program(there.command(*redis, uid=SERVER), "Ready to accept connections").stop)
    stack.callback(Program(there.command(*postgres, uid=SERVER), "ready to accept connections").stop)
    for port, serve in ((GREETER, _greet), (HTTP, _answer)):
        listener = there.listen("127.0.0.1", port)
        listener.settimeout(None)
        worker = threading.Thread(target=_accept, args=(listener, serve, made), daemon=True)
        worker.start()
        stack.callback(listener.close)
        stack.callback(worker.join, STOP_S)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)  # first of the three: it ends `accept`


def _accept(listener: socket.socket, serve: "Callable[[socket.socket, Machines], None]", made: Machines) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(START_S)
            try:
                serve(connection, made)
            except OSError:
                pass


def _greet(connection: socket.socket, made: Machines) -> None:
    del made
    connection.sendall(GREETING)
    while data := connection.recv(4096):
        connection.sendall(data)


def _answer(connection: socket.socket, made: Machines) -> None:
    while data := connection.recv(4096):
        made.requests.append(data)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


@contextmanager
def database() -> Iterator[Path]:
    """A fresh PostgreSQL cluster of user SERVER that takes anybody for anybody; removed afterwards."""
    with _folder("mesh-postgres-", SERVER) as folder:
        home = folder / "data"
        user = ("setpriv", f"--reuid={SERVER}", f"--regid={SERVER}", "--clear-groups")
        words = [
            *user,
            str(find("initdb")),
            "-D",
            str(home),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--no-locale",
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr
        yield home


@contextmanager
def _folder(prefix: str, uid: int) -> Iterator[Path]:
    """A folder of a user's own. Not pytest's: nobody but us may go there."""
    made = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        shutil.chown(made, uid)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
