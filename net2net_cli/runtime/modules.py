"""Modules that torch itself does not have. Self-contained: `net2net export --to python` copies their source."""

from __future__ import annotations

import base64
import zlib

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """A tensor that a network's class makes by itself, as a buffer that no state dict holds.

    `data` holds the elements in C order, little-endian, compressed by zlib, in base64.
    """

    value: Tensor

    def __init__(self, size: tuple[int, ...], dtype: str, data: str) -> None:
        super().__init__()
        raw = bytearray(zlib.decompress(base64.b64decode(data)))
        kind = getattr(torch, dtype)
        # On the CPU under any default device: no state dict brings its values.
        value = torch.frombuffer(raw, dtype=kind) if raw else torch.empty(0, dtype=kind, device="cpu")
        self.register_buffer("value", value.reshape(size), persistent=False)

    def forward(self) -> Tensor:
        """The tensor."""
        return self.value

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"{tuple(self.value.shape)}, {self.value.dtype}"


class StochasticDepth(nn.Module):
    """Drops the whole branch at random in training (arXiv:1603.09382).

    It is dropped for each `row` of the batch by itself, or for the whole `batch`; arithmetic
    and random draws are those of `torchvision.ops.stochastic_depth`.
    """

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0 or mode not in ("row", "batch"):
            raise ValueError(f"p={p!r}, mode={mode!r}: a probability, `row` or `batch`")
        self.p = p
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """`(n, ...)` -> `(n, ...)`."""
        if not self.training or self.p == 0.0:
            return x
        survival = 1.0 - self.p
        size = [x.shape[0] if self.mode == "row" else 1] + [1] * (x.ndim - 1)
        noise = torch.empty(size, dtype=x.dtype, device=x.device).bernoulli_(survival)
        if survival > 0.0:
            noise.div_(survival)
        return x * noise

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"p={self.p}, mode={self.mode!r}"


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are buffers that never change.

    The arithmetic is that of `torchvision.ops.FrozenBatchNorm2d`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """`(n, c, h, w)` -> `(n, c, h, w)`: x · s + bias − mean · s, s = weight / √(var + eps)."""
        channels = (1, -1, 1, 1)
        inverse = (self.running_var.reshape(channels) + self.eps).rsqrt()
        scale = self.weight.reshape(channels) * inverse
        mean = self.running_mean.reshape(channels)
        shift = self.bias.reshape(channels) - mean * scale
        return x * scale + shift

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"{len(self.weight)}, eps={self.eps}"


class MultiheadAttention(nn.MultiheadAttention):
    """Attention that returns its output alone."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float,
        bias: bool,
        batch_first: bool,
        need_weights: bool,
        kdim: int | None,
        vdim: int | None,
        add_bias_kv: bool | None,
        add_zero_attn: bool | None,
        masks: tuple[str, ...] | None,
        is_causal: bool | None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            dropout=dropout,
            bias=bias,
            add_bias_kv=bool(add_bias_kv),
            add_zero_attn=bool(add_zero_attn),
            kdim=kdim,
            vdim=vdim,
            batch_first=batch_first,
        )
        if kdim is not None and self.in_proj_weight is not None:
            # Three widths that have become equal keep their weights apart.
            self._qkv_same_embed_dim = False
            self.register_parameter("in_proj_weight", None)
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                self.register_parameter(name, nn.Parameter(torch.empty(embed_dim, embed_dim)))
        self.masks = masks or ()
        self.options = {"need_weights": need_weights, "is_causal": bool(is_causal)}

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *masks: Tensor) -> Tensor:  # type: ignore[override]
        """Three times `(n, tokens, width)`, or tokens first, and masks of two axes, -> the queries' shape."""
        named = dict(zip(self.masks, masks, strict=True))
        output: Tensor = super().forward(query, key, value, **named, **self.options)[0]  # type: ignore[arg-type]
        return output


class ScaledDotProductAttention(nn.Module):
    """`torch.nn.functional.scaled_dot_product_attention`, with dropout in training alone."""

    def __init__(self, dropout_p: float, is_causal: bool, scale: float | None, enable_gqa: bool) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.is_causal = is_causal
        self.scale = scale
        self.enable_gqa = enable_gqa

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """`(..., l, d)`, `(..., s, d)`, `(..., s, e)` and a mask that fits `(..., l, s)` -> `(..., l, e)`."""
        return nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask,
            dropout_p=self.dropout_p if self.training else 0.0,
            is_causal=self.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
        )

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        shown = f"dropout_p={self.dropout_p}, is_causal={self.is_causal}"
        return f"{shown}, scale={self.scale}, enable_gqa={self.enable_gqa}"


class Recurrent(nn.Module):
    """A recurrent module of PyTorch that returns one tensor.

    It is the output sequence; with `states` the final states stand behind it, as further steps:
    of each layer its hidden state, both directions side by side, then of each its cell state.
    """

    def __init__(self, *arguments: object, states: bool | None = None, **named: object) -> None:
        super().__init__(*arguments, **named)
        self.states = states

    def forward(self, x: Tensor, *initial: Tensor) -> Tensor:
        """`(n, time, in)`, or time first, -> `(n, time, directions * hidden)`.

        Initial states are `(layers * directions, n, hidden)`.
        """
        start = initial if len(initial) > 1 else next(iter(initial), None)
        output: Tensor
        output, final = super().forward(x, start)
        if not self.states:
            return output
        time, rows = (1 if self.batch_first else 0), []
        for state in final if isinstance(final, tuple) else (final,):
            sides = state.unflatten(0, (-1, 2 if self.bidirectional else 1))
            rows.append(sides.permute(2, 0, 1, 3) if time else sides.transpose(1, 2))
        return torch.cat([output, *(row.flatten(2) for row in rows)], time)


class LSTM(Recurrent, nn.LSTM):  # type: ignore[misc] # another forward
    """Long short-term memory."""


class GRU(Recurrent, nn.GRU):  # type: ignore[misc] # another forward
    """Gated recurrent units."""


class RNN(Recurrent, nn.RNN):  # type: ignore[misc] # another forward
    """Plain recurrent units."""
