"""The paper's baseline: the shapes of a wider student, with random numbers in all that is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import TensorSlot
from net2net_cli.growth.initial import default_fill
from net2net_cli.growth.plan import Fill, Operation, Plan, TensorPlan
from net2net_cli.growth.requests import Request
from net2net_cli.growth.widen import WidenOptions, plan_widen


def plan_random_pad(
    graph: Graph, requests: Sequence[Request], options: WidenOptions | None = None, *, std: float | None = None
) -> Plan:
    """Plan a student of the shapes that `plan_widen` gives, whose new entries are drawn at random.

    The teacher's tensors stand unscaled where the first copies stand. It preserves nothing.

    Args:
        graph: the teacher.
        requests: as for `plan_widen`.
        options: as for `plan_widen`; `split` and `noise` mean nothing here.
        std: draw new weights from a normal distribution of this standard deviation, with zero biases; without it each
            layer type's PyTorch default is used.

    Raises:
        UsageError, GrowthRefusedError: as `plan_widen`.
    """
    wide = plan_widen(graph, requests, options)
    owners = {name: (layer, slot) for name, layer, _, slot in wide.student.tensors()}
    tensors = {
        name: _padded(tensor, *owners[name], std) if tensor.axes else tensor for name, tensor in wide.tensors.items()
    }
    arguments = {key: wide.operation.arguments[key] for key in ("layers", "round_to", "where_possible")} | {"std": std}
    operation = Operation("random-pad", arguments, wide.operation.seed, exact=False)
    return replace(wide, tensors=tensors, operation=operation, rounds=False, scaled=False)


def _padded(tensor: TensorPlan, layer: Layer, slot: TensorSlot, std: float | None) -> TensorPlan:
    unshared = tuple(replace(m, shares=None, factor=None) for m in tensor.axes)
    return replace(tensor, axes=unshared, fill=_initial(layer, tensor, slot, std), noise=0.0)


def _initial(layer: Layer, tensor: TensorPlan, slot: TensorSlot, std: float | None) -> Fill:
    """A given deviation for weights, with zero biases, or what PyTorch gives a fresh layer."""
    if std is None or isinstance(slot.default, (int, float)):
        return default_fill(layer.op, slot)
    # numpy takes −0 for a negative deviation
    return Fill("normal", abs(std)) if len(tensor.shape) > 1 else Fill("constant", 0.0)
