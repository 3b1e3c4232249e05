"""Plans that widen layers (Net2WiderNet; Chen, Goodfellow & Shlens, ICLR 2016, arXiv:1511.05641)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops import Factors, Op, attributes
from net2net_cli.architecture.shapes import show
from net2net_cli.channels import tails
from net2net_cli.channels.collected import Place
from net2net_cli.channels.counts import Demand, NoCountsError, impossible, labels_of, prove, refuse, solve
from net2net_cli.channels.fresh import with_new_channels
from net2net_cli.channels.labels import Labels
from net2net_cli.channels.student import Gather, Reading, StudentRun
from net2net_cli.channels.unions import Ints
from net2net_cli.errors import GrowthRefusedError, SpecError, UsageError
from net2net_cli.growth.align import TRAINING_ONLY
from net2net_cli.growth.initial import new_channels
from net2net_cli.growth.lengths import notes_on, with_lengths
from net2net_cli.growth.plan import MEAN, AxisMap, Operation, Plan, Shares, Split, TensorPlan, times
from net2net_cli.growth.requests import Request, resolve
from net2net_cli.growth.shares import generator


@dataclass(frozen=True, slots=True)
class WidenOptions:
    """How to widen, beside how much.

    Attributes:
        split: how copies share what their readers did; or `fresh`, for new channels in the place of copies.
        noise: added to copies, in units of each tensor's root mean square; above 0 the student is approximate.
        round_to: widths are rounded up to a multiple.
        where_possible: globs pass over layers that cannot grow.

    Raises:
        UsageError: noise without copies.
    """

    split: Split = "ownership"
    noise: float = 0.0
    seed: int = 0
    round_to: int = 1
    where_possible: bool = False

    def __post_init__(self) -> None:
        if self.noise and self.split == "fresh":
            raise UsageError("`--noise` sets copies apart, and `--split fresh` makes none", "leave out one of the two")


def plan_widen(graph: Graph, requests: Sequence[Request], options: WidenOptions | None = None) -> Plan:
    """Plan a student in which the named layers, and all that is coupled to them, are wider.

    Raises:
        UsageError: a request cannot be meant; see `resolve`.
        GrowthRefusedError: no exact student has these widths.
    """
    options = options or WidenOptions()
    labels = labels_of(graph)
    demands, notes = resolve(labels, requests, round_to=options.round_to, where_possible=options.where_possible)
    optional = {d.layer for d in demands} if options.where_possible and all(r.is_glob for r in requests) else set()
    run, passed = _solve(labels, demands, options, optional)
    arguments = {
        "layers": {r.pattern: r.width for r in requests},
        "split": options.split,
        "noise": options.noise,
        "round_to": options.round_to,
        "where_possible": options.where_possible,
    }
    operation = Operation("widen", arguments, options.seed, exact=options.noise == 0)
    return _plan(labels, run, options, operation, (*notes, *passed))


def plan_like(graph: Graph, target: Graph, options: WidenOptions | None = None) -> Plan:
    """Plan a student whose widths are those of a wider network with the same layers.

    Raises:
        SpecError: the target has other layers.
        GrowthRefusedError: no exact student has the target's shapes.
    """
    options = options or WidenOptions()
    _same_layers(graph, target)
    _same_ties(graph, target)
    labels = labels_of(graph)
    demands = _demands_like(labels, target) or _demands_of_readers(labels, target, more=True)
    if not demands and not _adopting(graph, target):
        raise GrowthRefusedError("the target is no wider than the teacher", "give a spec with wider layers")
    run, _ = _solve(labels, demands, options, set(), own_shuffles=True)
    wrong = _other_shape(run.graph, target)
    if wrong is not None:  # the layers' own widths leave open which section of a split grows: ask for that as well
        run, _ = _solve(labels, [*demands, *_demands_of_readers(labels, target)], options, set(), own_shuffles=True)
        wrong = _other_shape(run.graph, target)
    if wrong is not None:
        raise GrowthRefusedError(
            f"`{wrong}` would not get the target's shape", "the other layers of its group must agree"
        )
    arguments = {"like": {d.layer: d.width for d in demands}, "split": options.split, "noise": options.noise}
    operation = Operation("widen", arguments, options.seed, exact=options.noise == 0)
    plan = _in_the_targets_class(_plan(labels, run, options, operation, ()), target)
    _same_class(plan.student, target)
    return plan


def _adopting(graph: Graph, target: Graph) -> dict[str, tuple[Op, Mapping[str, Factors]]]:
    """The layers whose ops take constants of the target's class, and the factors that make up for them."""
    both = ((layer, target.by_name[layer.name].op) for layer in graph.layers if layer.name in target.by_name)
    found = {layer.name: layer.op.adopting(theirs) for layer, theirs in both}
    return {name: (op, factors) for name, (op, factors) in found.items() if factors}


def _in_the_targets_class(plan: Plan, target: Graph) -> Plan:
    """The student with the constants that the target's class derives from its widths, such as an attention's scale."""
    adopting = _adopting(plan.student, target)
    if not adopting:
        return plan
    ops = {name: op for name, (op, _) in adopting.items()}
    layers = tuple(replace(one, op=ops.get(one.name, one.op)) for one in plan.student.layers)
    tensors = dict(plan.tensors)
    for layer in layers:
        for key, factor in adopting[layer.name][1].items() if layer.name in adopting else ():
            if layer.weights_of is None:
                name = layer.tensor_name(key)
                tensors[name] = replace(tensors[name], axes=times(tensors[name].axes, 0, factor))
    return replace(plan, student=replace(plan.student, layers=layers), tensors=tensors, rounds=True, scaled=True)


def _other_shape(student: Graph, target: Graph) -> str | None:
    """A tensor whose shape is not the target's."""
    return next(
        (n for n, layer, key, slot in student.tensors() if slot.shape != _slot_shape(target, layer.name, key)), None
    )


def _same_class(student: Graph, target: Graph) -> None:
    """What shows in no tensor's shape, such as heads, groups or an eps, is in the target's own class the target's."""
    for layer in student.layers:
        theirs = target.by_name.get(layer.name)
        if theirs is None or theirs.op.name != layer.op.name:
            continue
        found, wanted = attributes(layer.op), attributes(theirs.op)
        for key in (k for k, v in found.items() if v != wanted[k] and k not in TRAINING_ONLY):
            raise GrowthRefusedError(
                f"`{layer.name}` would have {key} {found[key]}, and has {wanted[key]} in the target",
                HINTS.get(key, "give a target that differs from the teacher in widths alone"),
                layer=layer.name,
            )


HINTS = {
    "num_groups": "whole groups are copied: give the target as many times more groups as it has channels",
    "num_heads": "whole heads are copied: give the target heads of the teacher's size",
    "axes": "whole heads and groups are copied: give the target those of the teacher's size",
}
"""What to do about an attribute that no growth changes as the target needs it."""


def _slot_shape(graph: Graph, layer: str, key: str) -> tuple[int, ...]:
    return graph.by_name[layer].op.tensors()[key].shape


def _same_layers(graph: Graph, target: Graph) -> None:
    for name in dict.fromkeys((*_weighted(graph), *_weighted(target))):
        ours, theirs = graph.by_name.get(name), target.by_name.get(name)
        if ours is None or theirs is None or ours.op.name != theirs.op.name:
            where = "target" if theirs is None else "teacher"
            raise SpecError(
                f"`{name}` is not the same layer in teacher and target"
                if ours and theirs
                else f"`{name}` has no counterpart in the {where}",
                "`--like` needs a network with the same layers; it takes the widths alone",
            )


def _same_ties(graph: Graph, target: Graph) -> None:
    """Nothing is tied or untied without a word."""
    for name in dict.fromkeys((*graph.by_name, *target.by_name)):
        ours, theirs = (one.by_name[name].tied if name in one.by_name else () for one in (graph, target))
        if ours != theirs:
            tie = (*ours, *theirs)[0]
            where, other = ("teacher", "target") if ours else ("target", "teacher")
            raise SpecError(
                f"`{name}` shares the tensor `{tie.of}` of `{tie.layer}` in the {where}, and not in the {other}",
                "`--like` needs a network with the same layers; it takes the widths alone",
            )


def _weighted(graph: Graph) -> list[str]:
    return [layer.name for layer in graph.layers if layer.own_tensors()]


def _demands_like(labels: Labels, target: Graph) -> list[Demand]:
    demands = []
    for place, own in labels.found.created.items():
        if place[1] not in target.by_name[place[0]].op.tensors():
            continue  # channels between two tensors of one layer, such as an attention's heads
        layer, width = place[0], _target_width(target, place)
        if width < own.size:
            raise GrowthRefusedError(
                f"`{layer}` is {own.size} wide, and only {width} in the target",
                "layers only grow: give a target that is at least as wide everywhere",
                layer=layer,
            )
        if width > own.size:
            demands.append(Demand(layer, own, width))
    return demands


def _demands_of_readers(labels: Labels, target: Graph, *, more: bool = False) -> list[Demand]:
    """The widths of all other axes that follow or read channels; with `more`, of those that grow."""
    places = {p: a for p, a in labels.found.places.items() if p not in labels.found.created and a is not None}
    tensors = {(layer.name, key) for _, layer, key, _ in target.tensors()}
    found = [Demand(p[0], a, _target_width(target, p)) for p, a in places.items() if p[:2] in tensors]
    return [d for d in found if d.width >= d.labels.size + more]


def _target_width(target: Graph, place: Place) -> int:
    layer, key, axis = place
    groups = int(getattr(target.by_name[layer].op, "groups", 1)) if axis else 1
    shape = _slot_shape(target, layer, key)
    if axis >= len(shape):
        name = target.by_name[layer].tensor_name(key)
        raise GrowthRefusedError(
            f"`{name}` has the shape {show(shape)} in the target, and more axes in the teacher",
            "give a target that is the teacher with other widths",
            layer=layer,
        )
    return shape[axis] * groups


def _solve(
    labels: Labels, demands: list[Demand], options: WidenOptions, optional: set[str], *, own_shuffles: bool = False
) -> tuple[StudentRun, list[str]]:
    """Copies for the demands, and the student's run; optional demands that have no solution are passed over."""
    demands, passed = _possible(labels, demands, options, optional)
    while True:
        try:
            counts = solve(labels, demands, generator(options.seed, "counts"))
            return _proved(labels, counts, options, own_shuffles=own_shuffles), passed
        except NoCountsError as failed:
            culprit = _culprit(labels, demands, failed, options)
            if culprit.layer not in optional or len(demands) == 1:
                raise refuse(labels, culprit, failed, [d for d in demands if d is not culprit]) from None
            said = impossible(culprit, failed)
        except GrowthRefusedError as refused:
            culprit = (_first_refused(labels, demands, options) if optional else None) or demands[0]
            if culprit.layer not in optional or len(demands) == 1:
                raise
            said = refused.message
        passed.append(f"passed over: {said}")
        demands = [d for d in demands if d is not culprit]


def _possible(
    labels: Labels, demands: list[Demand], options: WidenOptions, optional: set[str]
) -> tuple[list[Demand], list[str]]:
    """The demands without the optional ones that have no solution even alone, and what is said of these.

    Where none is left, the first one is kept, to be refused.
    """
    kept, passed = [], []
    for demand in demands:
        if demand.layer in optional:
            try:
                solve(labels, [demand], generator(options.seed, "counts"))
            except NoCountsError as failed:
                passed.append(f"passed over: {impossible(demand, failed)}")
                continue
        kept.append(demand)
    return (kept, passed) if kept else (demands[:1], [])


def _culprit(labels: Labels, demands: list[Demand], failed: NoCountsError, options: WidenOptions) -> Demand:
    """The demand that fails by itself, or else the one whose layer failed."""
    for demand in demands:
        try:
            solve(labels, [demand], generator(options.seed, "counts"))
        except NoCountsError:
            return demand
    return next((d for d in demands if d.layer == failed.layer), demands[0])


def _first_refused(labels: Labels, demands: list[Demand], options: WidenOptions) -> Demand | None:
    for demand in demands:
        try:
            _proved(labels, _counts(labels, demand, options), options)
        except (GrowthRefusedError, NoCountsError):
            return demand
    return None


def _proved(labels: Labels, counts: Ints, options: WidenOptions, *, own_shuffles: bool = False) -> StudentRun:
    """The student's run, and that nothing sees its new channels."""
    run = prove(labels, counts, own_shuffles=own_shuffles)
    return with_new_channels(labels, counts, run) if options.split == "fresh" else run


def _counts(labels: Labels, demand: Demand, options: WidenOptions) -> Ints:
    return solve(labels, [demand], generator(options.seed, "counts"))


def _plan(labels: Labels, run: StudentRun, options: WidenOptions, operation: Operation, notes: tuple[str, ...]) -> Plan:
    tensors = {}
    for name, layer, key, slot in run.graph.tensors():
        axes = _axes(run, layer.name, key, options, labels.graph)
        fill = new_channels(layer, slot, axes) if options.split == "fresh" else None
        tensors[name] = TensorPlan(name, slot.shape, name, axes, fill)
    if options.noise:
        tensors = {n: replace(t, noise=options.noise) if t.axes and len(t.shape) > 1 else t for n, t in tensors.items()}
    tensors = with_lengths(run.graph, tensors)
    told = (*_tail_notes(labels, run), *_index_notes(labels.graph, run.graph), *notes_on(tensors, options.split))
    notes = (*notes, *told)
    scaled = any(g.factor != 1 for g in run.gathers.values()) or any(r.factor != 1 for r in run.readings.values())
    rounds = scaled or any(_rounds(factor) for factor in run.factors.values())
    rounds |= any(tensor.lengths is not None for tensor in tensors.values())
    values = run.values(labels.graph)
    return Plan(labels.graph, run.graph, tensors, operation, rounds, notes, scaled=rounds, values=values)


def _rounds(factor: npt.NDArray[np.float64]) -> bool:
    """Whether a product with it may have to be rounded: it is no power of two."""
    return bool((np.frexp(factor)[0] != 0.5).any())


def _tail_notes(labels: Labels, run: StudentRun) -> list[str]:
    """What is said of streams that hold more than copies, each once."""
    said: dict[int, str] = {}
    for place, gather in run.gathers.items():
        made = labels.found.created.get(place)
        if made is None or gather.factor == 1:
            continue
        number, now = int(labels.group[made[0]]), gather.position.shape[1]
        copies, tail = divmod(now, made.size)
        each = "each channel once" if copies == 1 else f"{copies} copies of each channel"
        rest = "their mean" if labels.tails[number].tail == "mean" else "zeros"
        others = f"`{place[0]}` and the layers that grow with it write {each} and {tail} times {rest}"
        said.setdefault(number, f"{others}, scaled by {gather.factor:.4g}: stored numbers are rounded")
    return list(said.values())


def _index_notes(teacher: Graph, student: Graph) -> list[str]:
    """What is said of shuffles that only a list of indices can do now."""
    now = [a.name for a, b in zip(teacher.layers, student.layers, strict=True) if b.op.name != a.op.name]
    if not now:
        return []
    others = f" and {len(now) - 1} more" if len(now) > 1 else ""
    return [f"shuffles become lists of indices (`{now[0]}`{others}): build the student from its spec or its export"]


def _axes(run: StudentRun, layer: str, key: str, options: WidenOptions, teacher: Graph) -> tuple[AxisMap, ...]:
    """How each changed axis of one tensor comes about; a tensor has few axes."""
    maps = [
        _following(place[2], g, run.factors.get(place)) for place, g in run.gathers.items() if place[:2] == (layer, key)
    ]
    for place, reading in run.readings.items():
        if place[:2] == (layer, key):
            size = teacher.by_name[layer].op.tensors()[key].shape[place[2]]
            draw = generator(options.seed, layer, key, "tail")
            maps.append(_reading(place[2], reading, Shares(options.split, reading.rows), size, draw))
    return tuple(sorted(maps, key=lambda m: m.axis))


def _following(axis: int, gather: Gather, parts: npt.NDArray[np.float64] | None) -> AxisMap:
    position = gather.position
    if gather.factor == 1 and position.min(initial=0) >= 0:
        return AxisMap(axis, position, factor=parts)
    factor = np.where((position[0] < 0) & (position[0] != tails.MEAN), 0.0, gather.factor)
    return AxisMap(axis, np.where(position < 0, MEAN, position), factor=factor)


def _reading(axis: int, reading: Reading, shares: Shares, size: int, draw: np.random.Generator) -> AxisMap:
    """Columns of a tail at zero are columns of the teacher's, drawn at random: so what feeds the tail gets gradient."""
    position = reading.position
    tail = position[0] < 0
    if reading.factor == 1 and not tail.any():
        return AxisMap(axis, position, shares)
    drawn = draw.permutation(position.shape[1])[None] % size
    factor = np.where(position[0] == tails.MEAN, 0.0, reading.factor)
    return AxisMap(axis, np.where(tail, drawn, position), shares, None if (factor == 1).all() else factor, tail)
