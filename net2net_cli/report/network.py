"""The drawing of a network: a row for each layer, in the order in which they run, and lines for what they read.

Every value has a lane of its own from the layer that makes it to the last one that reads it, as branches have in the
drawing of a history. So any network of any size has its picture, and depth reads from top to bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from net2net_cli.report.charts import State, said
from net2net_cli.report.markup import drawing, label, number, text
from net2net_cli.report.scale import Decades

Kind = Literal["same", "wider", "new", "adapted", "input"]

ROW = 18.0
CHARACTER = 7.3
"""Width of one character of the font."""

BAR = 150.0

HEADINGS = ("layer", "op", "width", "error, logarithmic")


@dataclass(frozen=True, slots=True)
class Node:
    """A layer of the student, or an input.

    Attributes:
        name: of the value that it makes.
        inputs: names of the values that it reads.
        kind: what the growth did to it.
        width: `64 → 96`, or empty.
        error: None where it was not compared.
        own: the error given the teacher's inputs, where that was tried.
        state: of the error.
        returned: the output's name, if it is one.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    kind: Kind
    width: str = ""
    error: float | None = None
    own: float | None = None
    state: State = "equal"
    returned: str = ""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Where each node stands: `lane[i]` of node i, and how many lanes there are."""

    lane: tuple[int, ...]
    count: int


def lanes(nodes: Sequence[Node]) -> Lanes:
    """The leftmost lane that is free, or the first input's own where nobody else reads it afterwards."""
    last = {value: i for i, node in enumerate(nodes) for value in (node.name, *node.inputs)}
    free_from: list[int] = []
    lane_of: dict[str, int] = {}
    for i, node in enumerate(nodes):
        straight = next((lane_of[v] for v in node.inputs[:1] if v in lane_of and free_from[lane_of[v]] <= i), None)
        lane = (
            straight if straight is not None else next((n for n, f in enumerate(free_from) if f <= i), len(free_from))
        )
        if lane == len(free_from):
            free_from.append(0)
        free_from[lane] = last[node.name]
        lane_of[node.name] = lane
    return Lanes(tuple(lane_of[node.name] for node in nodes), len(free_from))


def network(nodes: Sequence[Node], tolerance: float) -> str:
    """The drawing; the first layer that differs by itself has the id `first`."""
    place = lanes(nodes)
    step = min(12.0, max(3.5, 240.0 / place.count))
    columns = _columns(nodes, 14 + place.count * step)
    axis = Decades.over([n.error for n in nodes if n.error is not None], tolerance)
    compared = any(node.error is not None for node in nodes)
    first = next((i for i, n in enumerate(nodes) if n.state == "own"), None)
    parts = [*_edges(nodes, place, step)]
    for i, node in enumerate(nodes):
        identity = ' id="first"' if i == first else ""
        inside = [_band(i, columns[-1]), _mark(node, 10 + place.lane[i] * step, _middle(i)), *_texts(node, i, columns)]
        inside += _bar(node, i, columns[3], axis, tolerance)
        parts.append(f'<g class="row"{identity}><title>{text(_title(node))}</title>{"".join(inside)}</g>')
    parts += [
        label(x, ROW - 5, said, "axis")
        for x, said in zip(columns, HEADINGS if compared else HEADINGS[:3], strict=False)
    ]
    return drawing(columns[-1], ROW * (len(nodes) + 1), f"the student's {len(nodes)} layers", parts, "network")


def _middle(row: int) -> float:
    return ROW * (row + 1.5)  # below the headings


def _columns(nodes: Sequence[Node], start: float) -> tuple[float, ...]:
    """Where names, ops, widths and errors begin, and the whole width."""
    names, ops, widths = (
        max((len(text) for text in column), default=0) * CHARACTER + 18
        for column in ([n.name for n in nodes], [n.op for n in nodes], [n.width for n in nodes])
    )
    errors = start + names + ops + widths
    return start, start + names, start + names + ops, errors, errors + BAR + 190


def _edges(nodes: Sequence[Node], place: Lanes, step: float) -> list[str]:
    """One path for each value: down its lane, and from there to each reader."""
    rows = {node.name: i for i, node in enumerate(nodes)}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for value in dict.fromkeys(node.inputs):
            readers.setdefault(value, []).append(i)
    found = []
    for value, reading in readers.items():
        if value not in rows:
            continue
        own = place.lane[rows[value]]
        x = 10 + own * step
        straight = [i for i in reading if place.lane[i] == own]
        down = max([_middle(i) for i in straight] + [_middle(i) - ROW for i in reading if i not in straight])
        path = f"M{number(x)} {number(_middle(rows[value]))}V{number(down)}"
        for i in (i for i in reading if i not in straight):
            to, y = 10 + place.lane[i] * step, _middle(i)
            path += f"M{number(x)} {number(y - ROW)}Q{number(x)} {number(y)} {number(to)} {number(y)}"
        found.append(f'<path d="{path}" class="edge"/>')
    return found


def _band(row: int, width: float) -> str:
    top, wide = number(_middle(row) - ROW / 2), number(width)
    return f'<rect x="0" y="{top}" width="{wide}" height="{number(ROW)}" class="band"/>'


def _mark(node: Node, x: float, y: float) -> str:
    """A circle; a square for a new layer, so that colour is not all that tells them apart."""
    ring = f'<circle cx="{number(x)}" cy="{number(y)}" r="7" class="ring"/>' if node.state == "own" else ""
    if node.kind == "new":
        return f'{ring}<rect x="{number(x - 4)}" y="{number(y - 4)}" width="8" height="8" class="new"/>'
    size = {"wider": 4.5, "adapted": 3.5}.get(node.kind, 3.0)
    return f'{ring}<circle cx="{number(x)}" cy="{number(y)}" r="{size}" class="{node.kind}"/>'


def _texts(node: Node, row: int, columns: Sequence[float]) -> list[str]:
    y = _middle(row) + 4
    returned = f" → output {node.returned}" if node.returned else ""
    said = [
        label(columns[0], y, node.name, node.kind),
        label(columns[1], y, node.op, "axis"),
        label(columns[2], y, node.width, node.kind),
    ]
    return said + ([label(columns[3] + BAR + 90, y, returned, "axis")] if returned else [])


def _bar(node: Node, row: int, x: float, axis: Decades, tolerance: float) -> list[str]:
    """The error on the same scale as in the chart, with a mark at what is allowed."""
    if node.error is None:
        return []
    y, mark = _middle(row) - ROW / 2, x + BAR * axis.at(tolerance)
    size = f'width="{number(BAR * axis.at(node.error))}" height="{number(ROW - 8)}"'
    bar = f'<rect x="{number(x)}" y="{number(y + 4)}" {size} class="error {node.state}"/>'
    line = f'<line x1="{number(mark)}" y1="{number(y)}" x2="{number(mark)}" y2="{number(y + ROW)}" class="allowed"/>'
    told = said(node.error) + {"own": " ◀ its own", "inherited": "", "equal": ""}[node.state]
    return [bar, line, label(x + BAR + 8, y + ROW / 2 + 4, told, node.state if node.state != "equal" else "axis")]


def _title(node: Node) -> str:
    """What is shown while one points at the row."""
    lines = [f"{node.name} ({node.op})"]
    if node.kind != "same":
        lines.append(f"{node.kind} {node.width}".strip())
    if node.inputs:
        lines.append(f"reads {', '.join(node.inputs[:6])}" + (" …" if len(node.inputs) > 6 else ""))
    if node.error is None and node.kind != "input":
        lines.append("not compared: the teacher has no such value")
    elif node.error is not None:
        lines.append(f"error {said(node.error)}" + (f", its own {said(node.own)}" if node.own is not None else ""))
    return "\n".join(lines)
