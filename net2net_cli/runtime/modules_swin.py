"""Attention within shifted windows. Self-contained: `net2net export --to python` copies the source of its classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Attention of the places in each window to one another (Swin; Liu et al. 2021, arXiv:2103.14030), channels last.

    Every other block shifts its windows by rolling the tensor; what the roll brings together from opposite ends does
    not attend to each other. An axis that fits into one window is not shifted. Arithmetic, random draws and names of
    tensors are those of torchvision's classes.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window_size: tuple[int, ...],
        shift_size: tuple[int, ...],
        qkv_bias: bool,
        proj_bias: bool,
        attention_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = tuple(window_size)
        self.shift_size = tuple(shift_size)
        self.attention_dropout = attention_dropout
        self.dropout = dropout
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = nn.Linear(embed_dim, embed_dim, bias=proj_bias)
        self.register_buffer("relative_position_index", self.pairs())
        self.add_steps()

    def pairs(self) -> Tensor:
        """`(tokens, tokens)`, flat for images: the number of the step from one place of a window to another."""
        places = torch.meshgrid(*(torch.arange(size) for size in self.window_size), indexing="ij")
        index = torch.zeros((), dtype=torch.long)
        for place, size in zip(places, self.window_size, strict=True):
            flat = place.flatten()
            index = index * (2 * size - 1) + (flat[:, None] - flat[None, :] + size - 1)
        return index.flatten() if len(self.window_size) == 2 else index

    def add_steps(self) -> None:
        """Add the tensors that `steps` needs."""
        raise NotImplementedError

    def steps(self) -> Tensor:
        """`(steps, heads)`: how much each head favours each step between two places."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """`(n, *sizes, embed_dim)` -> the same shape."""
        sizes = x.shape[1:-1]
        window = self.window_of(sizes)
        limits = zip(sizes, self.window_size, self.shift_size, strict=True)
        shift = [0 if size <= wide else amount for size, wide, amount in limits]
        bias = self.position_bias(window)
        missing = [-size % wide for size, wide in zip(sizes, window, strict=True)]
        x = nn.functional.pad(x, [0, 0, *(amount for end in reversed(missing) for amount in (0, end))])
        padded, axes = x.shape, tuple(range(1, x.ndim - 1))
        if sum(shift) > 0:
            x = torch.roll(x, [-amount for amount in shift], axes)
        mask = self.mask(x, window, shift)
        x = self.joined(self.attend(self.windows(x, window), bias, mask), padded, window)
        if sum(shift) > 0:
            x = torch.roll(x, shift, axes)
        for axis, size in zip(axes, sizes, strict=True):
            x = x.narrow(axis, 0, size)
        return x.contiguous()

    def window_of(self, sizes: torch.Size) -> tuple[int, ...]:
        """The window for places of these sizes."""
        return self.window_size

    def windows(self, x: Tensor, window: tuple[int, ...]) -> Tensor:
        """`(n, *sizes, c)` -> `(n · windows, tokens, c)`."""
        cut = [part for size, wide in zip(x.shape[1:-1], window, strict=True) for part in (size // wide, wide)]
        x = x.view(x.shape[0], *cut, x.shape[-1])
        outer, inner = range(1, len(cut), 2), range(2, len(cut) + 1, 2)
        x = x.permute(0, *outer, *inner, x.ndim - 1)
        return x.reshape(-1, torch.Size(window).numel(), x.shape[-1])

    def joined(self, x: Tensor, shape: torch.Size, window: tuple[int, ...]) -> Tensor:
        """`(n · windows, tokens, c)` -> `shape`, which is `(n, *sizes, c)`: the inverse of `windows`."""
        counts = [size // wide for size, wide in zip(shape[1:-1], window, strict=True)]
        x = x.view(shape[0], *counts, *window, shape[-1])
        order = [axis for i in range(1, len(window) + 1) for axis in (i, i + len(window))]
        return x.permute(0, *order, x.ndim - 1).reshape(shape)

    def position_bias(self, window: tuple[int, ...]) -> Tensor:
        """`(1, heads, tokens, tokens)`: what is added to the score of two places."""
        tokens, every = torch.Size(window).numel(), torch.Size(self.window_size).numel()
        index = self.relative_position_index.view(every, every)[:tokens, :tokens].flatten()
        return self.steps()[index].view(tokens, tokens, -1).permute(2, 0, 1).contiguous().unsqueeze(0)

    def mask(self, x: Tensor, window: tuple[int, ...], shift: list[int]) -> Tensor | None:
        """`(windows, tokens, tokens)`: −100 where the roll brought two places together, else 0."""
        if sum(shift) == 0:
            return None
        region = torch.zeros((), dtype=torch.long, device=x.device)
        for size, wide, amount in zip(x.shape[1:-1], window, shift, strict=True):
            place = torch.arange(size, device=x.device)
            part = (place >= size - wide).long() + (place >= size - amount).long()
            region = region.unsqueeze(-1) * 3 + (part if amount else torch.zeros_like(place))
        region = self.windows(region[None, ..., None], window).squeeze(-1)
        apart = region.unsqueeze(1) != region.unsqueeze(2)
        return x.new_zeros(apart.shape).masked_fill(apart, -100.0)

    def attend(self, x: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """`(n · windows, tokens, c)` -> the same shape."""
        rows, tokens, width = x.shape
        qkv = nn.functional.linear(x, self.qkv.weight, self.qkv_bias())
        qkv = qkv.reshape(rows, tokens, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        scores = self.scores(qkv[0], qkv[1]) + bias
        if mask is not None:
            scores = scores.view(-1, len(mask), self.num_heads, tokens, tokens) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.num_heads, tokens, tokens)
        weights = nn.functional.softmax(scores, dim=-1)
        weights = nn.functional.dropout(weights, self.attention_dropout, self.training)
        x = self.proj(weights.matmul(qkv[2]).transpose(1, 2).reshape(rows, tokens, width))
        return nn.functional.dropout(x, self.dropout, self.training)

    def qkv_bias(self) -> Tensor | None:
        """The bias of queries, keys and values."""
        bias: Tensor | None = self.qkv.bias
        return bias

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Twice `(windows, heads, tokens, c)` -> `(windows, heads, tokens, tokens)`: q kᵀ / √c."""
        scale: float = q.shape[-1] ** -0.5
        return (q * scale).matmul(k.transpose(-2, -1))

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"num_heads={self.num_heads}, window_size={self.window_size}, shift_size={self.shift_size}"


class ShiftedWindowAttention(WindowAttention):
    """The attention of Swin transformers: a table holds what each head gives to each step between two places."""

    def add_steps(self) -> None:
        """Add the table."""
        steps = torch.Size(2 * size - 1 for size in self.window_size).numel()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(steps, self.num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def steps(self) -> Tensor:
        """`(steps, heads)`."""
        return self.relative_position_bias_table


class ShiftedWindowAttention3d(ShiftedWindowAttention):
    """The attention of video Swin transformers (arXiv:2106.13230): windows are no larger than the video."""

    def window_of(self, sizes: torch.Size) -> tuple[int, ...]:
        """The window for places of these sizes."""
        return tuple(min(size, wide) for size, wide in zip(sizes, self.window_size, strict=True))


class ShiftedWindowAttentionV2(WindowAttention):
    """The attention of Swin transformers v2 (Liu et al. 2022, arXiv:2111.09883).

    Scores are cosines times a factor of each head; keys have no bias; a small network tells what each head gives to
    the step between two places from the logarithm of its length.
    """

    relative_coords_table: Tensor

    def add_steps(self) -> None:
        """Add the network, its inputs, and each head's factor."""
        self.logit_scale = nn.Parameter(torch.log(10 * torch.ones((self.num_heads, 1, 1))))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, self.num_heads, bias=False)
        )
        axes = [torch.arange(-(size - 1), size, dtype=torch.float32) / (size - 1) for size in self.window_size]
        steps = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).unsqueeze(0) * 8
        steps = torch.sign(steps) * torch.log2(torch.abs(steps) + 1.0) / 3.0
        self.register_buffer("relative_coords_table", steps)

    def steps(self) -> Tensor:
        """`(steps, heads)`."""
        found: Tensor = self.cpb_mlp(self.relative_coords_table)
        return found.view(-1, self.num_heads)

    def position_bias(self, window: tuple[int, ...]) -> Tensor:
        """`(1, heads, tokens, tokens)`: what is added to the score of two places, between 0 and 16."""
        return 16 * torch.sigmoid(super().position_bias(window))

    def qkv_bias(self) -> Tensor | None:
        """The bias of queries and values; that of keys is stored, and not used."""
        if self.qkv.bias is None:
            return None
        bias = self.qkv.bias.clone()
        third = bias.numel() // 3
        bias[third : 2 * third].zero_()
        return bias

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Twice `(windows, heads, tokens, c)` -> `(windows, heads, tokens, tokens)`: cosines, times at most 100."""
        cosines = nn.functional.normalize(q, dim=-1) @ nn.functional.normalize(k, dim=-1).transpose(-2, -1)
        largest = 4.605170185988092  # the logarithm of 100
        return cosines * torch.clamp(self.logit_scale, max=largest).exp()
