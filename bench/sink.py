"""A place for spans to go: an OTLP/HTTP receiver that counts what it is sent and keeps nothing."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink:
    """Listening on 127.0.0.1 until `stop`. `posts` and `received_bytes` grow."""

    def __init__(self) -> None:
        self.posts = 0
        self.received_bytes = 0
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # connections are kept, as a collector does

            def do_POST(self) -> None:
                sink.received_bytes += len(self.rfile.read(int(self.headers["Content-Length"])))
                sink.posts += 1
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Silence: each line would cost the core that is measured."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """For `tracing.otlp`."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def stop(self) -> None:
        """Close it."""
        self._server.shutdown()
        self._server.server_close()
