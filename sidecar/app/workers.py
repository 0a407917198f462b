"""`workers: N`: the step from one process to several, taken before anything runs.

The order matters: listeners are bound, everything that a worker needs is imported, then the spawner is forked (it and
its children share that memory), and only then the holder makes its event loop.
"""

import gc
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from socket import socket

from sidecar.app import worker_process
from sidecar.app.data_plane import Bound
from sidecar.app.spawner import Spawner
from sidecar.app.supervisor import Supervisor
from sidecar.model.bootstrap import Bootstrap
from sidecar.proxy.worker import Directory
from sidecar.telemetry.export.log_writer import check_path


@contextmanager
def forked(
    bootstrap: Bootstrap, by_worker: list[list[Bound]], say: Callable[[str], None]
) -> Iterator[Callable[[Random, Directory], Supervisor]]:
    """Fork the spawner; gives the way to make the `Plane` of its workers. They are gone when the block ends.

    Raises ConfigError when they could not start.
    """
    check_path(bootstrap.access_log.path)
    if bootstrap.tracing is not None:
        import sidecar.telemetry.export.otlp  # noqa: F401 - so that the workers share it

    def run_worker(index: int, channel: socket) -> None:
        def say_who(line: str) -> None:
            say(f"worker {index}: {line}")

        for other, its in enumerate(by_worker):
            for one in its:
                if other != index:
                    one.sock.close()
        try:
            worker_process.run(bootstrap, by_worker[index], channel, say_who)
        except BaseException as exc:
            # Nothing above here would print it: the process is a fork in the middle of somebody else's stack.
            say_who("bug: " + " | ".join(line.strip() for line in traceback.format_exception(exc)[-3:]))
            raise
        finally:
            sys.stderr.flush()

    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, what is shared
    spawner = Spawner.fork(run_worker)
    try:
        yield lambda _, directory: Supervisor(bootstrap.node, by_worker, spawner, directory, say)
    finally:
        spawner.close()
        for its in by_worker:
            for one in its:
                one.sock.close()
