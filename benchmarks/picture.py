"""A picture of the comparison, drawn from the figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.goals import PEER_TARGETS, PEER_TITLES, throughput_over
from benchmarks.rounds import Row, Summary
from benchmarks.subjects import DJANGO_EQUAL, FASTAPI_EQUAL

EQUAL = (FASTAPI_EQUAL.key, DJANGO_EQUAL.key)
WIDTH = 720
LABEL_WIDTH = 250
BAR_HEIGHT = 18
STEP = 30
TOP = 64
LEGEND = (
    "median of rounds, smallest to largest; red: to reach",
    "blue: peers without telemetry; green: peers that do equal work, telemetry included",
)
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.s{fill:#57606a}"
    ".b{fill:#4a7ebb}.e{fill:#2a7f62}.r{stroke:#24292f;stroke-width:1.5}"
    ".o{stroke:#8c959f;stroke-dasharray:3 3}.g{stroke:#c0392b;stroke-width:2}.k{fill:#fff}"
)


class Bar(NamedTuple):
    """Our throughput over one peer's, and what it should be."""

    style: str
    label: str
    ratio: Summary
    target: float


def draw(rows: Sequence[Row]) -> str:
    """Return an SVG: a bar for each peer and workload, its spread, and the mark to reach."""
    bars = [
        Bar(
            "e" if peer in EQUAL else "b",
            f"{workload} over {title}",
            ratio,
            PEER_TARGETS[peer][workload],
        )
        for workload in ("W1", "W2")
        for peer, title in PEER_TITLES.items()
        if (ratio := throughput_over(peer, workload)(rows)) is not None
    ]
    largest = max((max(bar.ratio.high, bar.target) for bar in bars), default=1.0)
    height = TOP + STEP * len(bars) + 30
    scale = (WIDTH - LABEL_WIDTH - 60) / largest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>Throughput of this service over its peers</title><style>{STYLE}</style>",
        f'<rect class="k" width="{WIDTH}" height="{height}"/>',
        '<text class="t" x="12" y="22">Throughput of this service over its peers</text>',
        *(
            f'<text class="s" x="12" y="{39 + 16 * number}">{line}</text>'
            for number, line in enumerate(LEGEND)
        ),
        *(part for number, bar in enumerate(bars) for part in _draw(number, bar, scale)),
        _line("o", LABEL_WIDTH + scale, TOP, LABEL_WIDTH + scale, height - 26),
        f'<text class="s" x="{LABEL_WIDTH + scale - 17:.1f}" y="{height - 10}">equal</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _draw(number: int, bar: Bar, scale: float) -> Iterator[str]:
    top = TOP + STEP * number
    middle = top + BAR_HEIGHT / 2
    ratio = bar.ratio
    end, low, high, mark = (
        LABEL_WIDTH + scale * value for value in (ratio.median, ratio.low, ratio.high, bar.target)
    )
    yield f'<text x="12" y="{middle + 4:.1f}">{escape(bar.label)}</text>'
    yield (
        f'<rect class="{bar.style}" x="{LABEL_WIDTH}" y="{top}"'
        f' width="{end - LABEL_WIDTH:.1f}" height="{BAR_HEIGHT}"/>'
    )
    yield _line("r", low, middle, high, middle)
    yield _line("g", mark, top - 3, mark, top + BAR_HEIGHT + 3)
    yield f'<text x="{max(high, mark) + 8:.1f}" y="{middle + 4:.1f}">{ratio.median:.2f}</text>'


def _line(style: str, left: float, top: float, right: float, bottom: float) -> str:
    return (
        f'<line class="{style}" x1="{left:.1f}" y1="{top:.1f}" x2="{right:.1f}" y2="{bottom:.1f}"/>'
    )
