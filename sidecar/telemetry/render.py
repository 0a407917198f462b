"""Metric families as text: Prometheus' format 0.0.4 and OpenMetrics 1.0.

Own code, because the usual client library builds an object per sample and stalls the event loop for half a second at
a thousand sets of labels. Yields blocks, so that a big page is never whole in memory and the sender can breathe between
them. Knows nothing of what is measured (`families.py` does); pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sidecar.telemetry.metrics import Histogram

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
BLOCK_CHARS = 65_536
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class Scalars:
    """A counter or gauge. `name` of a counter ends in `_total`; `rows` are (printed labels, value)."""

    name: str
    kind: str
    help: str
    rows: Iterable[tuple[str, float]]


@dataclass(slots=True)
class Histograms:
    """A histogram; all rows have the same bounds."""

    name: str
    help: str
    bounds: Sequence[float]
    rows: Iterable[tuple[str, Histogram]]


Family = Scalars | Histograms


def label_text(names: Iterable[str], values: Iterable[str]) -> str:
    """`a="1",b="2"`: labels as printed between braces; values escaped."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True))


def wants_openmetrics(accept: bytes | None) -> bool:
    """Whether an `Accept` header asks for OpenMetrics. Prometheus names it first whenever it can read it."""
    return accept is not None and b"application/openmetrics-text" in accept.lower()


def render(families: Iterable[Family], *, openmetrics: bool) -> Iterator[bytes]:
    """The page in blocks of about 64 KiB; `# EOF` ends it in OpenMetrics."""
    parts: list[str] = []
    size = 0
    for family in families:
        for part in _family(family, openmetrics):
            parts.append(part)
            size += len(part)
            if size >= BLOCK_CHARS:
                yield "".join(parts).encode("utf-8")
                parts.clear()
                size = 0
    if openmetrics:
        parts.append("# EOF\n")
    yield "".join(parts).encode("utf-8")


def _family(family: Family, openmetrics: bool) -> Iterator[str]:
    if isinstance(family, Histograms):
        yield _header(family.name, "histogram", family.help)
        yield from _histograms(family)
        return
    # OpenMetrics names a counter's family without the suffix that its sample carries.
    short = openmetrics and family.kind == "counter"
    yield _header(family.name.removesuffix("_total") if short else family.name, family.kind, family.help)
    name = family.name
    for labels, value in family.rows:
        yield f"{name}{{{labels}}} {_number(value)}\n" if labels else f"{name} {_number(value)}\n"


def _header(name: str, kind: str, help_text: str) -> str:
    return f"# HELP {name} {help_text.translate(_ESCAPES)}\n# TYPE {name} {kind}\n"


def _histograms(family: Histograms) -> Iterator[str]:
    # A bound is printed as both formats want it (1.0, 1.8e+06), with all that stands between it and its count.
    bounds = [f'{_bound(bound)}"}} ' for bound in (*family.bounds, float("inf"))]
    for labels, histogram in family.rows:
        counts = histogram.cumulative()
        # All bucket lines begin alike: one join with that beginning as separator is the fastest way to write them.
        begin = f'{family.name}_bucket{{{labels},le="' if labels else f'{family.name}_bucket{{le="'
        lines = ("\n" + begin).join([f"{bound}{count}" for bound, count in zip(bounds, counts, strict=True)])
        braced = f"{{{labels}}}" if labels else ""
        yield (
            f"{begin}{lines}\n{family.name}_sum{braced} {_number(histogram.sum)}\n"
            f"{family.name}_count{braced} {counts[-1]}\n"
        )


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _bound(bound: float) -> str:
    """Go's form of a float, which OpenMetrics asks for in `le`: 0.5, 10.0, 1.8e+06."""
    if bound == float("inf"):
        return "+Inf"
    if bound < 1e6:
        return repr(bound)
    mantissa, exponent = f"{bound:e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
