"""The app behind every proxy: nginx that answers from memory, on six loopback addresses with one port.

80 bytes of JSON unless asked for more, eight response headers, one worker, no log. Shares its core with the load.
"""

import socket
from pathlib import Path

from bench import mesh, tools
from bench.process import BenchError, Process

_TRIES = 5  # a port that was free a moment ago may be taken
_RESPONSE_HEADERS = 8  # Server, Date, Content-Type, Content-Length, Connection, and the three below


def body(size: int) -> str:
    """JSON of exactly `size` bytes, at least 40."""
    start, end = '{"id":4711,"state":"paid","note":"', '"}'
    return start + "x" * (size - len(start) - len(end)) + end


def configuration(port: int, body_bytes: int, folder: Path) -> str:
    """nginx.conf. The header x-version says which version answered."""
    servers = "".join(
        f"""
    server {{
        {"".join(f"listen {address}:{port} backlog=1024; " for address in addresses)}
        location / {{
            default_type application/json;
            add_header x-version {version};
            add_header cache-control no-store;
            add_header vary accept-encoding;
            return 200 '{body(body_bytes)}';
        }}
    }}"""
        for version, addresses in mesh.ENDPOINTS.items()
    )
    paths = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
    return f"""daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
{paths}{servers}
}}
"""


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Backend:
    """nginx, running on `core`. `port` is the one of all endpoints."""

    def __init__(self, folder: Path, core: int, body_bytes: int) -> None:
        nginx = tools.path("nginx")
        for left in reversed(range(_TRIES)):
            self.port = _free_port()
            config = folder / "nginx.conf"
            config.write_text(configuration(self.port, body_bytes, folder))
            argv = [nginx, "-p", folder, "-c", config, "-e", "stderr"]
            self._process = Process("nginx", argv, core=core, log=folder / "nginx.log")
            try:
                self._process.wait_for("listening", self._answers)
            except BenchError:
                self._process.stop()
                if not left or "in use" not in self._process.output():
                    raise
            else:
                return

    def _answers(self) -> bool | None:
        addresses = [address for version in mesh.VERSIONS for address in mesh.ENDPOINTS[version]]
        try:
            for address in addresses:
                socket.create_connection((address, self.port), timeout=1).close()
        except OSError:
            return None
        return True

    @property
    def pids(self) -> list[int]:
        """nginx's processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it."""
        self._process.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.1.1", 0))
        port: int = probe.getsockname()[1]
    return port
