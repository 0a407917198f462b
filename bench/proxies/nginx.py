"""nginx as the proxy, one worker, with the routes, tries and times of mesh.py."""

from bench import mesh, tools
from bench.ports import accepts, free_port
from bench.process import Process
from bench.proxies.site import Site

_KEPT = 512  # idle connections to each version; more than any row opens


def configuration(site: Site, port: int) -> str:
    """nginx.conf; `port` is where it listens.

    A location for each prefix, which nginx finds in a tree. It has passive ejection (`max_fails`) but no limit of
    requests and no retry budget.
    """
    policy, folder = mesh.POLICY, site.folder
    header = mesh.CANARY_HEADER[0].replace("-", "_")
    paths = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy"))
    unused = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in ("fastcgi", "uwsgi", "scgi"))
    return f"""daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 10000; }}
http {{
    map $status $failed {{ ~^5 1; default 0; }}
    access_log {folder}/access.log combined if=$failed;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_connect_timeout {policy.timeouts.connect_s:g}s;
    proxy_read_timeout {policy.timeouts.request_s or 0:g}s;
    proxy_next_upstream error timeout http_502 http_503 http_504;
    proxy_next_upstream_tries {policy.retries.attempts + 1};
    split_clients "$request_id" $split {{ 10% v2; * v1; }}
    map $http_{header} $tier {{ {mesh.CANARY_HEADER[1]} v2; default $split; }}
{paths}{unused}{"".join(_upstream(name, addresses, site.port) for name, addresses in mesh.ENDPOINTS.items())}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ return 404; }}
{"".join(_location(number) for number in range(mesh.areas(site.scenario.routes)))}
    }}
}}
"""


def _upstream(name: str, addresses: tuple[str, ...], port: int) -> str:
    ejection = mesh.POLICY.ejection
    servers = "".join(
        f" server {address}:{port} max_fails={ejection.consecutive_failures} fail_timeout={ejection.base_s:g}s;"
        for address in addresses
    )
    kept = f"keepalive {_KEPT}; keepalive_requests 1000000000; keepalive_timeout 3600s;"
    return f"    upstream {name} {{ least_conn;{servers} {kept} }}\n"


def _location(number: int) -> str:
    target = "$tier" if number < mesh.CANARY_ROUTES else "$split"
    return f"        location {mesh.area(number)}/ {{ proxy_pass http://{target}; }}\n"


class Nginx:
    """A running nginx in front of the backend."""

    name = "nginx"

    def __init__(self, site: Site) -> None:
        folder, port = site.folder, free_port()
        (folder / "nginx.conf").write_text(configuration(site, port))
        argv = [tools.path("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
        self._process = Process(self.name, argv, core=site.core, log=folder / "nginx.log")
        self.address = f"127.0.0.1:{port}"
        self._process.wait_for("listening", lambda: accepts("127.0.0.1", port) or None)

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it."""
        self._process.stop()
