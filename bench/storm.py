"""Mutual TLS handshakes at a fixed rate: `python -m bench.storm HOST:PORT CERT KEY ROOTS NAME RATE`, until a signal.

Each connection is made, held until the other side has taken its certificate, and closed. Prints how many there were.
"""

import json
import signal
import socket
import ssl
import sys
import time

_WAIT_S = 5.0


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
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    made = failed = 0
    start = time.perf_counter()
    while not ended:
        pause_s = start + (made + failed) / float(rate) - time.perf_counter()
        if pause_s > 0:
            time.sleep(pause_s)
        try:
            plain = socket.create_connection((host, int(port)), timeout=_WAIT_S)
            with context.wrap_socket(plain, server_hostname=name) as secure:
                made += 1
                _farewell(secure)
        except OSError:
            failed += 1
    print(json.dumps({"made": made, "failed": failed, "seconds": time.perf_counter() - start}))
    return 0


def _farewell(secure: ssl.SSLSocket) -> None:
    """Say goodbye and wait for the other side's: by then it has judged the certificate."""
    try:
        secure.unwrap()
    except OSError:
        pass  # it closed without a word


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
