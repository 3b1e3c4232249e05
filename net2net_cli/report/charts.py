"""Error by depth, and histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from net2net_cli.report.markup import drawing, label, number, text
from net2net_cli.report.scale import Decades

State = Literal["equal", "own", "inherited"]
"""Of a layer's error: rounding at most; its own; or that of its inputs."""

LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 16.0, 28.0


@dataclass(frozen=True, slots=True)
class Point:
    """A compared layer."""

    name: str
    op: str
    error: float
    state: State


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram of one thing or two: `edges` is `(n + 1,)`, each of `counts` `(n,)`."""

    title: str
    edges: Sequence[float]
    counts: Sequence[tuple[str, Sequence[int]]]
    logarithms: bool
    note: str = ""


def error_by_depth(points: Sequence[Point], tolerance: float, width: float = 1040.0, height: float = 260.0) -> str:
    """One point for each layer that was compared, from the input to the output."""
    axis = Decades.over([p.error for p in points], tolerance)
    inner, tall = width - LEFT - RIGHT, height - TOP - BOTTOM

    def y(error: float) -> float:
        return TOP + tall * (1 - axis.at(error))

    def x(place: int) -> float:
        return LEFT + inner * (place + 0.5) / max(len(points), 1)

    parts = [_line(LEFT, y(10.0**t), width - RIGHT, y(10.0**t), "grid") for t in axis.ticks()]
    parts += [label(LEFT - 8, y(10.0**t) + 4, f"1e{t}", "axis", "end") for t in axis.ticks()]
    parts += [_line(LEFT, y(0), width - RIGHT, y(0), "grid"), label(LEFT - 8, y(0) + 4, "0", "axis", "end")]
    parts += [_line(LEFT, y(tolerance), width - RIGHT, y(tolerance), "allowed")]
    parts += [label(width - RIGHT, y(tolerance) - 5, f"{tolerance:.2g} is allowed", "allowed", "end")]
    parts += [_point(x(i), y(p.error), p) for i, p in enumerate(points)]
    for at, anchor in ((0, "start"), (len(points) - 1, "end")):
        parts.append(label(x(at), height - 8, points[at].name, "axis", anchor))
    return drawing(width, height, f"error of {len(points)} layers by depth, on a logarithmic scale", parts, "chart")


def _point(x: float, y: float, point: Point) -> str:
    size = {"equal": 2.5, "inherited": 3.0, "own": 5.0}[point.state]
    told = {"equal": "", "inherited": ", inherited", "own": ", its own"}[point.state]
    title = f"{point.name} ({point.op}): {said(point.error)}{told}"
    circle = f'<circle cx="{number(x)}" cy="{number(y)}" r="{size}" class="{point.state}">'
    return f"{circle}<title>{text(title)}</title></circle>"


def said(error: float) -> str:
    """An error for people."""
    return f"{error:.2g}" if math.isfinite(error) else "infinite"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    ends = " ".join(f'{k}="{number(v)}"' for k, v in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2)))
    return f'<line {ends} class="{kind}"/>'


def histogram(bars: Bars, width: float = 512.0, height: float = 200.0) -> str:
    """The first of two as an area, the second as a line over it."""
    inner, tall = width - 2 * RIGHT, height - TOP - BOTTOM - 18
    top = max((max(counts, default=0) for _, counts in bars.counts), default=0) or 1
    base = height - BOTTOM

    def step(i: int) -> float:
        return RIGHT + inner * i / (len(bars.edges) - 1)

    parts = [label(RIGHT, 14, bars.title, "title"), label(width - RIGHT, 14, bars.note, "axis", "end")]
    for which, (name, counts) in enumerate(bars.counts):
        heights = [base - tall * count / top for count in counts]
        steps = "".join(f"L{number(step(i))} {number(h)}H{number(step(i + 1))}" for i, h in enumerate(heights))
        path = f"M{number(step(0))} {number(base)}{steps}V{number(base)}"
        kind = ("teacher", "student")[which] if len(bars.counts) > 1 else "apart"
        parts.append(f'<path d="{path}" class="{kind}"><title>{text(name)}</title></path>')
    parts.append(_line(RIGHT, base, width - RIGHT, base, "grid"))
    ends = (bars.edges[0], bars.edges[-1])
    names = [f"1e{e:.0f}" if bars.logarithms else f"{e:.3g}" for e in ends]
    parts += [label(RIGHT, height - 10, names[0], "axis"), label(width - RIGHT, height - 10, names[1], "axis", "end")]
    parts.append(label(width / 2, height - 10, f"at most {top:,} in a bin", "axis", "middle"))
    return drawing(width, height, f"histogram: {bars.title}", parts, "chart")
