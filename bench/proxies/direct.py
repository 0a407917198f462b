"""No proxy: the load goes to the backend. What a proxy adds is added to this."""

from bench import mesh
from bench.proxies.site import Site
from bench.scenarios import DIRECT


class Direct:
    """The backend's first endpoint."""

    name = DIRECT
    pids: list[int] = []  # noqa: RUF012 - nobody changes it; the CPU of no process is 0

    def __init__(self, site: Site) -> None:
        self.address = f"{mesh.ENDPOINTS['v1'][0]}:{site.port}"

    def stop(self) -> None:
        """Nothing runs."""
