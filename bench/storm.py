"""Mutual TLS handshakes at a fixed rate: `python -m bench.storm HOST:PORT CERT KEY ROOTS NAME RATE`, until a signal.

Each connection is made, held until the other side has taken its certificate, and closed. Prints how many there were.
"""

import json
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter

_WAIT_S = 2.0
_AT_ONCE = 10


def main(arguments: list[str]) -> int:
    """Play until SIGTERM."""
    address, cert, key, roots, name, rate = arguments
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the name is a port of a service; who it is stands in the certificate's URI
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(roots)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    counts: Counter[str] = Counter()
    start = time.perf_counter()

    def connect(first: int) -> None:
        turn = first
        while not ended.wait(max(0.0, start + turn / float(rate) - time.perf_counter())):
            try:
                plain = socket.create_connection((host, int(port)), timeout=_WAIT_S)
                with context.wrap_socket(plain, server_hostname=name) as secure:
                    counts["made"] += 1
                    _farewell(secure)
            except OSError:
                counts["failed"] += 1
            turn += _AT_ONCE

    # Several, so that one handshake that takes long does not hold the rate down.
    threads = [threading.Thread(target=connect, args=(first,)) for first in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    ended.wait()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - start
    print(json.dumps({"made": counts["made"], "failed": counts["failed"], "seconds": took_s}))
    return 0


def _farewell(secure: ssl.SSLSocket) -> None:
    """Say goodbye and wait for the other side's: by then it has judged the certificate."""
    try:
        secure.unwrap()
    except OSError:
        pass  # it closed without a word


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
