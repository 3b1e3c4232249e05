"""Attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.arithmetic import broadcast, tie_broadcast
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape, fixed


@op("MultiheadAttention", module="net2net_cli.runtime.modules.MultiheadAttention")
class MultiheadAttention(Op):
    """`torch.nn.MultiheadAttention` (Vaswani et al. 2017, arXiv:1706.03762) of queries, keys and values of one width.

    Heads are copied as wholes: a copied head attends as its teacher does, and the output's columns are shared out. The
    module keeps heads × head size = width, so that heads and width grow together; the head size stays.

    Attributes:
        need_weights: whether it was called so that it computes its weights, which picks another kernel.
    """

    arity = 3
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
        inner = f.create("heads", 0, e)
        heads = f.whole_parts(inner, size=e, parts=self.num_heads)
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
            f.equal_parts(f.concat([(inner, e), (other, e)]), size=2 * e, parts=2)
        f.set(embed_dim=f.width(out, e), num_heads=heads)
        return (*query.axes[:2], out)


@op("scaled_dot_product_attention", module="net2net_cli.runtime.modules.ScaledDotProductAttention")
class ScaledDotProductAttention(Op):
    """`F.scaled_dot_product_attention` of queries (…, l, d), keys (…, s, d), values (…, s, e), and a mask (…, l, s).

    The axes before the last two are heads and the like, and are tied. d is summed over between two activations and
    keeps its slices, and so the usual scale of 1/√d is the teacher's; e is carried.

    Attributes:
        dropout_p: of attention weights, in training.
        is_causal: whether query i reads keys 0 … i alone.
        scale: of products of queries and keys; None for 1/√d.
        enable_gqa: whether a key and value may serve several heads of queries that stand side by side.
    """

    arity = None
    reads_modules = ()

    dropout_p: float
    is_causal: bool
    scale: float | None = None
    enable_gqa: bool = False

    def in_evaluation(self) -> Self:
        return replace(self, dropout_p=0.0)

    def shape(self, *inputs: Shape) -> Shape:
        if len(inputs) not in (3, 4) or min(map(len, inputs[:3])) < 2:
            raise ValueError("it needs queries, keys and values of two axes or more, and at most a mask")
        query, key, value = inputs[:3]
        if query[-1] != key[-1] or key[-2] != value[-2]:
            raise ValueError(f"queries {query}, keys {key} and values {value} do not go together")
        outer = query[:-2]
        if self.enable_gqa:
            self._served(query, key, value)
        else:
            outer = broadcast(query[:-2], key[:-2], value[:-2])
        scores = (*outer, query[-2], key[-2])
        if len(inputs) == 4 and broadcast(inputs[3], scores) != scores:
            raise ValueError(f"a mask {inputs[3]} does not go with {scores}")
        return (*outer, query[-2], value[-1])

    @staticmethod
    def _served(query: Shape, key: Shape, value: Shape) -> tuple[int, int]:
        """How many heads there are of queries, and of keys and values."""
        if min(map(len, (query, key, value))) < 3 or key[:-2] != value[:-2] or query[:-3] != key[:-3]:
            raise ValueError("keys and values that serve several heads need as many axes as the queries")
        heads, served = fixed(query[-3]), fixed(key[-3])
        if heads % served:
            raise ValueError(f"{heads} heads of queries are no multiple of {served}")
        return heads, served

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        query, key, value = inputs[:3]
        for axis in (query.axes[-1], key.axes[-1]):
            f.mix(axis, "multiplies queries and keys over it, and no weight can share out the copies")
        for x in (key, value):
            f.mix(x.axes[-2], "attends over it")
        if self.is_causal:
            f.mix(query.axes[-2], "masks it by place")
        outer = self._outer(f, query, key, value)
        if len(inputs) == 4:
            scores = (*query.shape[:-2], *query.shape[-2:-1], *key.shape[-2:-1])
            masked = tie_broadcast(f, (inputs[3], Channels(scores, (*outer, query.axes[-2], None))))
            return (*masked[:-1], value.axes[-1])
        return (*outer, query.axes[-2], value.axes[-1])

    def _outer(self, f: Flow, query: Channels, key: Channels, value: Channels) -> Axes:
        """The axes of heads and of what stands before them."""
        if not self.enable_gqa:
            return tie_broadcast(f, tuple(Channels(x.shape[:-2], x.axes[:-2]) for x in (query, key, value)))
        heads, served = self._served(query.shape, key.shape, value.shape)
        f.tie(key.axes[-3], value.axes[-3], size=served)
        f.serve(query.axes[-3], key.axes[-3], size=heads, parts=served)
        before = tie_broadcast(f, tuple(Channels(x.shape[:-3], x.axes[:-3]) for x in (query, key, value)))
        return (*before, query.axes[-3])
