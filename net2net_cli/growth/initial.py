"""What a fresh layer holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from net2net_cli.architecture.graph import Layer
from net2net_cli.architecture.ops import Op, TensorSlot
from net2net_cli.architecture.ops.arithmetic import Parameter
from net2net_cli.architecture.ops.embedding import Embedding
from net2net_cli.growth.plan import AxisMap, Fill


def new_channels(layer: Layer, slot: TensorSlot, axes: Sequence[AxisMap]) -> Fill | None:
    """What a layer's new channels hold: what a new layer of its width would.

    None where none of the tensor's axes follows new channels. And for a parameter of the user's own module: how that
    begins is not known, often at 0 where it multiplies, and a channel times 0 that is read with weights of 0 would
    never learn. It holds the numbers of the channel next to it.

    Args:
        layer: of the student.
        slot: of one of its tensors.
        axes: how that tensor's axes come about.
    """
    follows = any(axis.shares is None and axis.later.any() for axis in axes)
    return default_fill(layer.op, slot) if follows and not isinstance(layer.op, Parameter) else None


def default_fill(op: Op, slot: TensorSlot) -> Fill:
    """What PyTorch gives a new layer: weights and biases between ±1/√fan_in, embeddings N(0, 1), norms 1 and 0.

    The row of an embedding that stands for padding is zero.

    Args:
        op: the layer's, at its new width.
        slot: of one of its tensors.
    """
    if slot.values is not None:
        return Fill("vector", vector=slot.values)
    if isinstance(slot.default, (int, float)):
        return Fill("constant", float(slot.default))
    if slot.default == "normal":
        return Fill("normal", 1.0, zero_row=op.padding_idx if isinstance(op, Embedding) else None)
    weight = op.tensors().get("weight", slot).shape
    return Fill("uniform", 1 / math.sqrt(max(1, slot.fan_in or math.prod(weight[1:]))))
