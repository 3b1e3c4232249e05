"""Attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.ops.arithmetic import broadcast, tie_broadcast
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape, fixed, show

MASKS = ("attn_mask", "key_padding_mask")
"""Inputs of `torch.nn.MultiheadAttention` beside queries, keys and values, in the order in which they follow these."""


@op("MultiheadAttention", module="net2net_cli.runtime.modules.MultiheadAttention")
class MultiheadAttention(Op):
    """`torch.nn.MultiheadAttention` (Vaswani et al. 2017, arXiv:1706.03762).

    Heads are copied as wholes: a copied head attends as its teacher does, and the output's columns are shared out. The
    module keeps heads × head size = width, so that heads and width grow together; the head size stays. Keys and values
    may have widths of their own, which then have weights of their own.

    Attributes:
        need_weights: whether it was called so that it computes its weights, which picks another kernel.
        kdim: width of the keys, where the three projections are apart.
        vdim: width of the values, likewise.
        add_bias_kv: whether a key and a value of its own stand behind the others.
        add_zero_attn: whether a key and a value of zeros do.
        masks: which masks are further inputs, in the order of `MASKS`.
        is_causal: whether it was told that the mask hides all later places, which picks another kernel.
    """

    arity = None
    required = 3
    optional = MASKS
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
    kdim: int | None = None
    vdim: int | None = None
    add_bias_kv: bool | None = None
    add_zero_attn: bool | None = None
    masks: tuple[Literal["attn_mask", "key_padding_mask"], ...] | None = None
    is_causal: bool | None = None

    @classmethod
    def from_module(cls, module: Any) -> Self:
        apart = module.in_proj_weight is None
        return cls(
            embed_dim=module.embed_dim,
            num_heads=module.num_heads,
            dropout=float(module.dropout),
            bias=module.in_proj_bias is not None,
            batch_first=module.batch_first,
            kdim=module.kdim if apart else None,
            vdim=module.vdim if apart else None,
            add_bias_kv=True if module.bias_k is not None else None,
            add_zero_attn=True if module.add_zero_attn else None,
        )

    def called_with(self, arguments: Mapping[str, Any]) -> Self:
        masks: Any = tuple(name for name in MASKS if name in arguments) or None
        causal = True if arguments.get("is_causal") else None
        return replace(self, need_weights=bool(arguments.get("need_weights", True)), masks=masks, is_causal=causal)

    def check(self) -> None:
        if self.num_heads < 1 or self.embed_dim < 1 or self.embed_dim % self.num_heads:
            raise ValueError(f"its width {self.embed_dim} is not divided evenly by its {self.num_heads} heads")
        if (self.kdim is None) != (self.vdim is None):
            raise ValueError("`kdim` and `vdim` are given together, or neither is")
        if tuple(m for m in MASKS if m in (self.masks or ())) != (self.masks or ()):
            raise ValueError(f"its masks are not in the order {', '.join(f'`{name}`' for name in MASKS)}")
        if self.is_causal and "attn_mask" not in (self.masks or ()):
            raise ValueError("it is told to be causal, and has no mask")

    def tensors(self) -> dict[str, TensorSlot]:
        e = self.embed_dim
        slots = {name: TensorSlot((rows, columns)) for name, rows, columns in self._projections()}
        slots["out_proj.weight"] = TensorSlot((e, e))
        if self.bias:
            slots["in_proj_bias"] = TensorSlot((3 * e,), default=0.0)
            slots["out_proj.bias"] = TensorSlot((e,), default=0.0)
        if self.add_bias_kv:
            slots |= {name: TensorSlot((1, 1, e)) for name in ("bias_k", "bias_v")}
        return slots

    def _projections(self) -> list[tuple[str, int, int]]:
        """The weights that make queries, keys and values: name, rows, columns."""
        e = self.embed_dim
        if self.kdim is None or self.vdim is None:
            return [("in_proj_weight", 3 * e, e)]
        return [("q_proj_weight", e, e), ("k_proj_weight", e, self.kdim), ("v_proj_weight", e, self.vdim)]

    def shape(self, *inputs: Shape) -> Shape:
        self.check()
        query, key, value = inputs[:3]
        if len(inputs) != 3 + len(self.masks or ()):
            masks = "".join(f", `{name}`" for name in self.masks or ())
            raise ValueError(f"it has {len(inputs)} inputs; its inputs are queries, keys, values{masks}")
        widths = (self.embed_dim, self.kdim or self.embed_dim, self.vdim or self.embed_dim)
        for x, size in zip(inputs[:3], widths, strict=True):
            if len(x) != 3 or x[2] != size:
                raise ValueError(f"one input is {show(x)}; three axes are needed, the last of size {size}")
        if key[:2] != value[:2]:
            raise ValueError("keys and values have different shapes")
        if any(len(mask) != 2 for mask in inputs[3:]):
            raise ValueError("its mask does not have two axes: heads would be a part of its batch axis")
        return query

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        query, key, value, *masks = inputs
        e = self.embed_dim
        for tokens in (*key.axes[:2], *value.axes[:2], *(axis for mask in masks for axis in mask.axes)):
            f.mix(tokens, "attends over it")
        if "attn_mask" in (self.masks or ()):
            for tokens in query.axes[:2]:
                f.mix(tokens, "masks it by place")
        heads = f.create("heads", 0, self.num_heads)
        inner = f.merge([(heads, self.num_heads), (None, e // self.num_heads)])
        self._project(f, inner, (query, key, value))
        f.consume("out_proj.weight", 1, inner, size=e, rows=0)
        out = f.create("out_proj.weight", 0, e)
        if self.bias:
            f.carry("out_proj.bias", 0, out, size=e)
        for other in (out, query.axes[2]):  # the module has one width for all of them
            f.same_width(inner, other, size=e, why=f"is as wide as its heads of {e // self.num_heads} are together")
        f.set(embed_dim=f.width(out, e), num_heads=f.width(heads, self.num_heads))
        return (*query.axes[:2], out)

    def _project(self, f: Flow, inner: Axis, inputs: tuple[Channels, ...]) -> None:
        """The weights that read the inputs and make heads."""
        e = self.embed_dim
        thirds = f.concat([(inner, e)] * 3)
        apart = self.kdim is not None
        names = [name for name, *_ in self._projections()]
        for name, x in zip(names if apart else names * 3, inputs, strict=True):
            f.consume(name, 1, x.axes[2], size=fixed(x.shape[2]), rows=0)
        for name in names:
            f.carry(name, 0, inner if apart else thirds, size=e if apart else 3 * e)
        if self.bias:
            f.carry("in_proj_bias", 0, thirds, size=3 * e)
        for name in ("bias_k", "bias_v") if self.add_bias_kv else ():
            f.carry(name, 2, inner, size=e)
        if apart:
            kdim, vdim = (f.width(x.axes[2], fixed(x.shape[2])) for x in inputs[1:])
            f.set(kdim=kdim, vdim=vdim)


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
    folds = True
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
            shapes = f"queries {show(query)}, keys {show(key)} and values {show(value)}"
            raise ValueError(f"{shapes} do not go together")
        outer = query[:-2]
        if self.enable_gqa:
            self._served(query, key, value)
        else:
            outer = broadcast(query[:-2], key[:-2], value[:-2])
        scores = (*outer, query[-2], key[-2])
        if len(inputs) == 4 and broadcast(inputs[3], scores) != scores:
            raise ValueError(f"a mask {show(inputs[3])} does not go with {show(scores)}, queries by keys")
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
