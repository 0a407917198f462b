"""The run as a picture: for each client the share that failed and the 99th percentile over time, a line a variant.

Grey bands are the time of faults. Readable in light and dark; no script, no font of its own.
"""

from collections.abc import Sequence
from html import escape

from sidecar.sim.measures import by_second
from sidecar.sim.report import Played, seconds

_WIDTH, _LEFT, _RIGHT, _PANEL, _GAP, _TOP, _BOTTOM = 880, 70, 20, 120, 44, 96, 24
_COLOURS = ("#2f6fde", "#c4602a", "#1a7f5a", "#8a4fbf", "#b3303f", "#5f7380", "#94790f", "#0e7c86", "#3d3d3d")


def draw(played: Played) -> str:
    """The SVG of a run."""
    scenario = played.scenario
    panels, y = [], _TOP
    for client in scenario.clients:
        told = {variant: by_second(scenario, record, client) for variant, record in played.records.items()}
        failed = [
            [100.0 * each.failed / each.requests if each.requests else 0.0 for each in one] for one in told.values()
        ]
        slowest = [[each.p99_s or 0.0 for each in one] for one in told.values()]
        panels.append(_panel(played, f"{client}: requests that failed", failed, 100.0, "100 %", y))
        y += _PANEL + _GAP
        highest = max((mark for line in slowest for mark in line), default=0.0)
        panels.append(_panel(played, f"{client}: 99th percentile", slowest, highest, seconds(highest), y))
        y += _PANEL + _GAP
    height = y + _BOTTOM
    return "\n".join([_head(played, height), *panels, "</svg>\n"])


def _head(played: Played, height: float) -> str:
    scenario = played.scenario
    keys, x = [], 16.0
    for colour, variant in zip(_COLOURS, played.records, strict=False):
        keys.append(f'<path d="M{x:.0f} 58h18" stroke="{colour}" stroke-width="3"/>')
        keys.append(f'<text x="{x + 24:.0f}" y="62">{escape(variant)}</text>')
        x += 40 + 7.5 * len(variant)
    size = f'width="{_WIDTH}" height="{height:g}" viewBox="0 0 {_WIDTH} {height:g}"'
    run = f"seed {played.seed}, {scenario.duration_s:g} s; grey: faults"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(scenario.name)}">
<style>
text {{ font: 12.5px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }}
.title {{ font-size: 17px; font-weight: 600; }} .soft {{ fill: #59636e; font-size: 11.5px; }}
.back {{ fill: #ffffff; }} .fault {{ fill: #59636e; opacity: 0.12; }} .axis {{ stroke: #d9dee3; fill: none; }}
.line {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; }}
@media (prefers-color-scheme: dark) {{ .back {{ fill: #0d1117; }} text {{ fill: #e6edf3; }} .soft {{ fill: #9198a1; }}
 .axis {{ stroke: #2f353d; }} .fault {{ fill: #9198a1; opacity: 0.2; }} }}
</style>
<rect class="back" width="100%" height="100%" rx="8"/>
<text class="title" x="16" y="30">{escape(scenario.name)}</text>
<text class="soft" x="{_WIDTH - _RIGHT}" y="30" text-anchor="end">{run}</text>
{"".join(keys)}"""


def _panel(played: Played, title: str, lines: Sequence[Sequence[float]], highest: float, top: str, y: float) -> str:
    scenario = played.scenario
    end = f"{scenario.duration_s:g} s"
    wide, bottom = _WIDTH - _LEFT - _RIGHT, y + _PANEL

    def x(at_s: float) -> float:
        return _LEFT + min(at_s, scenario.duration_s) / scenario.duration_s * wide

    parts = [f'<text class="soft" x="{_LEFT}" y="{y - 6:g}">{escape(title)}</text>']
    for from_s, until_s in sorted({(fault.from_s, fault.until_s) for fault in scenario.faults}):
        width = x(until_s) - x(from_s)
        parts.append(f'<rect class="fault" x="{x(from_s):.1f}" y="{y:g}" width="{width:.1f}" height="{_PANEL}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {y:g}V{bottom:g}H{_WIDTH - _RIGHT}"/>')
    parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{y + 10:g}" text-anchor="end">{top}</text>')
    parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{bottom:g}" text-anchor="end">0</text>')
    parts.append(f'<text class="soft" x="{_WIDTH - _RIGHT}" y="{bottom + 14:g}" text-anchor="end">{end}</text>')
    for colour, marks in zip(_COLOURS, lines, strict=False):
        points = [
            f"{x(at + 0.5):.1f} {bottom - (mark / highest if highest else 0.0) * _PANEL:.1f}"
            for at, mark in enumerate(marks)
        ]
        parts.append(f'<path class="line" stroke="{colour}" d="M{"L".join(points)}"/>')
    return "".join(parts)
