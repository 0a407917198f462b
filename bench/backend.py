"""The app behind every proxy: nginx that answers from memory, on six loopback addresses with one port.

80 bytes of JSON unless asked for more, eight response headers, one worker, no log. Shares its core with the load.
Bodies that are too long for nginx.conf come from a file that nginx keeps open.
"""

from pathlib import Path

from bench import mesh, tools
from bench.ports import accepts, free_port
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
            {_answer(body_bytes, folder)}
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


def _answer(body_bytes: int, folder: Path) -> str:
    if body_bytes <= _IN_CONFIGURATION_BYTES:
        return f"return 200 '{body(body_bytes)}';"
    # The headers that only files have are taken away, so that there are eight again.
    return (
        f"root {folder}; rewrite ^ /body.json break; etag off; max_ranges 0; add_header last-modified ''; "
        "if_modified_since off; open_file_cache max=4 inactive=1h; open_file_cache_valid 1h; sendfile on;"
    )


_IN_CONFIGURATION_BYTES = 4000  # nginx takes no longer word
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Backend:
    """nginx, running on `core`. `port` is the one of all endpoints."""

    def __init__(self, folder: Path, core: int, body_bytes: int) -> None:
        nginx = tools.path("nginx")
        (folder / "body.json").write_text(body(body_bytes))
        for left in reversed(range(_TRIES)):
            self.port = free_port("127.0.1.1")
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
        return all(accepts(address, self.port) for address in addresses) or None

    @property
    def pids(self) -> list[int]:
        """nginx's processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it."""
        self._process.stop()
