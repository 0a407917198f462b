"""The README's chart: `python -m bench.chart` draws the newest full run into docs/bench.svg, bad rows included.

One bar a row: ours to Envoy with the same policies, on a scale where twice as much and half as much are equally far
from the line at 1.0. A thin line is the spread over the pairs; a ring is the ratio to minimal Envoy. Readable in light
and dark. Nothing is left out: a row that has no ratio (no Envoy in it) is the only one without a bar.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bench import machine
from bench.scenarios import EQUAL, FAST, FULL, MINIMAL, Kind
from bench.store import Entry, Store

CHART = machine.ROOT / "docs" / "bench.svg"
_WIDTH, _LABELS, _RIGHT = 880, 360, 70  # of the picture, of the words at its left, of the room for figures at its right
_LINE, _BAR, _HEADING, _TOP, _BOTTOM = 24, 12, 34, 78, 62
_LOWEST = 1 / 32  # what is drawn as less than that is not a ratio one can see

_HEADINGS = {
    Kind.HTTP1: "CPU a request, HTTP/1.1",
    Kind.MESH: "CPU a request, two sidecars with mutual TLS",
    Kind.EXCHANGE: "CPU, connections that are not read",
    Kind.BULK: "CPU, connections that are not read",
    Kind.HTTP2: "CPU a request, HTTP/2 and gRPC",
    Kind.GRPC: "CPU a request, HTTP/2 and gRPC",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio to Envoy; below 1.0 ours takes less. `minimal` is the ratio to minimal Envoy, where it was measured."""

    heading: str
    label: str
    ratio: float
    low: float
    high: float
    minimal: float | None = None


def bars_of(entries: Sequence[Entry]) -> list[Bar]:
    """A bar for everything that Envoy was measured beside, grouped by heading in the order in which they come."""
    found = [bar for entry in entries for bar in _BARS.get(entry["table"], _none)(entry)]
    order = list(dict.fromkeys(bar.heading for bar in found))
    return sorted(found, key=lambda bar: order.index(bar.heading))


def _none(_entry: Entry) -> Iterator[Bar]:
    yield from ()


def _cpu(entry: Entry) -> Iterator[Bar]:
    heading = _HEADINGS[Kind(entry["scenario"]["kind"])]
    for ours, suffix in ((FAST, ""), (FULL, ", full path")):
        ratios = entry["ratio"].get(ours, {})
        if EQUAL in ratios:
            minimal = ratios[MINIMAL]["median"] if MINIMAL in ratios else None
            got = ratios[EQUAL]
            yield Bar(heading, entry["scenario"]["name"] + suffix, got["median"], got["low"], got["high"], minimal)


def _latency(entry: Entry) -> Iterator[Bar]:
    added = entry["added_us"]
    if FAST in added and EQUAL in added:
        name = entry["scenario"]["name"].removeprefix("latency, ")
        yield _single("Added latency, 99th percentile", name, added[FAST]["p99"], added[EQUAL]["p99"])


def _routes(entry: Entry) -> Iterator[Bar]:
    ours, theirs = (entry["proxies"][name]["loaded"]["rss_mib"] for name in (FAST, EQUAL))
    yield _single("Memory", f"{entry['scenario']['name']}, after load", ours, theirs)


def _idle(entry: Entry) -> Iterator[Bar]:
    ours, theirs = (entry["proxies"][name]["each_kib"] for name in (FAST, EQUAL))
    yield _single("Memory", f"{entry['scenario']['name']}, each", ours, theirs)


_BARS = {"cpu": _cpu, "latency": _latency, "routes": _routes, "idle": _idle}


def _single(heading: str, label: str, ours: float, theirs: float) -> Bar:
    ratio = max(ours, 0.0) / theirs if theirs > 0 else math.inf
    return Bar(heading, label, ratio, ratio, ratio)


class _Scale:
    """Ratio to x: logarithmic, over whole powers of two that hold every value and 1.0."""

    def __init__(self, ratios: Sequence[float]) -> None:
        finite = [max(ratio, _LOWEST) for ratio in ratios if math.isfinite(ratio)]
        self.first = min(-1, math.floor(math.log2(min(finite, default=1.0))))
        self.last = max(1, math.ceil(math.log2(max(finite, default=1.0))))

    def x(self, ratio: float) -> float:
        place = math.log2(min(max(ratio, 2.0**self.first), 2.0**self.last))
        return _LABELS + (place - self.first) / (self.last - self.first) * (_WIDTH - _LABELS - _RIGHT)


def draw(bars: Sequence[Bar], facts: dict[str, Any], how: str = "") -> str:
    """The picture. `how` goes into the line under the title."""
    scale = _Scale([value for bar in bars for value in (bar.low, bar.high, bar.minimal or 1.0)])
    parts, y, heading = [], _TOP, ""
    for bar in bars:
        if bar.heading != heading:
            heading = bar.heading
            parts.append(f'<text class="heading" x="16" y="{y + 22}">{escape(heading)}</text>')
            y += _HEADING
        parts.append(_bar(bar, scale, y))
        y += _LINE
    height = y + _BOTTOM
    return "\n".join([_head(height, facts, how), _grid(scale, y), *parts, _foot(y), "</svg>\n"])


def _bar(bar: Bar, scale: _Scale, y: float) -> str:
    one, end = scale.x(1.0), scale.x(bar.ratio)
    middle, kind = y + _LINE / 2, "less" if bar.ratio <= 1.0 else "more"
    figure = f"{bar.ratio:.2f}" if math.isfinite(bar.ratio) else "no ratio"
    right = max(end, one, scale.x(bar.high), scale.x(bar.minimal or 0.0)) + 8
    left, width = min(one, end), abs(end - one)
    place = f'x="{left:.1f}" y="{middle - _BAR / 2}" width="{width:.1f}" height="{_BAR}"'
    parts = [
        f'<text x="{_LABELS - 14}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{kind}" {place} rx="2"/>',
        f'<path class="spread" d="M{scale.x(bar.low):.1f} {middle}H{scale.x(bar.high):.1f}"/>',
        f'<text class="figure" x="{right:.1f}" y="{middle + 4}">{figure}</text>',
    ]
    if bar.minimal is not None:
        parts.append(f'<circle class="minimal" cx="{scale.x(bar.minimal):.1f}" cy="{middle}" r="4"/>')
    return "".join(parts)


def _grid(scale: _Scale, bottom: float) -> str:
    lines = []
    for power in range(scale.first, scale.last + 1):
        x, label = scale.x(2.0**power), f"{2.0**power:g}"
        kind = "one" if power == 0 else "grid"
        lines.append(f'<path class="{kind}" d="M{x:.1f} {_TOP - 6}V{bottom + 4}"/>')
        lines.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{label}</text>')
    return "".join(lines)


def _head(height: float, facts: dict[str, Any], how: str) -> str:
    where = "virtual machine" if facts["virtual_machine"] else "machine"
    under = f"commit {facts['commit']}, {str(facts['date'])[:10]}; loopback, {where}, {facts['cores']} cores{how}"
    size = f'width="{_WIDTH}" height="{height:g}" viewBox="0 0 {_WIDTH} {height:g}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size}
 role="img" aria-label="Ours to Envoy, row by row; below 1.0 ours takes less">
<style>
{_LAYOUT}
{_colours(**_LIGHT)}
@media (prefers-color-scheme: dark) {{ {_colours(**_DARK)} }}
</style>
<rect class="back" width="100%" height="100%" rx="8"/>
<text class="title" x="16" y="30">Ours to Envoy: left of the line is ahead</text>
<text class="under" x="16" y="50">{escape(under)}</text>"""


# No CSS variables: not every renderer of pictures knows them.
_LAYOUT = """text { font: 12.5px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.title { font-size: 17px; font-weight: 600; } .heading { font-weight: 600; }
.under, .tick { font-size: 11.5px; } .figure { font-variant-numeric: tabular-nums; font-weight: 600; }
path { fill: none; } .one, .spread, .minimal { stroke-width: 1.5; } .spread { opacity: 0.65; }"""
_LIGHT = {
    "back": "#ffffff",
    "text": "#1f2328",
    "soft": "#59636e",
    "grid": "#d9dee3",
    "less": "#1a7f5a",
    "more": "#c4602a",
}
_DARK = {
    "back": "#0d1117",
    "text": "#e6edf3",
    "soft": "#9198a1",
    "grid": "#2f353d",
    "less": "#3fb68b",
    "more": "#e08a55",
}


def _colours(back: str, text: str, soft: str, grid: str, less: str, more: str) -> str:
    fills = {"text": text, ".under, .tick": soft, ".back, .minimal": back, ".less": less, ".more": more}
    strokes = {".grid": grid, ".one, .spread, .minimal": text}
    rules = [f"{which} {{ fill: {colour}; }}" for which, colour in fills.items()]
    return " ".join(rules + [f"{which} {{ stroke: {colour}; }}" for which, colour in strokes.items()])


def _foot(y: float) -> str:
    words = "bar: to Envoy with the same policies; line: lowest and highest pair; ring: to minimal Envoy"
    return f'<text class="under" x="16" y="{y + 46}">{words}</text>'


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the newest full run, or the result file that is given."""
    parser = argparse.ArgumentParser(description="Draw docs/bench.svg from a result file.")
    parser.add_argument("result", nargs="?", type=Path, help="a file of bench/results (default: the newest full run)")
    path = parser.parse_args(arguments).result or Store().newest("full")
    if path is None:
        print("bench.chart: there is no full run yet; make bench-full makes one", file=sys.stderr)
        return 1
    found = json.loads(path.read_text())
    timed = next((row["scenario"] for row in found["rows"] if row["table"] == "cpu"), None)
    how = "" if timed is None else f"; {timed['pairs']} pairs of {timed['seconds']:g} s each"
    CHART.write_text(draw(bars_of(found["rows"]), found["machine"], how))
    print(f"{CHART.relative_to(machine.ROOT)}: drawn from {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
