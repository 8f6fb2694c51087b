"""Charts of time series as SVG, for light pages and dark ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import isfinite
from typing import NamedTuple

WIDTH, HEIGHT, GAP, COLUMNS = 470, 208, 12, 2
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 48
ENTRY = 6.2  # width of a letter in the legend
HUES = ("#3e7cb1", "#2a9d6f", "#d98c21", "#b0509c", "#c0392b", "#6b7c93", "#7d6bd0", "#8a6d3b")
STYLE = """\
text { font: 11px system-ui, sans-serif; fill: #52606d }
.title { font-size: 13px; font-weight: 600; fill: #1f2933 }
.page { fill: #ffffff } .panel { fill: #f5f7fa; stroke: #d9dee4 } .grid { stroke: #d9dee4 }
path { fill: none; stroke-width: 1.6; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
text { fill: #9fb3c8 } .title { fill: #f0f4f8 }
.page { fill: #111519 } .panel { fill: #1b2127; stroke: #323f4b } .grid { stroke: #323f4b }
}"""
UNITS = {"reqps": " req/s", "ops": " /s", "cps": " /s", "s": " s", "percentunit": " %"}


class Series(NamedTuple):
    """A named line: points of seconds since the start, and values."""

    name: str
    points: Sequence[tuple[float, float]]


class Chart(NamedTuple):
    """A panel: its title, its unit as Grafana names it, its lines."""

    title: str
    unit: str
    series: Sequence[Series]


def draw(charts: Sequence[Chart], seconds: float, caption: str) -> str:
    """Return a picture of charts that share one span of time."""
    rows = -(-len(charts) // COLUMNS)
    width, height = COLUMNS * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        f'<style>{STYLE}</style><rect class="page" width="{width}" height="{height}"/>',
    ]
    for number, chart in enumerate(charts):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + GAP)
        parts.append(f'<g transform="translate({x} {y})">')
        parts += [*panel(chart, seconds), "</g>"]
    parts += [f'<text x="{GAP}" y="{height - 12}">{escape(caption)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def panel(chart: Chart, seconds: float) -> Iterator[str]:
    """Yield the parts of one chart, whose lines begin at zero."""
    values = [value for each in chart.series for _, value in each.points if isfinite(value)]
    top = rounded_up(max(values, default=0.0))
    yield f'<rect class="panel" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
    yield f'<text class="title" x="12" y="21">{escape(chart.title)}</text>'
    yield from grid(top, chart.unit, seconds)
    for number, each in enumerate(chart.series):
        for piece in pieces(each.points):
            line = " ".join(_place(at / seconds, value / top) for at, value in piece)
            yield f'<path stroke="{HUES[number % len(HUES)]}" d="M{line}"/>'
    yield from legend([each.name for each in chart.series])


def grid(top: float, unit: str, seconds: float) -> Iterator[str]:
    """Yield lines at four heights with their values, and the minutes below."""
    scale = 100 if unit == "percentunit" else 1
    for step in range(5):
        x, y = _place(0, step / 4).split(",")
        label = f"{top * scale * step / 4:.3g}{UNITS.get(unit, '') if step == 4 else ''}"
        yield f'<path class="grid" d="M{x} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 6}" y="{float(y) + 4:.0f}" text-anchor="end">{label}</text>'
    for minute in range(round(seconds) // 60):  # the last has no room for its name
        x, y = _place(minute * 60 / seconds, 0).split(",")
        yield f'<text x="{x}" y="{float(y) + 15:.0f}" text-anchor="middle">{minute} min</text>'


def legend(names: Sequence[str]) -> Iterator[str]:
    """Yield the names of the lines in their colours, as far as there is room."""
    x = 12.0
    for number, name in enumerate(names):
        if x + 16 + ENTRY * len(name) > WIDTH:
            yield f'<text x="{x:.0f}" y="{HEIGHT - 9}">…</text>'
            return
        hue = HUES[number % len(HUES)]
        yield f'<rect x="{x:.0f}" y="{HEIGHT - 17}" width="9" height="9" fill="{hue}"/>'
        yield f'<text x="{x + 13:.0f}" y="{HEIGHT - 9}">{escape(name)}</text>'
        x += 26 + ENTRY * len(name)


def pieces(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Yield the stretches of a line between values that are none, such as a share of nothing."""
    piece: list[tuple[float, float]] = []
    for at, value in points:
        if isfinite(value):
            piece.append((at, value))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def rounded_up(value: float) -> float:
    """Return the next of 1, 2, 4, 8 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{int(value)}") - 1) if value >= 1 else 1.0
    while power > value:
        power /= 10
    return next(factor * power for factor in (1, 2, 4, 8, 10) if factor * power >= value)


def _place(across: float, up: float) -> str:
    """Return a point, given as shares of the chart's width and height."""
    x = LEFT + across * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
    return f"{x:.1f},{y:.1f}"
