"""Where two networks part, for people and for programs."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.printing import bold, styled, terminal_width
from net2net_cli.cli.tables import GAP, cells, facts, pad, plural
from net2net_cli.report.scale import Decades

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.correspondence import Correspondence
    from net2net_cli.model import Net2Net
    from net2net_cli.runtime.locating import LayerError, Located

MOST_ROWS = 24
MOST_ALONE = 6
"""How many layers that differ by themselves have rows of their own among many, and are looked into."""

BAR = 24
OWN, INHERITED = "1;31", "33"
"""How errors of a layer's own, and errors that it inherits, are coloured."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layer reads.

    Attributes:
        value: the nearest compared layer before it, or the network's input.
        error: its error.
        through: layers between the two, which return nothing that the teacher has.
    """

    value: str
    error: float
    through: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """All that is told of where two networks part.

    Attributes:
        student: the student's graph.
        located: the errors.
        common: what could be compared, and why so.
        changed: layer -> what of it is not as it was grown; for the first layers that differ by themselves.
    """

    student: Graph
    located: Located
    common: Correspondence
    changed: Mapping[str, Sequence[str]]

    @property
    def first(self) -> LayerError | None:
        """The first layer that differs by itself."""
        return next(iter(self.located.culprits), None)

    @property
    def not_compared(self) -> list[str]:
        """Layers of the student that return nothing that the teacher has."""
        compared = {layer.name for layer in self.located.layers}
        return [layer.name for layer in self.student.layers if layer.name not in compared]

    def readings(self, name: str) -> list[Reading]:
        """What a layer reads, as far back as something was compared."""
        errors = {layer.name: layer.error for layer in self.located.layers}
        found: dict[str, Reading] = {}
        waiting: list[tuple[str, tuple[str, ...]]] = [(value, ()) for value in self.student.by_name[name].inputs]
        while waiting:
            value, through = waiting.pop(0)
            layer = self.student.by_name.get(value)
            if layer is None or value in errors:
                found.setdefault(value, Reading(value, errors.get(value, 0.0), through))
            elif value not in through:
                waiting += [(before, (*through, value)) for before in layer.inputs]
        return list(found.values())


def finding(student: Net2Net, located: Located, common: Correspondence) -> Finding:
    """What is told; the layers that differ by themselves are held against what they were grown to be."""
    from net2net_cli.correspondence import changed_since

    bare = Finding(student.graph, located, common, {})
    suspects = [name for layer in located.culprits[:MOST_ALONE] for name in _suspects(bare, layer.name)]
    expected = common.expected
    changed = {name: changed_since(expected, student, name) for name in suspects} if expected is not None else {}
    return Finding(student.graph, located, common, {name: said for name, said in changed.items() if said})


def _suspects(found: Finding, name: str) -> list[str]:
    """The layer, the owner of its weights, and what stands before it that was not compared."""
    between = [one for reading in found.readings(name) for one in reading.through]
    owners = [found.student.by_name[one].owner for one in (name, *between)]
    return list(dict.fromkeys((name, *between, *owners)))


def located_payload(found: Finding) -> dict[str, Any]:
    """Stable keys; a number that is not finite is null.

    `source` (`growth`: what both have is known from the growth; `shapes`: layers of equal names and shapes were
    compared), `why` (no growth could say it, or null), `tolerance`, `samples`, `first` (the first layer that differs by
    itself, or null: `name`, `op`, `error`, `own`, `place`, `expected`, `found`, `inputs`, and what of it and of some
    others was `changed` since it was grown), `culprits` (names
    of all that do), `layers` (all that were compared, in order: `name`, `teacher`, `op`, `error`, `own`) and
    `not_compared`.
    """
    located = found.located
    return {
        "source": found.common.source,
        "why": found.common.why,
        "tolerance": located.tolerance,
        "samples": located.samples,
        "first": None if found.first is None else _first_payload(found, found.first),
        "culprits": [layer.name for layer in located.culprits],
        "layers": [
            {
                "name": layer.name,
                "teacher": layer.teacher,
                "op": _op(found, layer.name),
                "error": _finite(layer.error),
                "own": None if layer.own is None else _finite(layer.own),
            }
            for layer in located.layers
        ],
        "not_compared": found.not_compared,
    }


def _first_payload(found: Finding, first: LayerError) -> dict[str, Any]:
    return {
        "name": first.name,
        "op": _op(found, first.name),
        "error": _finite(first.error),
        "own": None if first.own is None else _finite(first.own),
        "place": list(first.place),
        "expected": _finite(first.expected),
        "found": _finite(first.found),
        "inputs": [
            {"name": r.value, "error": _finite(r.error), "through": list(r.through)} for r in found.readings(first.name)
        ],
        "changed": {name: list(said) for name, said in found.changed.items()},
    }


def _op(found: Finding, name: str) -> str:
    return found.student.by_name[name].op.name


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def located_text(found: Finding) -> str:
    """A picture of the error by depth, and the first layer that differs."""
    return f"{picture(found)}\n\n{facts(verdict(found))}"


def verdict(found: Finding) -> list[tuple[str, str]]:
    """What was found, as names and sentences."""
    first, located = found.first, found.located
    compared = f"{plural(len(located.layers), 'layer')} on {plural(located.samples, 'input')}"
    others = f"; {len(found.not_compared)} more have no counterpart" if found.not_compared else ""
    rows = [("compared", compared + others)]
    if found.common.source == "shapes":
        rows.append(("compared by", f"names and shapes alone, since {found.common.why}"))
    if first is None:
        return [*rows, ("first that differs", _none_differs(found))]
    readings = found.readings(first.name)
    rows += [
        ("first that differs", f"`{first.name}` ({_op(found, first.name)})"),
        ("its own error", f"{_number(first.own or 0.0)} standard deviations, given the teacher's inputs"),
        ("its inputs", "; ".join(_reading(reading) for reading in readings) or "it has none"),
        ("largest there", f"at {list(first.place)}: {first.expected:.6g} expected, {first.found:.6g} found"),
    ]
    changed = [one for said in found.changed.values() for one in said]
    rows += [("changed", one) for one in changed[:MOST_ALONE]]
    rows += [("", f"and {len(changed) - MOST_ALONE} more")] * (len(changed) > MOST_ALONE)
    if len(located.culprits) > 1:
        rows.append(("differ as well", _names([layer.name for layer in located.culprits[1:]])))
    return rows


def _none_differs(found: Finding) -> str:
    worst = found.located.worst
    if worst is None:
        return "nothing could be compared"
    if worst.error == 0:
        return "none: all are equal to the last bit"
    if worst.error <= found.located.tolerance:
        return f"none: no layer differs by more than {_number(worst.error)} standard deviations (`{worst.name}`)"
    return f"none: each differs by rounding alone, which adds up to {_number(worst.error)} at `{worst.name}`"


def _reading(reading: Reading) -> str:
    through = f", through {_names(list(reading.through))}" if reading.through else ""
    return f"`{reading.value}` differs by {_number(reading.error)}{through}"


def _names(names: Sequence[str], most: int = 4) -> str:
    said = ", ".join(f"`{name}`" for name in names[:most])
    return f"{said} and {len(names) - most} more" if len(names) > most else said


def _number(error: float) -> str:
    return f"{error:.2g}" if math.isfinite(error) else "infinity"


@dataclass(frozen=True, slots=True)
class _Row:
    """Neighbouring layers in one row of the picture."""

    layers: Sequence[LayerError]

    @property
    def error(self) -> float:
        return max(layer.error for layer in self.layers)

    @property
    def number(self) -> str:
        return "" if len(self.layers) == 1 else f"+{len(self.layers) - 1}"


def picture(found: Finding) -> str:
    """One row for a layer, or for some neighbours: a bar as long as the logarithm of their largest error."""
    located = found.located
    if not located.layers:
        return "no layer could be compared"
    rows = [_Row(layers) for layers in _buckets(located.layers, located.culprits)]
    scale = Decades.over([layer.error for layer in located.layers], located.tolerance)
    last = 9
    terminal = terminal_width()
    room = max(cells(row.layers[0].name) for row in rows)
    more = max(len(row.number) for row in rows)
    if terminal is not None:
        room = min(room, max(12, terminal - 3 * len(GAP) - BAR - last - more))
    head = f"{pad(middle('error by depth', room), room)}{GAP}{' ' * more}{GAP}{_ruler(scale, located.tolerance)}"
    body = [_line(row, found, scale, room, more) for row in rows]
    return "\n".join([bold(head.rstrip()), *body])


def _line(row: _Row, found: Finding, scale: Decades, room: int, more: int) -> str:
    tolerance = found.located.tolerance
    own = any(layer.own is not None and not layer.own <= tolerance for layer in row.layers)
    code = OWN if own else INHERITED if row.error > tolerance else ""
    name = pad(middle(row.layers[0].name, room), room)
    bar = _bar(scale.at(row.error), scale.at(tolerance))
    text = f"{pad(row.number, more)}{GAP}"
    number = f"{GAP}{_number(row.error)}"
    if not code:
        return f"{name}{GAP}{text}{bar}{number}"
    mark = " ◀" if found.first is not None and found.first in row.layers else ""
    return styled(sys.stdout, name, code) + GAP + text + styled(sys.stdout, bar, code) + number + mark


def _buckets(layers: Sequence[LayerError], alone: Sequence[LayerError]) -> list[Sequence[LayerError]]:
    """Neighbours that share a row; some layers have a row of their own."""
    if len(layers) <= MOST_ROWS:
        return [[layer] for layer in layers]
    size = math.ceil(len(layers) / (MOST_ROWS - 4))
    cuts = sorted({at + i for at in map(layers.index, alone[:MOST_ALONE]) for i in (0, 1)})
    borders = [0, *cuts, len(layers)]
    starts = [i for a, b in pairwise(borders) for i in range(a, b, size)]
    return [layers[a:b] for a, b in zip(starts, [*starts[1:], len(layers)], strict=True)]


def _bar(place: float, mark: float) -> str:
    """A bar of blocks, `BAR` cells long at place 1; a line stands at the mark."""
    eighths = round(place * BAR * 8)
    track = [*("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()).ljust(BAR)]
    at = min(int(mark * BAR), BAR - 1)
    if track[at] == " ":
        track[at] = "┊"
    return "".join(track)


def _ruler(scale: Decades, tolerance: float) -> str:
    """The ends of the scale, and what is allowed."""
    low, high = f"1e{scale.low}", f"1e{scale.high}"
    mark = int(scale.at(tolerance) * BAR)
    line = low.ljust(BAR - len(high)) + high
    allowed = f"{tolerance:.0e}".replace("e-0", "e-").replace("e+0", "e")
    label = f"┊{allowed}"
    if len(low) < mark and mark + len(label) < BAR - len(high):
        line = line[:mark] + label + line[mark + len(label) :]
    return line


def middle(text: str, room: int) -> str:
    """Cut in the middle to a number of cells: both ends of a layer's name tell it apart."""
    if cells(text) <= room:
        return text
    front = (room - 1) // 2
    back = room - 1 - front
    return f"{text[:front]}…{text[len(text) - back :]}"
