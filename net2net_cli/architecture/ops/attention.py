"""Attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape


@op("MultiheadAttention", module="net2net_cli.runtime.modules.MultiheadAttention")
class MultiheadAttention(Op):
    """`torch.nn.MultiheadAttention` (Vaswani et al. 2017, arXiv:1706.03762) of queries, keys and values of one width.

    Heads are copied as wholes: a copied head attends as its teacher does, and the output's columns are shared out. The
    module keeps heads × head size = width, so that heads and width grow together; the head size stays.

    Attributes:
        need_weights: whether it was called so that it computes its weights, which picks another kernel.
    """

    arity = 3
    linear = True
    reads_modules = ("torch.nn.MultiheadAttention",)
    signature: ClassVar[str] = "query key value key_padding_mask need_weights attn_mask average_attn_weights is_causal"
    silent: ClassVar[tuple[str, ...]] = ("out_proj.weight", "out_proj.bias")

    embed_dim: int
    num_heads: int
    dropout: float
    bias: bool
    batch_first: bool
    need_weights: bool = True

    @classmethod
    def from_module(cls, module: Any) -> Self:
        if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
            raise ValueError("`kdim`, `vdim`, `add_bias_kv` and `add_zero_attn` are not supported")
        bias = module.in_proj_bias is not None
        return cls(module.embed_dim, module.num_heads, float(module.dropout), bias, module.batch_first)

    def called_with(self, arguments: Mapping[str, Any]) -> Self:
        for name in ("key_padding_mask", "attn_mask"):
            if arguments.get(name) is not None:
                raise ValueError(f"`{name}` is not supported")
        if arguments.get("is_causal"):
            raise ValueError("`is_causal` is not supported")
        needs = bool(arguments.get("need_weights", True))
        return type(self)(self.embed_dim, self.num_heads, self.dropout, self.bias, self.batch_first, needs)

    def tensors(self) -> dict[str, TensorSlot]:
        e = self.embed_dim
        slots = {"in_proj_weight": TensorSlot((3 * e, e)), "out_proj.weight": TensorSlot((e, e))}
        biases = {"in_proj_bias": TensorSlot((3 * e,), default=0.0), "out_proj.bias": TensorSlot((e,), default=0.0)}
        return slots | (biases if self.bias else {})

    def shape(self, *inputs: Shape) -> Shape:
        for x in inputs:
            if len(x) != 3 or x[2] != self.embed_dim:
                raise ValueError(f"its inputs need three axes, the last of size {self.embed_dim}")
        if inputs[1] != inputs[2]:
            raise ValueError("keys and values have different shapes")
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        query, key, value = inputs
        e = self.embed_dim
        for tokens in (*key.axes[:2], *value.axes[:2]):
            f.mix(tokens, "attends over it")
        heads = f.create("heads", 0, self.num_heads)
        inner = f.merge([(heads, self.num_heads), (None, e // self.num_heads)])
        for x in (query, key, value):
            f.consume("in_proj_weight", 1, x.axes[2], size=e, rows=0)
        f.consume("out_proj.weight", 1, inner, size=e, rows=0)
        thirds = f.concat([(inner, e)] * 3)
        out = f.create("out_proj.weight", 0, e)
        f.carry("in_proj_weight", 0, thirds, size=3 * e)
        if self.bias:
            f.carry("in_proj_bias", 0, thirds, size=3 * e)
            f.carry("out_proj.bias", 0, out, size=e)
        for other in (out, query.axes[2]):  # the module has one width for all of them
            f.same_width(inner, other, size=e, why=f"is as wide as its heads of {e // self.num_heads} are together")
        f.set(embed_dim=f.width(out, e), num_heads=f.width(heads, self.num_heads))
        return (*query.axes[:2], out)
