"""The victim's service: nginx, which answers from memory, over HTTP/1.1 and over HTTP/2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import tools
from bench.attacks.site import LOCAL
from demo.process import free_ports
from tests.interop.children import start

BODY = b"x" * 1024

_CONFIGURATION = """daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen {local}:{http1};
        listen {local}:{http2} http2;
        location / {{ return 200 '{body}'; }}
    }}
}}
"""


@contextmanager
def fast_service(folder: Path) -> Iterator[tuple[int, int]]:
    """Run it; the ports of HTTP/1.1 and HTTP/2."""
    http1, http2 = free_ports(2)
    config = folder / "nginx.conf"
    config.write_text(_CONFIGURATION.format(folder=folder, local=LOCAL, http1=http1, http2=http2, body=BODY.decode()))
    nginx = start("nginx", (tools.path("nginx"), "-p", folder, "-c", config, "-e", "stderr"), folder)
    try:
        nginx.until_listening(http1)
        nginx.until_listening(http2)
        yield http1, http2
    finally:
        nginx.stop()
