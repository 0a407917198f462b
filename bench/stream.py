"""One long stream: `python -m bench.stream serve HOST:PORT` sends for ever, `... read HOST:PORT SECONDS` throws away.

Both are cheap: the sender repeats one buffer, the reader has the kernel drop what came (MSG_TRUNC), so that the proxy
between them is what limits the stream. `read` prints one JSON line.
"""

import json
import resource
import socket
import sys
import threading
import time

_BUFFER_BYTES = 1 << 20
_WAIT_S = 10.0


def serve(address: tuple[str, int]) -> None:
    """Send to everybody who connects, until they go."""
    with socket.create_server(address) as listener:
        print("listening", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_send, args=(client,), daemon=True).start()


def _send(client: socket.socket) -> None:
    data = bytes(_BUFFER_BYTES)
    with client:
        try:
            while True:
                client.sendall(data)
        except OSError:
            return  # it has read enough


def read(address: tuple[str, int], seconds: float) -> dict[str, float]:
    """Read for so long; bytes, seconds and errors."""
    buffer, got, errors = bytearray(_BUFFER_BYTES), 0, 0
    with socket.create_connection(address, timeout=_WAIT_S) as stream:
        start = time.perf_counter()
        while (took_s := time.perf_counter() - start) < seconds:
            count = stream.recv_into(buffer, _BUFFER_BYTES, socket.MSG_TRUNC)
            if not count:
                errors = 1
                break
            got += count
    return {"bytes": got, "seconds": took_s, "errors": errors, "cpu_s": resource.getrusage(resource.RUSAGE_SELF)[0]}


def main(arguments: list[str]) -> None:
    """Play one end."""
    host, _, port = arguments[1].rpartition(":")
    if arguments[0] == "serve":
        serve((host, int(port)))
    print(json.dumps(read((host, int(port)), float(arguments[2]))))


if __name__ == "__main__":
    main(sys.argv[1:])
