"""What a fresh layer holds."""

from __future__ import annotations

import math

from net2net_cli.architecture.ops import Op, TensorSlot
from net2net_cli.growth.plan import Fill


def default_fill(op: Op, slot: TensorSlot) -> Fill:
    """What PyTorch gives a new layer: weights and biases between ±1/√fan_in, embeddings N(0, 1), norms 1 and 0.

    Args:
        op: the layer's, at its new width.
        slot: of one of its tensors.
    """
    if slot.values is not None:
        return Fill("vector", vector=slot.values)
    if isinstance(slot.default, (int, float)):
        return Fill("constant", float(slot.default))
    if slot.default == "normal":
        return Fill("normal", 1.0)
    weight = op.tensors().get("weight", slot).shape
    return Fill("uniform", 1 / math.sqrt(max(1, slot.fan_in or math.prod(weight[1:]))))
