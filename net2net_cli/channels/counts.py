"""How many copies each class of labels gets: whole numbers that meet the demanded widths and the ops' equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from net2net_cli.channels.labels import Freeze, Labels
from net2net_cli.channels.positions import run_student
from net2net_cli.channels.unions import Ints, components, distinct
from net2net_cli.errors import GrowthRefusedError

ATTEMPTS = 8
SEARCH = 4096
"""How far above an impossible width the next possible one is looked for."""

PROOFS = 8
"""How many widths that have a solution, but no proof, are tried before giving up."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A layer's labels shall have `width` copies in all."""

    layer: str
    labels: Ints
    width: int


class NoCountsError(Exception):
    """No numbers of copies meet the demands; holds the layer whose equation failed, and why."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(why)
        self.layer = layer
        self.why = why


@dataclass(slots=True)
class _Row:
    """Sections of classes whose sums must equal `target`, or one another where there is no target."""

    sections: Ints
    target: int | None
    layer: str

    def sums(self, counts: Ints) -> Ints:
        found: Ints = counts[self.sections].sum(axis=1)
        return found

    def deficits(self, counts: Ints) -> Ints:
        sums = self.sums(counts)
        goal = sums.max() if self.target is None else self.target
        found: Ints = goal - sums
        return found


class _Component:
    """Rows that hang together through the classes in them, and the classes that may have copies."""

    def __init__(self, rows: list[_Row], frozen: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        self.rows = rows
        self.frozen = frozen
        self.where: dict[int, list[int]] = {}
        for number, row in enumerate(self.rows):
            for member in distinct(row.sections).tolist():
                self.where.setdefault(member, []).append(number)
        self.asked = [(r, np.bincount(r.sections[0], minlength=frozen.size)) for r in rows if r.target is not None]

    def fill(self, counts: Ints) -> None:
        """Whole multiples first: giving every class as many more copies keeps every equation."""
        free = [(~self.frozen[r.sections]).sum(axis=1) for r in self.rows]
        pairs = list(zip(self.rows, free, strict=True))
        if any(r.target is None and distinct(n).size > 1 for r, n in pairs):
            return
        steps = [int(r.deficits(counts)[0]) // int(n[0]) for r, n in pairs if r.target is not None and n[0]]
        members = distinct(np.concatenate([r.sections.ravel() for r in self.rows]))
        counts[members[~self.frozen[members]]] += min(steps, default=0)

    def repair(self, counts: Ints, rng: np.random.Generator) -> None:
        """One copy at a time, to a class drawn among those that have fewest, until no row lacks any.

        Raises:
            NoCountsError: a row lacks copies, and no class can get one.
        """
        while True:
            lacking = next((r for r in self.rows if r.deficits(counts).any()), None)
            if lacking is None:
                return
            deficits = lacking.deficits(counts)
            section = int(np.argmax(deficits))
            members, times = np.unique(lacking.sections[section], return_counts=True)
            able = self._able(lacking, members, times, int(deficits[section]), counts)
            if able.size and self._alone(able):
                chosen = self._fewest(able, counts, min(int(deficits[section]), able.size), rng)
                counts[chosen] += 1
                continue
            able = self._with_room(able, counts)
            if not able.size:
                raise NoCountsError(lacking.layer, self._explain(lacking, section))
            counts[self._fewest(able, counts, 1, rng)] += 1

    def _able(self, row: _Row, members: Ints, times: Ints, deficit: int, counts: Ints) -> Ints:
        """Classes that bring a section nearer to what it lacks.

        Where none is small enough, as whole heads are not beside single channels, equal sections may overshoot one
        another, as far as the largest demand: the others follow.
        """
        free = ~self.frozen[members]
        able: Ints = members[free & (times <= deficit)]
        if not able.size and row.target is None:
            section = row.sums(counts).max() - deficit
            able = members[free & (times <= max(r.target or 0 for r, _ in self.asked) - section)]
        return able

    def _alone(self, classes: Ints) -> bool:
        """Whether each class stands in one row once, so that several may be drawn together."""
        if any(len(self.where[c]) > 1 for c in classes.tolist()):
            return False
        row = self.rows[self.where[int(classes[0])][0]]
        return bool(np.isin(row.sections, classes).sum() == classes.size)

    @staticmethod
    def _fewest(able: Ints, counts: Ints, how_many: int, rng: np.random.Generator) -> Ints:
        order = np.lexsort((rng.random(able.size), counts[able]))
        return able[order[:how_many]]

    def _with_room(self, able: Ints, counts: Ints) -> Ints:
        """Those of which one more copy overshoots no demand."""
        for row, times in self.asked:
            able = able[(times[able] == 0) | (times[able] <= row.deficits(counts)[0])]
        return able

    def _explain(self, row: _Row, section: int) -> str:
        members = row.sections[section]
        if self.frozen[members].all():
            return "its channels cannot have copies"
        if row.target is None:
            return f"needs {len(row.sections)} sections of equal size"
        times = distinct(np.unique(members[~self.frozen[members]], return_counts=True)[1])
        if times.min() > 1:
            return f"its channels only grow {times.min()} at a time"
        return "the equations of the layers that are coupled to it leave no such width"


def _components(labels: Labels, demands: Sequence[Demand]) -> list[_Component]:
    """The demands with the equations that they reach, taken apart where no class connects them."""
    frozen = np.zeros(labels.classes, dtype=bool)
    frozen[list(labels.frozen)] = True
    asked = {(np.sort(labels.group[d.labels]).tobytes(), d.width): d for d in demands}  # a group's layers ask the same
    rows = [_Row(labels.group[d.labels][None, :], d.width, d.layer) for d in asked.values()]
    every = [_Row(labels.group[p.labels], None, p.layer) for p in labels.found.parts]
    chains = [(r.sections.ravel()[:-1], r.sections.ravel()[1:]) for r in [*rows, *every]]
    part = components(labels.classes, chains)
    together: dict[int, list[_Row]] = {int(part[r.sections[0, 0]]): [] for r in rows}
    # Equations come first: they are repaired after every copy, so that no demand is filled lopsidedly.
    for row in [*every, *rows]:
        root = int(part[row.sections[0, 0]])
        if root in together:
            together[root].append(row)
    return [_Component(members, frozen) for members in together.values()]


def solve(labels: Labels, demands: Sequence[Demand], rng: np.random.Generator) -> Ints:
    """Copies of each class: as even as the widths allow; which channels get one more is drawn at random.

    Args:
        labels: of the teacher.
        demands: the widths that are asked for; classes that no demand reaches keep one copy.
        rng: the source of the draw.

    Returns:
        `(classes,)`, at least 1.

    Raises:
        NoCountsError: no numbers were found.
    """
    for demand in demands:
        if (labels.is_frozen(demand.labels)).all() and demand.width != demand.labels.size:
            raise NoCountsError(demand.layer, "its channels cannot have copies")
    counts = np.ones(labels.classes, dtype=np.int64)
    for component in _components(labels, demands):
        _settle(component, counts, rng)
    return counts


def _settle(component: _Component, counts: Ints, rng: np.random.Generator) -> None:
    """Copies for one component, in several attempts, since the draw may run into a dead end."""
    members = np.array(list(component.where), dtype=np.int64)
    failure: NoCountsError | None = None
    for _ in range(ATTEMPTS):
        counts[members] = 1
        component.fill(counts)
        try:
            component.repair(counts, rng)
        except NoCountsError as failed:
            failure = failure or failed
            continue
        return
    assert failure is not None
    raise failure


def next_width(labels: Labels, demand: Demand, others: Sequence[Demand] = ()) -> int | None:
    """The smallest width above the demanded one that has a solution and a proof, or None where none was found."""
    rng = np.random.default_rng(0)
    sizes = {p.labels.shape[0] for p in labels.found.parts}
    stop = demand.width + min(SEARCH, 2 * demand.labels.size + 2 + max(sizes, default=0))
    unproven = 0
    for width in range(demand.width + 1, stop):
        try:
            run_student(labels, solve(labels, [Demand(demand.layer, demand.labels, width), *others], rng))
        except NoCountsError:
            continue
        except GrowthRefusedError:
            unproven += 1
            if unproven == PROOFS:
                return None
            continue
        return width
    return None


def refuse(labels: Labels, demand: Demand, failed: NoCountsError, others: Sequence[Demand]) -> GrowthRefusedError:
    """The refusal of a width: names the layer, the equation, and the next width that has a solution."""
    layer = demand.layer
    freeze = labels.why_frozen(demand.labels)
    if freeze is not None and labels.is_frozen(demand.labels).all():
        return frozen_refusal(layer, freeze)
    better = next_width(labels, demand, others)
    hint = (
        f"use `{layer}={better}`, or another width that fits" if better else "name the other layer of the pair as well"
    )
    return GrowthRefusedError(impossible(demand, failed), hint, layer=layer)


def impossible(demand: Demand, failed: NoCountsError) -> str:
    """What is said of a width without a solution."""
    where = "it " if failed.layer == demand.layer else f"`{failed.layer}` "
    why = failed.why if failed.why.startswith(("its", "the")) else f"{where}{failed.why}"
    return f"`{demand.layer}` cannot be widened to {demand.width}: {why}"


def frozen_refusal(layer: str, freeze: Freeze) -> GrowthRefusedError:
    """The refusal to widen a layer whose channels cannot have copies."""
    where = "it" if freeze.layer == layer else f"`{freeze.layer}`"
    return GrowthRefusedError(
        f"`{layer}` cannot be widened: {where} {freeze.why}",
        "`net2net inspect` shows which layers can be widened",
        layer=layer,
    )
