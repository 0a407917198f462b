"""The static folder, read again when it changes: a source without a control plane.

Looks every second at the names, times and sizes of the folder's files, and at once on SIGHUP. A change is taken when it
stands still for one look, so that a folder in the middle of a copy is not put in force by halves. The folder is read
and checked as at the start, in a thread, and becomes the next snapshot: what did not change keeps its identity, and so
its live state. A folder that cannot be used leaves the configuration in force, and says so.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import trio

from sidecar.app.aside import aside
from sidecar.app.source import FixedSource, Home
from sidecar.config.files import MAX_FILES, load_static_folder
from sidecar.control.collector import collector_at_rest
from sidecar.errors import ConfigError, UnreadableError
from sidecar.model.bootstrap import Bootstrap
from sidecar.model.snapshot import Snapshot

LOOK_S = 1.0
MAX_PROBLEM_LINES = 20  # of one rejection, on stderr and in /config
_SUFFIXES = (".yaml", ".yml")

# Name, time and size of each file, and its number: what changes when a file is written or replaced.
Marks = tuple[tuple[str, int, int, int], ...]


class FolderSource(FixedSource):
    """`Source`: see the module's text. Its snapshots' version counts how often the folder was taken again."""

    def __init__(self, snapshot: Snapshot, bootstrap: Bootstrap, folder: Path, home: Home) -> None:
        super().__init__(snapshot, bootstrap.identity, home)
        self._bootstrap = bootstrap
        self._folder = folder
        self._asked = trio.Event()
        self._reloads: Counter[str] = Counter({"applied": 0, "rejected": 0})
        self._problems: list[str] = []
        self._stale_since_s = 0.0
        self._seen = marks_of(folder)

    async def run(self) -> None:
        """See `Source`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().run)
            nursery.start_soon(self._watch)

    async def _watch(self) -> None:
        taken = self._seen
        while True:
            with trio.move_on_after(LOOK_S):
                await self._asked.wait()
            asked, self._asked = self._asked.is_set(), trio.Event()
            marks = await trio.to_thread.run_sync(marks_of, self._folder, abandon_on_cancel=True)
            still, self._seen = marks == self._seen, marks
            if asked or (still and marks != taken):
                taken = marks
                await self._reload()

    async def _reload(self) -> None:
        try:
            with collector_at_rest():
                self.snapshot, warnings = await aside(self._read)
        except (ConfigError, UnreadableError) as problem:
            self._reject(problem.problems if isinstance(problem, ConfigError) else [str(problem)])
            return
        self._reloads["applied"] += 1
        self._problems = []
        for warning in warnings[:MAX_PROBLEM_LINES]:
            self._home.say(f"warning: {warning}")
        self._home.switch(self.snapshot)
        self._home.say(f"configuration reloaded: {len(self.snapshot.resources)} resources from {self._folder}")

    def _read(self) -> tuple[Snapshot, list[str]]:
        """The snapshot after the one in force, and warnings. In a thread: nobody else changes that one meanwhile."""
        read, warnings = load_static_folder(self._folder, mesh=self._bootstrap.identity is not None)
        for upstream in self._bootstrap.outbound.upstreams:
            service = read.service(upstream.service)
            if service is None or all(port.port != upstream.port for port in service.ports):
                where = f"{self._bootstrap.source}: outbound.upstreams"
                raise ConfigError([f"{where} needs {upstream.service} port {upstream.port}; {self._folder} has none"])
        before = self.snapshot
        gone = before.resources.keys() - read.resources.keys()
        return before.changed(read.resources.values(), gone, version=before.version + 1), warnings

    def _reject(self, problems: list[str]) -> None:
        if not self._problems:
            self._stale_since_s = trio.current_time()
        self._reloads["rejected"] += 1
        more = len(problems) - MAX_PROBLEM_LINES
        self._problems = problems[:MAX_PROBLEM_LINES] + ([f"and {more} more"] if more > 0 else [])
        for line in self._problems:
            self._home.say(line)
        self._home.say(f"{self._folder} was not reloaded; the configuration in force stays")

    def age_s(self) -> float:
        """Since the folder was last known to say what is in force."""
        return trio.current_time() - self._stale_since_s if self._problems else 0.0

    def rejected_total(self) -> int:
        """See `Source`: of a folder, all or nothing is taken."""
        return self._reloads["rejected"]

    def rejections(self) -> list[dict[str, object]]:
        """See `Source`."""
        where = str(self._folder)
        return [{"name": where, "version": self.snapshot.version + 1, "reason": line} for line in self._problems]

    def describe(self) -> dict[str, object]:
        """See `Source`."""
        return {"kind": "folder", "where": str(self._folder), "reloads": dict(self._reloads)}

    def reloads(self) -> Sequence[tuple[str, int]]:
        """See `Source`."""
        return list(self._reloads.items())

    def reread(self) -> None:
        """See `Source`."""
        self._asked.set()


def marks_of(folder: Path) -> Marks | None:
    """What tells one state of the folder from another; None when it cannot be read. Follows links, as Kubernetes
    swaps a mounted ConfigMap by one."""
    marks = []
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)
        for name in names[: MAX_FILES + 1]:
            if not name.startswith("."):
                found = (folder / name).stat()
                marks.append((name, found.st_mtime_ns, found.st_size, found.st_ino))
    except OSError:
        return None
    return tuple(marks)
