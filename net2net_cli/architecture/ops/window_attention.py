"""Attention within shifted windows: the Swin transformers of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, prod
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape


@dataclass(frozen=True)
class WindowAttention(Op):
    """Attention of the places in each window to one another (Liu et al. 2021, arXiv:2103.14030), channels last.

    Heads are copied as wholes, with what they give to each step between two places; the output's columns are shared
    out. Windows lie on the axes of places, which keep their sizes. The class of the module keeps heads × head size =
    width of input and output, so that heads and width grow together; the head size stays.
    """

    rank: ClassVar[int] = 2
    linear: ClassVar[bool] = True
    silent: ClassVar[tuple[str, ...]] = ("proj.weight", "proj.bias")

    embed_dim: int
    num_heads: int
    window_size: tuple[int, ...]
    shift_size: tuple[int, ...]
    qkv_bias: bool
    proj_bias: bool
    attention_dropout: float
    dropout: float

    @classmethod
    def from_module(cls, module: Any) -> Self:
        made = super().from_module(module)
        made.check()
        return made

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        if attribute == "embed_dim":
            return module.qkv.in_features
        if attribute in ("qkv_bias", "proj_bias"):
            return getattr(module, attribute.removesuffix("_bias")).bias is not None
        return super().read_attribute(module, attribute)

    def check(self) -> None:
        if len(self.window_size) != self.rank or len(self.shift_size) != self.rank:
            raise ValueError(f"its windows and shifts need {self.rank} sizes")
        if any(not 0 <= shift < size for shift, size in zip(self.shift_size, self.window_size, strict=True)):
            raise ValueError("its shifts must be less than its windows")
        if self.num_heads < 1 or self.embed_dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads divide a width of {self.embed_dim} unevenly")

    def tensors(self) -> dict[str, TensorSlot]:
        e, tokens = self.embed_dim, prod(self.window_size)
        pairs = (tokens * tokens,) if self.rank == 2 else (tokens, tokens)
        slots = {"qkv.weight": TensorSlot((3 * e, e)), "proj.weight": TensorSlot((e, e))}
        slots |= {"qkv.bias": TensorSlot((3 * e,), default=0.0)} if self.qkv_bias else {}
        slots |= {"proj.bias": TensorSlot((e,), default=0.0)} if self.proj_bias else {}
        return slots | {"relative_position_index": TensorSlot(pairs, "buffer", integer=True, default=0)}

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if len(x) != self.rank + 2 or x[-1] != self.embed_dim:
            raise ValueError(f"its input needs {self.rank + 2} axes, the last of size {self.embed_dim}")
        return x

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        batch, *places, width = inputs[0].axes
        e = self.embed_dim
        for place in places:
            f.mix(place, "attends over it")
        heads = f.create("heads", 0, self.num_heads)
        for name, axis in self.of_heads().items():
            f.carry(name, axis, heads, size=self.num_heads)
        inner = f.merge([(heads, self.num_heads), (None, e // self.num_heads)])
        out = f.create("proj.weight", 0, e)
        self._project(f, width, inner, out)
        for other in (out, width):  # the module has one width for all of them
            f.same_width(inner, other, size=e, why=f"is as wide as its heads of {e // self.num_heads} are together")
        f.set(embed_dim=f.width(out, e), num_heads=f.width(heads, self.num_heads))
        return (batch, *places, out)

    def of_heads(self) -> dict[str, int]:
        """Tensors that have an axis of heads, and which one."""
        return {}

    def _project(self, f: Flow, width: Axis, inner: Axis, out: Axis) -> None:
        e = self.embed_dim
        f.consume("qkv.weight", 1, width, size=e, rows=0)
        f.consume("proj.weight", 1, inner, size=e, rows=0)
        thirds = f.concat([(inner, e)] * 3)
        f.carry("qkv.weight", 0, thirds, size=3 * e)
        if self.qkv_bias:
            f.carry("qkv.bias", 0, thirds, size=3 * e)
        if self.proj_bias:
            f.carry("proj.bias", 0, out, size=e)


@dataclass(frozen=True)
class TableAttention(WindowAttention):
    """With a table of what each head gives to each step between two places."""

    def tensors(self) -> dict[str, TensorSlot]:
        steps = prod(2 * size - 1 for size in self.window_size)
        return super().tensors() | {"relative_position_bias_table": TensorSlot((steps, self.num_heads), default=0.0)}

    def of_heads(self) -> dict[str, int]:
        return {"relative_position_bias_table": 1}


_OURS = "net2net_cli.runtime.modules_swin"
_SWIN = "torchvision.models.swin_transformer"


@op("ShiftedWindowAttention", module=f"{_OURS}.ShiftedWindowAttention")
class ShiftedWindowAttention(TableAttention):
    """The attention of Swin transformers."""

    reads_modules = (f"{_SWIN}.ShiftedWindowAttention",)


@op("ShiftedWindowAttention3d", module=f"{_OURS}.ShiftedWindowAttention3d")
class ShiftedWindowAttention3d(TableAttention):
    """The attention of video Swin transformers (Liu et al. 2021, arXiv:2106.13230)."""

    reads_modules = ("torchvision.models.video.swin_transformer.ShiftedWindowAttention3d",)
    rank = 3


@op("ShiftedWindowAttentionV2", module=f"{_OURS}.ShiftedWindowAttentionV2")
class ShiftedWindowAttentionV2(WindowAttention):
    """The attention of Swin transformers v2 (Liu et al. 2022, arXiv:2111.09883).

    Its scores are cosines within a head, which copies of whole heads keep; a small network of 512 hidden units, a
    number of the class, tells what each head gives to each step.
    """

    reads_modules = (f"{_SWIN}.ShiftedWindowAttentionV2",)

    def tensors(self) -> dict[str, TensorSlot]:
        steps = tuple(2 * size - 1 for size in self.window_size)
        return super().tensors() | {
            "logit_scale": TensorSlot((self.num_heads, 1, 1), default=log(10)),
            "relative_coords_table": TensorSlot((1, *steps, 2), "buffer", default=0.0),
            "cpb_mlp.0.weight": TensorSlot((512, 2)),
            "cpb_mlp.0.bias": TensorSlot((512,)),
            "cpb_mlp.2.weight": TensorSlot((self.num_heads, 512)),
        }

    def of_heads(self) -> dict[str, int]:
        return {"logit_scale": 0, "cpb_mlp.2.weight": 0}
