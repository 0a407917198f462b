"""`--wait`: ask until every sidecar has taken a change, and say who has not.

Shows N of M sidecars on stderr: a bar on a terminal, a line at each change elsewhere. Returns no earlier than the
control plane has every acknowledgement.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from control_plane.cli.client import Client
from control_plane.cli.complaint import FAILED, TIMED_OUT, Complaint
from control_plane.cli.output import Json, clean

POLL_S = 1.0  # how long one call waits on the other side: the longest time between two looks at the bar

Tell = Callable[[int, int], None]


def wait_for_revision(client: Client, revision: int, timeout_s: float) -> None:
    """Return when all sidecars that use what `revision` changed have taken it.

    Raises:
        Complaint: Status 1 when one rejected it, with the reasons; 3 when `timeout_s` passed, with the laggards.
    """
    ends_s = time.monotonic() + timeout_s
    with progress("sidecars") as tell:
        while True:
            left_s = max(0.0, ends_s - time.monotonic())
            asked = {"revision": str(revision), "timeout_s": f"{min(POLL_S, left_s):.3f}"}
            state = client.get("/v1/wait", asked)
            acked, waiting, rejected = state["acked"], state["waiting"], state["rejected"]
            tell(len(acked), len(acked) + len(waiting) + len({row["node"] for row in rejected}))
            if state["done"] or time.monotonic() >= ends_s:
                break
    if rejected:
        raise _rejected(rejected, revision)
    if not state["done"]:
        raise Complaint(
            f"revision {revision} is not everywhere after {timeout_s:g} s",
            details=[f"waiting for {node}" for node in waiting],
            hint="the change is stored and goes on; meshctl status shows who has it, --timeout waits longer",
            status=TIMED_OUT,
        )


def _rejected(rows: Sequence[Json], revision: int) -> Complaint:
    return Complaint(
        f"revision {revision} was rejected by {_count(len({row['node'] for row in rows}), 'sidecar')}",
        details=[clean(f"{row['node']}: {row['name']}: {row['reason']}") for row in rows],
        hint="they serve their last good version; correct the resource and apply it again",
        status=FAILED,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """A way to show `done of total` on stderr: a bar on a terminal, a line at each change elsewhere."""
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    spinner, text = SpinnerColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} " + what)
    with Progress(spinner, BarColumn(), text, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _lines(what: str) -> Tell:
    last: tuple[int, int] | None = None

    def tell(done: int, total: int) -> None:
        nonlocal last
        if (done, total) != last:
            last = (done, total)
            print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    return tell
