"""A service as a process of its own, for tests of `sidecar run -- COMMAND`: says on stderr what happens to it.

    python told_service.py APP_PORT CALL_PORT

Answers requests on APP_PORT (those for /slow after half a second). At TERM, INT or QUIT it makes one call through
CALL_PORT, as services do that flush before they end, says what came of it, and exits with status 7.
"""

import signal
import socketserver
import sys
import threading
import time
from http.client import HTTPConnection

SLOW_S = 0.5
STATUS = 7
WANTED = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        say(f"service: {line.split()[1].decode() if line else 'probe'}")
        if b"/slow" in line:
            time.sleep(SLOW_S)
        if line:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(app_port: int, call_port: int) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
    server = Server(("127.0.0.1", app_port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("service: started")
    while (number := signal.sigwait(WANTED)) not in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        say(f"service: got {signal.Signals(number).name}")
    say(f"service: told {signal.Signals(number).name}")
    connection = HTTPConnection("127.0.0.1", call_port, timeout=5)
    connection.request("GET", "/last")
    say(f"service: last call {connection.getresponse().status}")
    return STATUS


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
