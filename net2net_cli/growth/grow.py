"""Plans that grow a teacher into a given, bigger network of its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import TensorSlot, norm
from net2net_cli.architecture.ops.conv import Weighted
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.ops.weight_norm import WeightNorm
from net2net_cli.channels.values import Value, same_values
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.align import Alignment, IdentityLayer, align, matched_target
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.batch_norm import Moments, moments_behind, unit_gain
from net2net_cli.growth.blocks import Block
from net2net_cli.growth.initial import default_fill
from net2net_cli.growth.insert import BATCH_NORMS
from net2net_cli.growth.lengths import with_lengths
from net2net_cli.growth.plan import AxisMap, Fill, Operation, Plan, TensorPlan
from net2net_cli.growth.source import Tensors
from net2net_cli.growth.widen import WidenOptions, plan_like


def plan_grow(teacher: Graph, target: Graph, tensors: Tensors, options: WidenOptions | None = None) -> Plan:
    """Widen and deepen until the student has the target's layers, names and shapes.

    Args:
        teacher: the network that grows.
        target: a bigger one of its family; its spec becomes the student's, at the teacher's input sizes.
        tensors: the teacher's; batch norms before new batch norms are read.
        options: how copies share, and the seed.

    Raises:
        GrowthRefusedError: names the first difference that no rule bridges.
    """
    options = options or WidenOptions()
    target = replace(target, inputs=_inputs(teacher, target))
    alignment = align(teacher, target)
    wider = _widened(teacher, matched_target(alignment, teacher), options)
    filled = _Filled(alignment, teacher, wider, tensors)
    operation = Operation("grow", {"like": target.name, "split": options.split}, options.seed, exact=True)
    rounds = filled.rounds or (wider is not None and wider.rounds)
    values = _values(alignment, wider.values if wider else same_values(teacher))
    scaled = wider is not None and wider.scaled
    return Plan(teacher, target, filled.plans, operation, rounds, scaled=scaled, values=values)


def _values(alignment: Alignment, middle: Mapping[str, Value]) -> dict[str, Value]:
    """What the target's layers return: by their counterparts, or for new ones by the value that passes through them."""
    through = {block.out: block.stream for block in alignment.blocks}
    for chain in alignment.layers:
        for new in (chain.layer, chain.norm, chain.activation):
            through |= {} if new is None else {new.name: chain.stream}
    found: dict[str, Value] = {}
    for layer in alignment.target.layers:
        known = middle.get(alignment.matched.get(layer.name, "")) or found.get(through.get(layer.name, ""))
        found |= {} if known is None else {layer.name: known}
    return found


def _inputs(teacher: Graph, target: Graph) -> tuple[NetworkInput, ...]:
    ours, theirs = teacher.inputs, target.inputs
    if len(ours) != len(theirs) or any(len(a.shape) != len(b.shape) for a, b in zip(ours, theirs, strict=True)):
        raise GrowthRefusedError("the target takes other inputs than the teacher", "compare the two specs' inputs")
    return tuple(replace(b, shape=a.shape, dtype=a.dtype) for a, b in zip(ours, theirs, strict=True))


def _widened(teacher: Graph, wide: Graph, options: WidenOptions) -> Plan | None:
    pairs = zip(teacher.layers, wide.layers, strict=True)
    same = all(a.op.tensors() == b.op.tensors() and not a.op.adopting(b.op)[1] for a, b in pairs)
    return None if same else plan_like(teacher, wide, options)


class _Filled:
    """What every tensor of the target is made of."""

    def __init__(self, alignment: Alignment, teacher: Graph, wider: Plan | None, tensors: Tensors) -> None:
        self.alignment, self.wider = alignment, wider
        self.target = alignment.target
        self.middle = wider.student if wider else teacher
        self.source: Tensors = Grown(wider, tensors) if wider else tensors
        self.plans: dict[str, TensorPlan] = {}
        self.rounds = False
        for theirs, ours in alignment.matched.items():
            self._matched(self.target.by_name[theirs], self.middle.by_name[ours])
        for chain in alignment.layers:
            self._identity(chain)
        for block in alignment.blocks:
            self._silent(block)
        order = [name for name, *_ in self.target.tensors()]
        self.plans = with_lengths(self.target, {name: self.plans[name] for name in order})
        self.rounds |= any(tensor.lengths is not None for tensor in self.plans.values())

    def _matched(self, theirs: Layer, ours: Layer) -> None:
        for key, slot in theirs.own_tensors().items():
            name, origin = theirs.tensor_name(key), ours.tensor_name(key)
            before = ours.op.tensors()[key].shape
            weights = isinstance(theirs.op, Weighted) and key == theirs.op.weight_key
            axes = _zero_padded(before, slot.shape) if weights else ()
            if not axes and before != slot.shape:
                raise GrowthRefusedError(
                    f"`{name}` of the target has the shape {list(slot.shape)}, and no growth of the teacher has it",
                    "the target must be the teacher made wider and deeper",
                    layer=theirs.name,
                )
            wide = self.wider.tensors[origin] if self.wider else TensorPlan(origin, before, origin)
            self.plans[name] = replace(wide, name=name, shape=slot.shape, axes=(*wide.axes, *axes), lengths=None)

    def _identity(self, chain: IdentityLayer) -> None:
        zero = Fill("constant", 0.0)
        op = chain.layer.op
        assert isinstance(op, Weighted)
        one = {op.length_key: Fill("constant", 1.0)} if isinstance(op, WeightNorm) else {}
        self._make(chain.layer, {op.weight_key: Fill("dirac", 1.0), "bias": zero, **one})
        if chain.norm is None:
            return
        moments = self._moments(chain)
        op = chain.norm.op
        assert isinstance(op, (norm.PerChannelNorm, norm.FrozenBatchNorm2d))
        size = op.num_features
        if moments is None:
            weight, variance, mean = np.ones(size), np.full(size, 1.0 - op.eps), np.zeros(size)
        else:
            weight, variance = unit_gain(moments.variance, op.eps, np.float32)
            mean = moments.mean.astype(np.float32).astype(np.float64)
        values = {"weight": weight, "bias": mean, "running_mean": mean, "running_var": variance}
        fills = {key: Fill("vector", vector=value) for key, value in values.items()}
        self._make(chain.norm, fills | {"num_batches_tracked": zero})
        self.rounds = True

    def _moments(self, chain: IdentityLayer) -> Moments | None:
        """What enters a new batch norm, from the one before the activation that it follows."""
        layer = self.target.by_name[chain.stream]
        before = self.target.by_name.get(layer.inputs[0])
        while before is not None and before.name not in self.alignment.matched:
            new = next((c for c in self.alignment.layers if c.norm is before), None)
            before = self.target.by_name.get(self.target.by_name[new.stream].inputs[0]) if new else None
        if before is None or not isinstance(before.op, BATCH_NORMS):
            return None
        ours = self.middle.by_name[self.alignment.matched[before.name]]
        read = (np.asarray(self.source.read(ours.tensor_name(k))).astype(np.float64) for k in ("weight", "bias"))
        return moments_behind(layer.op, *read)

    def _silent(self, block: Block) -> None:
        """A copy of a block of the same shapes where there is one, with its last layer at zero; else fresh weights."""
        twin = self._twin(block)
        for layer in block.layers:
            for key, slot in layer.own_tensors().items():
                name = layer.tensor_name(key)
                if layer.name in block.silenced and key in layer.op.silent:
                    self.plans[name] = TensorPlan(name, slot.shape, None, fill=Fill("constant", 0.0))
                elif twin is not None:
                    origin = self.plans[f"{twin}{name[len(block.name) :]}"]
                    self.plans[name] = replace(origin, name=name)
                elif isinstance(layer.op, Opaque):
                    raise GrowthRefusedError(
                        f"`{layer.name}` of the target is new, and how `{layer.op.spoken}` starts is not known",
                        "a new block can hold it only where a block with the same layers stands before it",
                        layer=layer.name,
                    )
                else:
                    self.plans[name] = TensorPlan(
                        name, slot.shape, None, fill=default_fill(layer.op, slot), dtype=_kind(slot)
                    )

    def _twin(self, block: Block) -> str | None:
        """The nearest block before this one with the same layers."""
        shape = [(layer.name[len(block.name) :], layer.op.tensors()) for layer in block.layers if layer.op.tensors()]
        parent, _, last = block.name.rpartition(".")
        numbers = range(int(last) - 1, -1, -1) if last.isdigit() else ()
        for number in numbers:
            other = f"{parent}.{number}" if parent else str(number)
            own = [
                (layer.name[len(other) :], layer.op.tensors())
                for layer in self.target.layers
                if layer.name.startswith(f"{other}.") and layer.op.tensors()
            ]
            if own == shape and all(f"{other}{suffix}.{key}" in self.plans for suffix, slots in own for key in slots):
                return other
        return None

    def _make(self, layer: Layer, fills: dict[str, Fill]) -> None:
        for key, slot in layer.op.tensors().items():
            name = layer.tensor_name(key)
            self.plans[name] = TensorPlan(name, slot.shape, None, fill=fills[key], dtype=_kind(slot))


def _kind(slot: TensorSlot) -> str | None:
    return "I64" if slot.integer else None


def _zero_padded(before: Sequence[int], after: Sequence[int]) -> tuple[AxisMap, ...]:
    """Kernel axes that are longer, with zeros around the teacher's kernel; none where the shapes are equal."""
    if len(before) != len(after) or tuple(before[:2]) != tuple(after[:2]):
        return ()
    maps = []
    for axis, (small, big) in enumerate(zip(before, after, strict=True)):
        if small != big:
            at = np.arange(big) - (big - small) // 2
            inside = (at >= 0) & (at < small)
            maps.append(AxisMap(axis, np.clip(at, 0, small - 1)[None], factor=inside.astype(np.float64)))
    return tuple(maps)
