"""MaxViT's attention. Self-contained: `net2net export --to python` copies its source."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RelativePositionalMultiHeadAttention(nn.Module):
    """Attention inside windows of side × side tokens, with a learned bias for each relative position and head.

    The arithmetic is that of torchvision's MaxViT (arXiv:2204.01697), whose keys are scaled by a
    factor of the module's own.
    """

    relative_position_index: Tensor

    def __init__(self, embed_dim: int, head_dim: int, num_heads: int, side: int, key_scale: float) -> None:
        super().__init__()
        self.heads = (num_heads, head_dim)
        self.key_scale = key_scale
        self.to_qkv = nn.Linear(embed_dim, 3 * num_heads * head_dim)
        self.merge = nn.Linear(num_heads * head_dim, embed_dim)
        offsets = 2 * side - 1  # from 1 - side to side - 1
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets * offsets, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        token = torch.arange(side * side)
        row, column = token // side, token % side
        down = row[:, None] - row[None, :] + side - 1
        right = column[:, None] - column[None, :] + side - 1
        self.register_buffer("relative_position_index", down * offsets + right)

    def position_bias(self) -> Tensor:
        """`(1, heads, tokens, tokens)`: of each pair of tokens, by how they stand to each other."""
        index = self.relative_position_index
        return self.relative_position_bias_table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)[None]

    def forward(self, x: Tensor) -> Tensor:
        """`(n, windows, tokens, embed_dim)` -> the same."""
        parts = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, self.heads).transpose(2, 3) for part in parts)
        scores = torch.einsum("nwhid,nwhjd->nwhij", q, k * self.key_scale)
        weights = torch.softmax(scores + self.position_bias(), dim=-1)
        out = torch.einsum("nwhij,nwhjd->nwhid", weights, v)
        merged: Tensor = self.merge(out.transpose(2, 3).flatten(3))
        return merged

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"heads={self.heads}, key_scale={self.key_scale}"
