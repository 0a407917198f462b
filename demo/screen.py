"""The demo on a terminal: one live table and three commands to try; without a terminal, a line now and then.

Shows what the control plane knows (rates, versions, ejections) beside what the client outside saw. When the control
plane is away its columns are empty and the client's go on: that is the point.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from demo.watch import Recent, Watch

# Times in milliseconds, shares in percent: short enough for a terminal of 80 columns.
COLUMNS = ("SERVICE", "REQ/S", "GOOD", "P50", "P99", "SPLIT", "WANTED", "READY", "EJECTED", "CONFIG", "CALLED BY")
LEFT = ("SERVICE", "CALLED BY")


@dataclass(frozen=True, slots=True)
class Seen:
    """The control plane's answers at one moment; empty ones while it is away."""

    stats: dict[str, Any]
    status: dict[str, Any]
    traffic: dict[str, Any]

    @property
    def away(self) -> bool:
        """True when it did not answer."""
        return not self.status

    def wanted(self) -> dict[str, float]:
        """Version -> the share that the route gives it."""
        weights = {row["label"]: row["weight"] for row in self.traffic.get("backends", [])}
        total = sum(weights.values())
        return {label: weight / total for label, weight in weights.items()} if total else {}


NOTHING = Seen({}, {}, {})


def rows(seen: Seen, watch: Watch, recent: Recent) -> list[list[str]]:
    """The table's cells, in the order of COLUMNS. The frontend's figures are the client's: it calls past the mesh."""
    wanted, answered = seen.wanted(), sum(recent.versions.values())
    versions = sorted(set(wanted) | set(watch.versions)) or [""]
    made = [["frontend", *golden(recent.rate, recent.success, recent.p50_ms, recent.p99_ms), "", ""]]
    made[0] += [*_endpoints(seen, "frontend", ""), "the client"]
    for service, version in (*((watch.service, version) for version in versions), ("stock", "")):
        backend = f"{service}-{version}.shop:8080" if version else ""
        stat = _find(seen.stats.get("rows", []), service=f"{service}.shop", backend=backend)
        made.append(
            [
                f"{service} {version}".strip(),
                *golden(stat.get("rate"), stat.get("success"), stat.get("p50_ms"), stat.get("p99_ms")),
                share(recent.versions[version] / answered) if version and answered else "",
                share(wanted.get(version)),
                *_endpoints(seen, service, version),
                ", ".join(sorted(map(short, watch.callers.get(service, ())))),
            ]
        )
    return made


def short(spiffe_id: str) -> str:
    """`shop/frontend` for spiffe://mesh.local/ns/shop/sa/frontend; the summary has whole identities."""
    return spiffe_id.partition("/ns/")[2].replace("/sa/", "/") or "nobody known"


def golden(rate: float | None, success: float | None, p50_ms: float | None, p99_ms: float | None) -> list[str]:
    """Four cells."""
    rate_cell, p50_cell, p99_cell = ("" if value is None else f"{value:.0f}" for value in (rate, p50_ms, p99_ms))
    return [rate_cell, share(success), p50_cell, p99_cell]


def share(value: float | None) -> str:
    """A part of one in percent; never rounded up to a full hundred."""
    if value is None:
        return ""
    percent = value * 100
    return "<100" if 99.95 <= percent < 100 else f"{percent:.1f}".removesuffix(".0")


def _endpoints(seen: Seen, service: str, version: str) -> list[str]:
    """READY, EJECTED and CONFIG of the instances of one version."""
    nodes = [row for row in seen.status.get("sidecars", []) if (row["service"], row["version"]) == (service, version)]
    if not nodes:
        return ["", "", ""]
    ids = {row["node"].rpartition("/")[2] for row in nodes}
    ejected = {row["endpoint"].rpartition("/")[2] for row in seen.stats.get("ejected", [])} & ids
    ready = sum(row["ready"] and row["connected"] for row in nodes)
    applied, latest = min(row["applied"] for row in nodes), max(row["latest"] for row in nodes)
    return [f"{ready}/{len(nodes)}", ", ".join(sorted(ejected)) or "none", f"{applied}/{latest}"]


def _find(found: Iterable[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    return next((row for row in found if wanted.items() <= row.items()), {})


def live(seen: Seen, watch: Watch, recent: Recent, head: str, commands: Sequence[str]) -> RenderableType:
    """Everything that the terminal shows."""
    table = Table(
        title=head, title_justify="left", title_style="bold", header_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in LEFT else "right", overflow="fold")
    for cells in rows(seen, watch, recent):
        table.add_row(*cells)
    parts: list[RenderableType] = [table]
    if seen.away:
        parts.append(Text("The control plane does not answer. Traffic goes on with what the sidecars know.", "yellow"))
    parts.append(Text("Try in another terminal; Ctrl-C here ends everything.", "dim"))
    return Group(*parts, *(Text(command, no_wrap=True, overflow="ignore") for command in commands))


def line(seen: Seen, watch: Watch, recent: Recent, head: str) -> str:
    """One line that says the same, for logs."""
    split = ", ".join(f"{version} {count}" for version, count in sorted(recent.versions.items()))
    config = {row["applied"] for row in seen.status.get("sidecars", [])}
    ejected = [row["endpoint"].rpartition("/")[2] for row in seen.stats.get("ejected", [])]
    parts = [head, f"{recent.rate:.0f} req/s, {share(recent.success) or 0} % good, p99 {recent.p99_ms or 0:.0f} ms"]
    parts.append(f"{watch.service} in the last seconds: {split or 'nothing'}")
    parts.append("control plane away" if seen.away else f"config {'/'.join(map(str, sorted(config)))}")
    return "; ".join([*parts, f"ejected {', '.join(sorted(ejected)) or 'none'}"])


def pasteable(arguments: Sequence[str], width: int) -> str:
    """A command that can be copied from a terminal of this width: continued lines end in a backslash."""
    lines = [""]
    for group in _with_values(arguments):
        if lines[-1] and len(lines[-1]) + len(group) + 3 > width:
            lines.append("     ")
        lines[-1] += f" {group}" if lines[-1] else f"  {group}"
    return " \\\n".join(lines)


def _with_values(arguments: Sequence[str]) -> list[str]:
    """The words, each option with its value."""
    groups: list[str] = []
    for word in arguments:
        quoted = shlex.quote(word)
        if groups and groups[-1].startswith("-") and " " not in groups[-1] and not word.startswith("-"):
            groups[-1] += f" {quoted}"
        else:
            groups.append(quoted)
    return groups


def console() -> Console:
    """Standard output, with the terminal's own abilities."""
    return Console(highlight=False)
