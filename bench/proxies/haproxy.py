"""HAProxy, one thread, with the routes, tries, limits and times of mesh.py."""

from bench import mesh, tools
from bench.ports import accepts, free_port
from bench.process import Process
from bench.proxies.site import Site


def configuration(site: Site, port: int) -> str:
    """haproxy.cfg; `port` is where it listens.

    Paths are looked up by prefix in a map, which is a tree; the split is drawn for each request. Of outlier detection
    `observe layer7` is the nearest that it has. Its log goes where Process keeps it, errors only.
    """
    policy = mesh.POLICY
    header, value = mesh.CANARY_HEADER
    return f"""global
    nbthread 1
    maxconn 4000
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    timeout client {policy.timeouts.stream_idle_s:g}s
    timeout server {policy.timeouts.request_s or 0:g}s
    timeout connect {policy.timeouts.connect_s:g}s
    timeout http-keep-alive 3600s
    retries {policy.retries.attempts}
    option redispatch 1
    retry-on conn-failure empty-response 502 503 504
    http-reuse always
frontend bench
    bind 127.0.0.1:{port}
    http-request set-var(txn.area) path,map_beg({site.folder}/areas.map,none)
    http-request deny deny_status 404 if {{ var(txn.area) -m str none }}
    use_backend v2 if {{ var(txn.area) -m str canary }} {{ req.hdr({header}) {value} }}
    use_backend v2 if {{ rand(100) lt 10 }}
    default_backend v1
{"".join(_backend(name, addresses, site.port) for name, addresses in mesh.ENDPOINTS.items())}"""


def _backend(name: str, addresses: tuple[str, ...], port: int) -> str:
    ejection, limits = mesh.POLICY.ejection, mesh.POLICY.limits
    servers = "".join(
        f"    server {name}-{number} {address}:{port} maxconn {limits.requests} check inter {ejection.base_s:g}s "
        f"observe layer7 error-limit {ejection.consecutive_failures} on-error mark-down\n"
        for number, address in enumerate(addresses, 1)
    )
    return f"backend {name}\n    balance leastconn\n{servers}"


def area_map(routes: int) -> str:
    """Every prefix, and whether it has a route by header."""
    kinds = ("canary" if number < mesh.CANARY_ROUTES else "plain" for number in range(mesh.areas(routes)))
    return "".join(f"{mesh.area(number)}/ {kind}\n" for number, kind in enumerate(kinds))


class HAProxy:
    """A running HAProxy in front of the backend."""

    name = "haproxy"

    def __init__(self, site: Site) -> None:
        folder, port = site.folder, free_port()
        (folder / "areas.map").write_text(area_map(site.scenario.routes))
        (folder / "haproxy.cfg").write_text(configuration(site, port))
        argv = [tools.path("haproxy"), "-db", "-f", folder / "haproxy.cfg"]
        self._process = Process(self.name, argv, core=site.core, log=folder / "haproxy.log")
        self.address = f"127.0.0.1:{port}"
        self._process.wait_for("listening", lambda: accepts("127.0.0.1", port) or None)

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it."""
        self._process.stop()
