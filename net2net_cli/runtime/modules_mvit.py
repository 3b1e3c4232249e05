"""What MViT has of its own. Self-contained: `net2net export --to python` copies its source."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MultiscaleAttention(nn.Module):
    """Attention over a class token and a grid of tokens, with queries, keys and values pooled to coarser grids.

    The arithmetic is that of torchvision's MViT, version 1 (arXiv:2104.11227) and 2 (arXiv:2112.01526).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_heads: int,
        head_dim: int,
        grid: tuple[int, int, int],
        query_scale: float,
        residual_pool: bool,
        residual_with_cls_embed: bool,
        dropout: float,
        kernel_q: tuple[int, int, int] | None = None,
        stride_q: tuple[int, int, int] | None = None,
        kernel_kv: tuple[int, int, int] | None = None,
        stride_kv: tuple[int, int, int] | None = None,
        eps: float | None = None,
        offsets: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.grid, self.query_scale = num_heads, head_dim, tuple(grid), query_scale
        self.residual_pool, self.residual_with_cls_embed = residual_pool, residual_with_cls_embed
        inner = num_heads * head_dim
        self.qkv = nn.Linear(in_features, 3 * inner)
        project = [nn.Linear(inner, out_features), *([nn.Dropout(dropout)] if dropout > 0.0 else [])]
        self.project = nn.Sequential(*project)
        windows = {"q": (kernel_q, stride_q), "k": (kernel_kv, stride_kv), "v": (kernel_kv, stride_kv)}
        for name, (kernel, stride) in windows.items():
            if kernel is None:
                continue
            margin = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
            pool = nn.Conv3d(head_dim, head_dim, kernel, stride or 1, margin, groups=head_dim, bias=False)
            norm = nn.Sequential(nn.LayerNorm(head_dim, eps=eps or 0.0))
            self.add_module(f"pool_{name}", nn.ModuleDict({"pool": pool, "norm_act": norm}))
        for axis, rows in zip("hwt", offsets or (), strict=False):
            self.register_parameter(f"rel_pos_{axis}", nn.Parameter(torch.zeros(rows, head_dim)))
            nn.init.trunc_normal_(self.get_parameter(f"rel_pos_{axis}"), std=0.02)

    def pooled(self, x: Tensor, name: str) -> tuple[Tensor, tuple[int, ...]]:
        """`(n, heads, 1 + tokens, head_dim)` -> the same with fewer tokens, and their grid; the class token stays."""
        if not hasattr(self, f"pool_{name}"):
            return x, self.grid
        pool = self.get_submodule(f"pool_{name}")
        image = x[:, :, 1:].transpose(2, 3).reshape(-1, self.head_dim, *self.grid).contiguous()
        image = pool.get_submodule("pool")(image)
        tokens = image.reshape(*x.shape[:2], self.head_dim, -1).transpose(2, 3)
        return pool.get_submodule("norm_act")(torch.cat((x[:, :, :1], tokens), dim=2)), tuple(image.shape[2:])

    def by_offset(self, axis: str, q: int, k: int) -> Tensor:
        """`(q, k, head_dim)`: the table's row for how far each query is from each key, in steps of the finer grid."""
        table: Tensor = self.get_parameter(f"rel_pos_{axis}")
        rows = 2 * max(q, k) - 1
        if len(table) != rows:
            table = nn.functional.interpolate(table.T[None], size=rows, mode="linear")[0].T
        queries = torch.arange(q, device=table.device)[:, None] * max(k / q, 1.0)
        keys = (torch.arange(k, device=table.device)[None, :] + (1.0 - k)) * max(q / k, 1.0)
        return table[(queries - keys).long()]

    def position_scores(self, q: Tensor, queries: tuple[int, ...], keys: tuple[int, ...]) -> Tensor:
        """`(n, heads, 1 + queries, head_dim)` -> `(n, heads, 1 + queries, 1 + keys)`, zero for the class token."""
        t, h, w = (self.by_offset(axis, a, b) for axis, a, b in zip("thw", queries, keys, strict=True))
        image = q[:, :, 1:].reshape(*q.shape[:2], *queries, self.head_dim)
        down = torch.einsum("nathwd,hkd->nathwk", image, h)
        right = torch.einsum("nathwd,wkd->nathwk", image, w)
        frames = image.permute(2, 0, 1, 3, 4, 5).flatten(1, 4)
        later = torch.matmul(frames, t.transpose(1, 2))
        later = later.view(queries[0], *q.shape[:2], *queries[1:], keys[0]).permute(1, 2, 0, 3, 4, 5)
        scores = down[..., None, :, None] + right[..., None, None, :] + later[..., :, None, None]
        return nn.functional.pad(scores.flatten(5, 7).flatten(2, 4), (1, 0, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 1 + tokens, in_features)` -> `(n, 1 + pooled tokens, out_features)`."""
        parts = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).transpose(1, 3).unbind(2)
        (q, queries), (k, keys), (v, _) = (self.pooled(part, name) for part, name in zip(parts, "qkv", strict=True))
        scores = torch.matmul(self.query_scale * q, k.transpose(2, 3))
        if hasattr(self, "rel_pos_h"):
            scores = scores + self.position_scores(q, queries, keys)
        out = torch.matmul(scores.softmax(dim=-1), v)
        if self.residual_pool:
            out = out + (q if self.residual_with_cls_embed else nn.functional.pad(q[:, :, 1:], (0, 0, 1, 0)))
        projected: Tensor = self.project(out.transpose(1, 2).flatten(2))
        return projected


class MultiscalePositionalEncoding(nn.Module):
    """Puts a class token in front of a grid of tokens and adds learned positions, where they are absolute.

    The arithmetic is that of torchvision's MViT.
    """

    def __init__(self, embed_dim: int, grid: tuple[int, int, int], absolute: bool) -> None:
        super().__init__()
        self.grid, self.absolute = tuple(grid), absolute
        self.class_token = nn.Parameter(torch.zeros(embed_dim))
        if absolute:
            frames, height, width = grid
            self.spatial_pos = nn.Parameter(torch.zeros(height * width, embed_dim))
            self.temporal_pos = nn.Parameter(torch.zeros(frames, embed_dim))
            self.class_pos = nn.Parameter(torch.zeros(embed_dim))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, tokens, embed_dim)` -> `(n, 1 + tokens, embed_dim)`."""
        x = torch.cat((self.class_token.expand(len(x), 1, -1), x), dim=1)
        if not self.absolute:
            return x
        positions = (self.temporal_pos[:, None] + self.spatial_pos).flatten(0, 1)
        return x + torch.cat((self.class_pos[None], positions))
