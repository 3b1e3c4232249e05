"""Attention with a bias for relative positions: MaxViT's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Factors, Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape

Ints: TypeAlias = "npt.NDArray[np.int64]"


@cache
def relative_positions(side: int) -> Ints:
    """For each pair of tokens of a window of side × side, in rows, the number of their offset (down, right).

    Returns:
        `(side², side²)`; (down + side − 1) · (2·side − 1) + right + side − 1.
    """
    row, column = np.divmod(np.arange(side * side), side)
    down, right = (place[:, None] - place[None, :] + side - 1 for place in (row, column))
    numbers: Ints = down * (2 * side - 1) + right
    numbers.flags.writeable = False
    return numbers


@op(
    "RelativePositionalMultiHeadAttention",
    module="net2net_cli.runtime.modules_maxvit.RelativePositionalMultiHeadAttention",
)
class RelativePositionalMultiHeadAttention(Op):
    """torchvision's attention of MaxViT (Tu et al. 2022, arXiv:2204.01697), on `(n, windows, tokens, embed_dim)`.

    softmax(q·(key_scale · k)ᵀ + bias)·v for each window and head, where the bias is looked up by how two tokens of a
    window of side × side stand to each other. Heads are copied as wholes, their columns of the bias table with them;
    heads × head size = width is kept, as torchvision's class needs it.

    Attributes:
        side: of a window, in tokens.
        key_scale: torchvision's class takes width^−½ for it, although a head sums over fewer products. It stays the
            teacher's when the width grows; for the class of a wider target the keys' rows are scaled instead.
    """

    reads_modules = ("torchvision.models.maxvit.RelativePositionalMultiHeadAttention",)
    linear = True
    silent: ClassVar[tuple[str, ...]] = ("merge.weight", "merge.bias")

    embed_dim: int
    head_dim: int
    num_heads: int
    side: int
    key_scale: float

    @classmethod
    def from_module(cls, module: Any) -> Self:
        heads, size = module.n_heads, module.head_dim
        return cls(module.merge.out_features, size, heads, module.size, float(module.scale_factor))

    def check(self) -> None:
        if self.num_heads * self.head_dim != self.embed_dim:
            raise ValueError(f"{self.num_heads} heads of {self.head_dim} do not make up a width of {self.embed_dim}")

    def tensors(self) -> dict[str, TensorSlot]:
        e, tokens = self.embed_dim, self.side * self.side
        return {
            "relative_position_bias_table": TensorSlot(((2 * self.side - 1) ** 2, self.num_heads), default=0.0),
            "relative_position_index": TensorSlot(
                (tokens, tokens), "buffer", integer=True, values=relative_positions(self.side)
            ),
            "to_qkv.weight": TensorSlot((3 * e, e)),
            "to_qkv.bias": TensorSlot((3 * e,), default=0.0),
            "merge.weight": TensorSlot((e, e)),
            "merge.bias": TensorSlot((e,), default=0.0),
        }

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if len(x) != 4 or x[2:] != (self.side**2, self.embed_dim):
            raise ValueError(f"its input needs four axes, the last two of sizes {self.side**2} and {self.embed_dim}")
        return x

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        e = self.embed_dim
        f.mix(x.axes[2], "attends over it")
        heads = f.create("heads", 0, self.num_heads)
        inner = f.merge([(heads, self.num_heads), (None, self.head_dim)])
        thirds = f.concat([(inner, e)] * 3)
        f.consume("to_qkv.weight", 1, x.axes[3], size=e, rows=0)
        f.carry("to_qkv.weight", 0, thirds, size=3 * e)
        f.carry("to_qkv.bias", 0, thirds, size=3 * e)
        f.carry("relative_position_bias_table", 1, heads, size=self.num_heads)
        f.consume("merge.weight", 1, inner, size=e, rows=0)
        out = f.create("merge.weight", 0, e)
        f.carry("merge.bias", 0, out, size=e)
        for other in (out, x.axes[3]):  # the class has one width for all of them
            f.same_width(inner, other, size=e, why=f"is as wide as its heads of {self.head_dim} are together")
        f.set(embed_dim=f.width(out, e), num_heads=f.width(heads, self.num_heads))
        return (*x.axes[:3], out)

    def adopting(self, target: Op) -> tuple[Op, Mapping[str, Factors]]:
        """With the target's `key_scale`; the keys' rows make up for it."""
        if not isinstance(target, type(self)) or target.key_scale == self.key_scale:
            return self, {}
        thirds = np.ones((3, self.embed_dim))
        thirds[1] = self.key_scale / target.key_scale
        rows = thirds.ravel()
        made = dataclasses.replace(self, key_scale=target.key_scale)
        return made, {"to_qkv.weight": rows, "to_qkv.bias": rows}
