"""Attention over grids of tokens that are pooled inside the heads: MViT's, and its class token."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape, fixed

Grid = tuple[int, ...]
"""Frames, height and width."""

_UNUSUAL = "its pooling is not torchvision's: a depthwise convolution without bias, then layer norm"


@op("MultiscaleAttention", module="net2net_cli.runtime.modules_mvit.MultiscaleAttention")
class MultiscaleAttention(Op):
    """torchvision's attention of MViT v1 (Fan et al. 2021, arXiv:2104.11227) and v2 (Li et al. 2021, arXiv:2112.01526).

    Tokens are a class token and a grid. Queries, keys and values are pooled by a depthwise convolution and a layer norm
    over the channels of a head, with the same weights for all heads; so are the tables of relative positions. Heads are
    therefore copied as wholes and nothing inside them changes; heads × head size = out_features is kept, as the class
    needs it.

    Attributes:
        grid: the tokens' before pooling: frames, height, width.
        residual_pool: whether pooled queries are added to the output of each head.
        residual_with_cls_embed: whether the class token's are as well.
        kernel_q: of the queries' pooling, None where they are not pooled.
        kernel_kv: of the keys' and values' pooling.
        eps: of the pooling's layer norms.
        offsets: rows of the tables of relative positions: height, width, frames.
    """

    reads_modules = ("torchvision.models.video.mvit.MultiscaleAttention",)
    signature: ClassVar[str] = "x thw"
    linear = True
    silent: ClassVar[tuple[str, ...]] = ("project.0.weight", "project.0.bias")

    in_features: int
    out_features: int
    num_heads: int
    head_dim: int
    grid: tuple[int, ...]
    query_scale: float
    residual_pool: bool
    residual_with_cls_embed: bool
    dropout: float
    kernel_q: tuple[int, ...] | None = None
    stride_q: tuple[int, ...] | None = None
    kernel_kv: tuple[int, ...] | None = None
    stride_kv: tuple[int, ...] | None = None
    eps: float | None = None
    offsets: tuple[int, ...] | None = None

    @classmethod
    def from_module(cls, module: Any) -> Self:
        windows: dict[str, Any] = {}
        for name, pool in (("q", module.pool_q), ("kv", module.pool_k), ("kv", module.pool_v)):
            if pool is not None:
                windows |= {f"kernel_{name}": tuple(pool.pool.kernel_size), f"stride_{name}": tuple(pool.pool.stride)}
                windows["eps"] = _check_pool(pool, module.head_dim)
        tables = (module.rel_pos_h, module.rel_pos_w, module.rel_pos_t)
        return cls(
            in_features=module.embed_dim,
            out_features=module.output_dim,
            num_heads=module.num_heads,
            head_dim=module.head_dim,
            grid=(),
            query_scale=float(module.scaler),
            residual_pool=bool(module.residual_pool),
            residual_with_cls_embed=bool(module.residual_with_cls_embed),
            dropout=float(module.project[1].p) if len(module.project) > 1 else 0.0,
            offsets=None if module.rel_pos_h is None else tuple(len(table) for table in tables),
            **windows,
        )

    def called_with(self, arguments: Mapping[str, Any]) -> Self:
        grid = arguments.get("thw")
        if not isinstance(grid, tuple) or not all(isinstance(size, int) for size in grid):
            raise ValueError("the grid of its tokens is not given as three numbers")
        return dataclasses.replace(self, grid=grid)

    def check(self) -> None:
        if self.num_heads * self.head_dim != self.out_features:
            raise ValueError(f"{self.num_heads} heads of {self.head_dim} do not make up a width of {self.out_features}")
        for grid in (self.grid, self.kernel_q, self.stride_q, self.kernel_kv, self.stride_kv, self.offsets):
            if grid is not None and (len(grid) != 3 or min(grid) < 1):
                raise ValueError("grids, kernels, strides and offsets have three positive entries")
        for kernel, stride in ((self.kernel_q, self.stride_q), (self.kernel_kv, self.stride_kv)):
            if (kernel is None) != (stride is None) or (kernel is not None and self.eps is None):
                raise ValueError("what is pooled has a kernel, a stride and an eps")

    def tensors(self) -> dict[str, TensorSlot]:
        e, o, d = self.in_features, self.out_features, self.head_dim
        slots = {f"rel_pos_{axis}": TensorSlot((n, d)) for axis, n in zip("hwt", self.offsets or (), strict=False)}
        slots["qkv.weight"] = TensorSlot((3 * o, e))
        slots["qkv.bias"] = TensorSlot((3 * o,), default=0.0)
        slots["project.0.weight"] = TensorSlot((o, o))
        slots["project.0.bias"] = TensorSlot((o,), default=0.0)
        for name, kernel in (("q", self.kernel_q), ("k", self.kernel_kv), ("v", self.kernel_kv)):
            if kernel is not None:
                slots[f"pool_{name}.pool.weight"] = TensorSlot((d, 1, *kernel))
                slots[f"pool_{name}.norm_act.0.weight"] = TensorSlot((d,), default=1.0)
                slots[f"pool_{name}.norm_act.0.bias"] = TensorSlot((d,), default=0.0)
        return slots

    @property
    def pooled_grid(self) -> Grid:
        """The grid of the queries, and of the output."""
        if self.kernel_q is None or self.stride_q is None:
            return self.grid
        sides = zip(self.grid, self.kernel_q, self.stride_q, strict=True)
        return tuple((size + 2 * (kernel // 2) - kernel) // stride + 1 for size, kernel, stride in sides)

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if len(x) != 3 or x[1:] != (1 + prod(self.grid), self.in_features):
            raise ValueError(f"its input needs three axes, the last of sizes {1 + prod(self.grid)}, {self.in_features}")
        return (x[0], 1 + prod(self.pooled_grid), self.out_features)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        e, o = self.in_features, self.out_features
        f.mix(x.axes[1], "attends over it")
        heads = f.create("heads", 0, self.num_heads)
        inner = f.merge([(heads, self.num_heads), (None, self.head_dim)])
        thirds = f.concat([(inner, o)] * 3)
        f.consume("qkv.weight", 1, x.axes[2], size=e, rows=0)
        f.carry("qkv.weight", 0, thirds, size=3 * o)
        f.carry("qkv.bias", 0, thirds, size=3 * o)
        f.consume("project.0.weight", 1, inner, size=o, rows=0)
        out = f.create("project.0.weight", 0, o)
        f.carry("project.0.bias", 0, out, size=o)
        # The class has one width for both.
        f.same_width(inner, out, size=o, why=f"is as wide as its heads of {self.head_dim} are together")
        widths = {"in_features": f.width(x.axes[2], e), "out_features": f.width(out, o)}
        f.set(num_heads=f.width(heads, self.num_heads), **widths)
        return (x.axes[0], None, out)


def _check_pool(pool: Any, size: int) -> float:
    """The eps of a pooling's layer norm.

    Raises:
        ValueError: the pooling is not of torchvision's form.
    """
    conv: Any = pool.pool
    norm: Any
    norm, *more = pool.norm_act or (None,)
    usual_conv = type(conv).__name__ == "Conv3d" and conv.groups == conv.out_channels == size and conv.bias is None
    usual_norm = type(norm).__name__ == "LayerNorm" and norm.normalized_shape == (size,) and norm.bias is not None
    if not usual_conv or not usual_norm or more or pool.norm_before_pool:
        raise ValueError(_UNUSUAL)
    window = (tuple(conv.padding), tuple(conv.dilation), conv.padding_mode)
    if window != (tuple(k // 2 for k in conv.kernel_size), (1, 1, 1), "zeros"):
        raise ValueError(_UNUSUAL)
    return float(norm.eps)


@op("MultiscalePositionalEncoding", module="net2net_cli.runtime.modules_mvit.MultiscalePositionalEncoding")
class MultiscalePositionalEncoding(Op):
    """Puts MViT's class token in front of the tokens of a grid, and adds learned positions: frame plus place.

    Attributes:
        grid: the tokens': frames, height, width.
        absolute: whether there are positions; attention looks up relative ones otherwise.
    """

    reads_modules = ("torchvision.models.video.mvit.PositionalEncoding",)
    linear = True

    embed_dim: int
    grid: tuple[int, ...]
    absolute: bool

    @classmethod
    def from_module(cls, module: Any) -> Self:
        grid = (module.temporal_size, *module.spatial_size)
        return cls(len(module.class_token), grid, module.spatial_pos is not None)

    def check(self) -> None:
        if len(self.grid) != 3 or min(self.grid) < 1:
            raise ValueError("a grid has three positive entries")

    def tensors(self) -> dict[str, TensorSlot]:
        frames, height, width = self.grid
        e = self.embed_dim
        slots = {"class_token": TensorSlot((e,), default=0.0)}
        if self.absolute:
            slots["spatial_pos"] = TensorSlot((height * width, e), default=0.0)
            slots["temporal_pos"] = TensorSlot((frames, e), default=0.0)
            slots["class_pos"] = TensorSlot((e,), default=0.0)
        return slots

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if len(x) != 3 or x[1:] != (prod(self.grid), self.embed_dim):
            raise ValueError(f"its input needs three axes, the last of sizes {prod(self.grid)} and {self.embed_dim}")
        return (x[0], 1 + fixed(x[1]), x[2])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        f.mix(x.axes[1], "adds to each a position of its own")
        for name, slot in self.tensors().items():
            f.carry(name, len(slot.shape) - 1, x.axes[2], size=self.embed_dim)
        f.set(embed_dim=f.width(x.axes[2], self.embed_dim))
        return (x.axes[0], None, x.axes[2])
