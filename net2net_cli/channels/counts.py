"""How many copies each class of labels gets: whole numbers that meet the demanded widths and the ops' equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd

import numpy as np

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.shape import Rearrange
from net2net_cli.channels.collected import Freeze
from net2net_cli.channels.labels import Labels, find_labels
from net2net_cli.channels.positions import run_student
from net2net_cli.channels.student import StudentRun
from net2net_cli.channels.tails import TailRule
from net2net_cli.channels.unions import Ints, components, distinct
from net2net_cli.errors import GrowthRefusedError

ATTEMPTS = 8
OVERSHOOTS = 4096
"""How often sections that grow in steps of different sizes may overtake one another before they are given up."""

SEARCH = 4096
"""How far above an impossible width the next possible one is looked for."""

FROZEN = "its channels cannot have copies"

PROOFS = 8
"""How many widths that have a solution, but no proof, are tried before giving up."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A layer's labels shall have `width` copies in all."""

    layer: str
    labels: Ints
    width: int


class NoCountsError(Exception):
    """No numbers of copies meet the demands; holds the layer whose equation failed, why, and what it is about."""

    def __init__(self, layer: str, why: str, classes: Ints | None = None) -> None:
        super().__init__(why)
        self.layer = layer
        self.why = why
        self.classes = classes


@dataclass(slots=True)
class _Row:
    """Sections of classes whose sums must equal `target`, or one another where there is no target."""

    sections: Ints
    target: int | None
    layer: str
    why: str = ""

    def sums(self, counts: Ints) -> Ints:
        found: Ints = counts[self.sections].sum(axis=1)
        return found

    def deficits(self, counts: Ints) -> Ints:
        sums = self.sums(counts)
        goal = sums.max() if self.target is None else self.target
        found: Ints = goal - sums
        return found


class _Component:
    """Rows that hang together through the classes in them, and the classes that may have copies.

    Args:
        rows: in which lengths of tails stand as classes of their own, from `labels.classes` up, and `labels.nothing`
            where a section has none.
        labels: of the teacher.
    """

    def __init__(self, rows: list[_Row], labels: Labels) -> None:
        _share_targets(rows, labels.nothing)
        # Sections whose sum nobody knows come first: they are made equal again after every copy.
        self.rows = rows = sorted(rows, key=lambda row: row.target is not None)
        self.frozen = np.zeros(labels.nothing + 1, dtype=bool)
        self.frozen[[*labels.frozen, labels.nothing]] = True
        self.fixed = self.frozen.copy()
        self.fixed[labels.classes :] = True
        self.rules = list(labels.tails.items())
        self.barred = labels.barred
        found = np.sort(np.concatenate([distinct(row.sections) for row in rows]))
        self.members = distinct(found[found != labels.nothing])
        self._in_several = distinct(found[1:][found[1:] == found[:-1]])

    @cached_property
    def _asked(self) -> list[tuple[_Row, int, Ints]]:
        """Sections whose sum is known: the row, the number, and how often each class stands there."""
        size = self.frozen.size
        known = ((r, i, section) for r in self.rows if r.target is not None for i, section in enumerate(r.sections))
        return [(r, i, np.bincount(section, minlength=size)) for r, i, section in known]

    def fill(self, counts: Ints) -> None:
        """Whole multiples first: giving every class as many more copies keeps every equation."""
        free = [(~self.fixed[r.sections]).sum(axis=1) for r in self.rows]
        pairs = list(zip(self.rows, free, strict=True))
        if any(r.target is None and distinct(n).size > 1 for r, n in pairs):
            return
        steps = [
            int(deficit) // int(m)
            for r, n in pairs
            if r.target is not None
            for deficit, m in zip(r.deficits(counts), n, strict=True)
            if m
        ]
        members = distinct(np.concatenate([r.sections.ravel() for r in self.rows]))
        counts[members[~self.fixed[members]]] += min(steps, default=0)

    def settle_tails(self, counts: Ints) -> None:
        """A tail as long as the stream is one more copy of it."""
        for number, rule in self.rules:
            more, counts[rule.slot] = divmod(int(counts[rule.slot]), rule.size)
            counts[number] += more

    def repair(self, counts: Ints, rng: np.random.Generator) -> None:
        """One copy at a time, to a class drawn among those that have fewest, until no row lacks any.

        Raises:
            NoCountsError: a row lacks copies, and no class can get one.
        """
        overshoots = 0
        while True:
            lacking = next((r for r in self.rows if r.deficits(counts).any()), None)
            if lacking is None:
                return
            deficits = lacking.deficits(counts)
            section = int(np.argmax(deficits))
            members, times = np.unique(lacking.sections[section], return_counts=True)
            able = members[(~self.frozen[members]) & (times <= deficits[section])]
            if not able.size and lacking.target is None:  # the other sections catch up
                able = members[~self.frozen[members]]
                overshoots += 1
            if able.size and self._alone(able):
                chosen = self._fewest(able, counts, min(int(deficits[section]), able.size), rng)
                counts[chosen] += 1
                continue
            able = self._with_room(able, counts)
            if not able.size or overshoots > OVERSHOOTS:
                raise NoCountsError(lacking.layer, self._explain(lacking, section), lacking.sections[section])
            counts[self._fewest(able, counts, 1, rng)] += 1

    def _alone(self, classes: Ints) -> bool:
        """Whether each class stands in one row once, so that several may be drawn together."""
        if np.isin(classes, self._in_several).any():
            return False
        row = next(row for row in self.rows if (row.sections == classes[0]).any())
        return bool(np.isin(row.sections, classes).sum() == classes.size)

    @staticmethod
    def _fewest(able: Ints, counts: Ints, how_many: int, rng: np.random.Generator) -> Ints:
        order = np.lexsort((rng.random(able.size), counts[able]))
        return able[order[:how_many]]

    def _with_room(self, able: Ints, counts: Ints) -> Ints:
        """Those of which one more copy overshoots no section whose sum is known."""
        for row, section, times in self._asked:
            there = times[able]
            if there.any():
                able = able[(there == 0) | (there <= row.deficits(counts)[section])]
        return able

    def _explain(self, row: _Row, section: int) -> str:
        if self.frozen[row.sections[section]].all():
            return FROZEN
        for demand in (r for r in self.rows if not r.why):  # what no equation is needed for says most
            members, times = np.unique(demand.sections[0], return_counts=True)
            step = gcd(*times[~self.frozen[members]].tolist())
            if step > 1 and ((demand.target or 0) - demand.sections.size) % step:
                bar = next((self.barred[n] for n in distinct(members).tolist() if n in self.barred), None)
                why = "" if bar is None else f": a norm averages over them, and `{bar.layer}` {bar.why}"
                return f"its channels only grow {step} at a time{why}"
        return row.why or "the equations of the layers that are coupled to it leave no such width"


def _share_targets(rows: Sequence[_Row], nothing: int) -> None:
    """Sums that follow from those that are asked for, so that no equation is met by chance.

    Sections of equal size have one sum; where that of one of them is known, or that of all together, all are.

    Raises:
        NoCountsError: a sum does not fall into equal sections, or would have to be two numbers.
    """

    def key(section: Ints) -> bytes:
        return np.sort(section[section != nothing], axis=None).tobytes()

    known = {key(r.sections[0]): r.target for r in rows if r.target is not None}
    open_rows = [r for r in rows if r.target is None]
    learnt = True
    while learnt:
        learnt = False
        for row in open_rows:
            keys, whole = [key(section) for section in row.sections], key(row.sections)
            sums = {known[k] * len(keys) for k in keys if k in known} | {known[whole] for _ in keys if whole in known}
            if not sums:
                continue
            target, rest = divmod(sums.pop(), len(keys))
            if sums or rest:
                raise NoCountsError(row.layer, row.why)
            row.target, learnt = target, True
            known |= dict.fromkeys(keys, target) | {whole: target * len(keys)}
        open_rows = [r for r in open_rows if r.target is None]


def _components(labels: Labels, demands: Sequence[Demand]) -> list[_Component]:
    """The demands with the equations that they reach, taken apart where no class connects them."""
    asked = {(np.sort(labels.group[d.labels]).tobytes(), d.width): d for d in demands}  # a group's layers ask the same
    rows = [_Row(_sections(labels, d.labels[None, :]), d.width, d.layer) for d in asked.values()]
    every = [_Row(_sections(labels, p.labels), None, p.layer, p.why) for p in labels.found.parts]
    members = [r.sections[r.sections != labels.nothing] for r in [*rows, *every]]
    part = components(labels.nothing, [(m[:-1], m[1:]) for m in members])
    together: dict[int, list[_Row]] = {int(part[r.sections[0, 0]]): [] for r in rows}
    for row in [*every, *rows]:
        root = int(part[row.sections[0, 0]])
        if root in together:
            together[root].append(row)
    return [_Component(members, labels) for members in together.values()]


def _sections(labels: Labels, axes: Ints) -> Ints:
    """The classes of `(sections, n)` labels, and behind them the tails that each section has."""
    group = labels.group[axes]
    more = []
    for number, rule in labels.tails.items():
        streams = (group == number).sum(axis=1) // rule.size
        if streams.any():
            own = np.arange(streams.max()) < streams[:, None]
            more.append(np.where(own, rule.slot, labels.nothing))
    return np.concatenate([group, *more], axis=1) if more else group


def solve(labels: Labels, demands: Sequence[Demand], rng: np.random.Generator) -> Ints:
    """Copies of each class: as even as the widths allow; which channels get one more is drawn at random.

    Args:
        labels: of the teacher.
        demands: the widths that are asked for; classes that no demand reaches keep one copy.
        rng: the source of the draw.

    Returns:
        `(classes + tails,)`: copies of each class, at least 1, and the lengths of tails.

    Raises:
        NoCountsError: no numbers were found.
    """
    for demand in demands:
        if (labels.is_frozen(demand.labels)).all() and demand.width != demand.labels.size:
            raise NoCountsError(demand.layer, FROZEN)
    ones = labels.ones()
    counts = np.r_[ones, 0]  # the last one is `labels.nothing`
    for component in _components(labels, demands):
        _settle(component, counts, ones, rng)
    found: Ints = counts[:-1]
    return found


def _settle(component: _Component, counts: Ints, ones: Ints, rng: np.random.Generator) -> None:
    """Copies for one component, in several attempts, since the draw may run into a dead end."""
    failure: NoCountsError | None = None
    for _ in range(ATTEMPTS):
        counts[component.members] = ones[component.members]
        component.fill(counts)
        try:
            component.repair(counts, rng)
        except NoCountsError as failed:
            failure = failure or failed
            continue
        component.settle_tails(counts)
        return
    assert failure is not None
    raise failure


def labels_of(graph: Graph) -> Labels:
    """The labels of a network, with the tails that a proof bears out.

    Runs in which every width doubles find out: by copies, and where a stream may have a tail, by the tail.
    """
    labels = find_labels(graph)
    if not labels.tails or _refused(labels, labels.tails) is None or _refused(labels, {}) is not None:
        return labels
    each = {n: _refused(labels, {n: rule}) for n, rule in labels.tails.items()}
    proven = [n for n, refused in each.items() if refused is None]
    kept = {n: replace(labels.tails[n], slot=labels.classes + i) for i, n in enumerate(proven)}
    barred = {n: Freeze(np.zeros(0, np.int64), r.layer or "", _why(r)) for n, r in each.items() if r is not None}
    return replace(labels, tails=kept, barred={**labels.barred, **barred})


def _why(refused: GrowthRefusedError) -> str:
    return refused.message.partition("` ")[2]


def _refused(labels: Labels, tails: Mapping[int, TailRule]) -> GrowthRefusedError | None:
    counts = 2 * labels.ones()
    counts[list(labels.frozen)] = 1
    for number, rule in tails.items():
        counts[number], counts[rule.slot] = 1, rule.size
    try:
        run_student(labels, counts)
    except GrowthRefusedError as refused:
        return refused
    return None


def prove(labels: Labels, counts: Ints, *, own_shuffles: bool = False) -> StudentRun:
    """The student's run; where the network's own shuffles would part the copies of a channel, with lists of indices.

    Raises:
        GrowthRefusedError: the student would not compute what the teacher computes.
    """
    try:
        return run_student(labels, counts)
    except GrowthRefusedError as refused:
        if own_shuffles or not any(isinstance(one.op, Rearrange) and one.op.shuffles for one in labels.graph.layers):
            raise
        try:
            return run_student(labels, counts, indexed=True)
        except GrowthRefusedError:
            raise refused from None


def next_width(labels: Labels, demand: Demand, others: Sequence[Demand] = ()) -> int | None:
    """The smallest width above the demanded one that has a solution and a proof, or None where none was found."""
    rng = np.random.default_rng(0)
    sizes = {p.labels.shape[0] for p in labels.found.parts}
    stop = demand.width + min(SEARCH, 2 * demand.labels.size + 2 + max(sizes, default=0))
    unproven = 0
    for width in range(demand.width + 1, stop):
        try:
            prove(labels, solve(labels, [Demand(demand.layer, demand.labels, width), *others], rng))
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
    if freeze is None and failed.why == FROZEN and failed.classes is not None:
        freeze = next((labels.frozen[n] for n in failed.classes.tolist() if n in labels.frozen), None)
    if freeze is not None and (labels.is_frozen(demand.labels).all() or failed.why == FROZEN):
        return frozen_refusal(layer, freeze)
    better = next_width(labels, demand, others) or (next_width(labels, demand) if others else None)
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
