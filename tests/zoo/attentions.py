"""Attention as people write it: the same layer in two dozen spellings, in a network of one pre-norm block."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import einops
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

WIDTH, HEADS, SIZE, TOKENS = 24, 4, 6, 5
SHAPES = [(TOKENS, 7)]


class Attends(nn.Module):
    """x + proj(attend(norm(x))), where `attend` is spelled in one way or another.

    Args:
        attend: a function of this module and its normalised input.
        widths: of the linear layers that it calls, by name.
        extra: parameters; those of another type than float, and those that are named `mask`, are buffers.
    """

    def __init__(
        self, attend: Callable[[Any, Tensor], Any], widths: Mapping[str, int], extra: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.attend = attend
        self.heads, self.scale = HEADS, SIZE**-0.5
        self.embed, self.norm = nn.Linear(7, WIDTH), nn.LayerNorm(WIDTH)
        for name, width in widths.items():
            self.add_module(name, nn.Linear(WIDTH, width))
        self.proj, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 6)
        self.drop = nn.Dropout(0.1)
        for name, value in extra.items():
            if name == "mask" or not value.is_floating_point():
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        x = x + self.proj(self.attend(self, self.norm(x)))
        return self.out(x)


def timm(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, m.heads, c // m.heads).permute(2, 0, 3, 1, 4).unbind(0)
    weights = m.drop((q * m.scale @ k.transpose(-2, -1)).softmax(dim=-1))
    return (weights @ v).transpose(1, 2).reshape(b, n, c)


def timm_fused(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    qkv = m.qkv(x).reshape(b, n, 3, m.heads, c // m.heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    x = F.scaled_dot_product_attention(q, k, v, dropout_p=m.drop.p if m.training else 0.0)
    return x.transpose(1, 2).reshape(b, n, c)


def mingpt(m: Any, x: Tensor) -> Any:
    b, t, c = x.size()
    k = m.k(x).view(b, t, m.heads, c // m.heads).transpose(1, 2)
    q = m.q(x).view(b, t, m.heads, c // m.heads).transpose(1, 2)
    v = m.v(x).view(b, t, m.heads, c // m.heads).transpose(1, 2)
    att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
    att = att.masked_fill(m.mask[:, :, :t, :t] == 0, float("-inf"))
    att = m.drop(F.softmax(att, dim=-1))
    return (att @ v).transpose(1, 2).contiguous().view(b, t, c)


def nanogpt(m: Any, x: Tensor) -> Any:
    b, t, c = x.size()
    q, k, v = m.qkv(x).split(c, dim=2)
    q, k, v = (y.view(b, t, m.heads, c // m.heads).transpose(1, 2) for y in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, None, dropout_p=m.drop.p if m.training else 0, is_causal=True)
    return y.transpose(1, 2).contiguous().view(b, t, c)


def chunked(m: Any, x: Tensor) -> Any:
    q, k, v = (einops.rearrange(t, "b n (h d) -> b h n d", h=m.heads) for t in m.qkv(x).chunk(3, dim=-1))
    dots = torch.matmul(q, k.transpose(-1, -2)) * m.scale
    return einops.rearrange(torch.matmul(m.drop(dots.softmax(-1)), v), "b h n d -> b n (h d)")


def einsum(m: Any, x: Tensor) -> Any:
    q, k, v = einops.rearrange(m.qkv(x), "b n (three h d) -> three b h n d", three=3, h=m.heads)
    dots = torch.einsum("bhid,bhjd->bhij", q, k) * m.scale
    return einops.rearrange(torch.einsum("bhij,bhjd->bhid", dots.softmax(-1), v), "b h n d -> b n (h d)")


def einsum_tokens_first(m: Any, x: Tensor) -> Any:
    b, n, _ = x.shape
    q, k, v = (f(x).view(b, n, m.heads, SIZE) for f in (m.q, m.k, m.v))
    weights = torch.einsum("bqhd, bkhd -> bhqk", [q, k]) / math.sqrt(SIZE)
    return torch.einsum("bhqk,bkhd->bqhd", weights.softmax(-1), v).flatten(2)


def einsum_dots(m: Any, x: Tensor) -> Any:
    b, n, _ = x.shape
    q, k, v = (f(x).view(b, n, m.heads, SIZE).transpose(1, 2) for f in (m.q, m.k, m.v))
    weights = torch.einsum("...id,...jd->...ij", q * m.scale, k).softmax(-1)
    return einops.einsum(weights, v, "b h query key, b h key size -> b query h size").flatten(2)


def bmm(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    q, k, v = (f(x).view(b, n, m.heads, SIZE).transpose(1, 2).reshape(b * m.heads, n, SIZE) for f in (m.q, m.k, m.v))
    weights = m.drop((torch.bmm(q, k.transpose(1, 2)) * m.scale).softmax(-1))
    return torch.bmm(weights, v).view(b, m.heads, n, SIZE).transpose(1, 2).reshape(b, n, c)


def baddbmm(m: Any, x: Tensor) -> Any:
    b, n, _ = x.shape
    q, k, v = (einops.rearrange(f(x), "b n (h d) -> (b h) n d", h=m.heads) for f in (m.q, m.k, m.v))
    weights = torch.baddbmm(m.bias, q, k.transpose(1, 2), beta=0.5, alpha=m.scale).softmax(-1)
    return einops.rearrange(weights @ v, "(b h) n d -> b n (h d)", b=b, n=n)


def heads_before_batch(m: Any, x: Tensor) -> Any:
    b, n, _ = x.shape
    q, k, v = (einops.rearrange(f(x), "b n (h d) -> (h b) n d", h=m.heads) for f in (m.q, m.k, m.v))
    weights = (q @ k.transpose(1, 2) * m.scale).softmax(-1)
    return einops.rearrange(weights @ v, "(h b) n d -> b n (h d)", b=b, n=n)


def cosine(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, m.heads, c // m.heads).permute(2, 0, 3, 1, 4).unbind(0)
    weights = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * m.temperature.exp()
    return (weights.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, c)


def linear_attention(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, m.heads, c // m.heads).permute(2, 0, 3, 1, 4)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    state = torch.einsum("bhnd,bhne->bhde", k, v)
    scale = 1 / (torch.einsum("bhnd,bhd->bhn", q, k.sum(2)) + 1e-6)
    return torch.einsum("bhnd,bhde,bhn->bhne", q, state, scale).transpose(1, 2).reshape(b, n, c)


def efficient(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, m.heads, c // m.heads).permute(2, 0, 3, 1, 4)
    context = k.softmax(dim=-2).transpose(-2, -1) @ v
    return (q.softmax(dim=-1) @ context).transpose(1, 2).reshape(b, n, c)


def _heads(m: Any, x: Tensor, served: int = HEADS) -> tuple[Tensor, Tensor, Tensor]:
    b, n, _ = x.shape
    q = m.q(x).view(b, n, m.heads, SIZE).transpose(1, 2)
    k, v = (f(x).view(b, n, served, SIZE).transpose(1, 2) for f in (m.k, m.v))
    return q, k, v


def masked(m: Any, x: Tensor) -> Any:
    y = F.scaled_dot_product_attention(*_heads(m, x), attn_mask=m.mask, scale=0.3)
    return y.transpose(1, 2).flatten(2)


def biased(m: Any, x: Tensor) -> Any:
    """A learned bias for each head, which grows with the heads."""
    return F.scaled_dot_product_attention(*_heads(m, x), m.bias).transpose(1, 2).flatten(2)


def where(m: Any, x: Tensor) -> Any:
    q, k, v = _heads(m, x)
    scores = torch.where(m.mask.bool(), q @ k.mT / math.sqrt(SIZE), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def inverted(m: Any, x: Tensor) -> Any:
    q, k, v = _heads(m, x)
    scores = (q @ k.mT / math.sqrt(SIZE)).masked_fill_(~m.mask & (m.mask == m.mask), -1e9)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def added(m: Any, x: Tensor) -> Any:
    b, n, c = x.shape
    q, k, v = (f(x).view(b, n, m.heads, SIZE).permute(0, 2, 1, 3) for f in (m.q, m.k, m.v))
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(SIZE) + (1 - m.mask) * -1e9
    weights = F.dropout(torch.softmax(scores, -1), m.drop.p, m.training)
    y = torch.matmul(weights, v).permute(0, 2, 1, 3).contiguous()
    return y.view(y.size()[:-2] + (c,))  # noqa: RUF005 - as many write it


def made(m: Any, x: Tensor) -> Any:
    q, k, v = _heads(m, x)
    causal = torch.tril(torch.ones(x.size(1), x.size(1), device=x.device))
    scores = (q @ k.mT * m.scale).masked_fill(causal.view(1, 1, x.size(1), x.size(1)) == 0, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def made_of_numbers(m: Any, x: Tensor) -> Any:
    q, k, v = _heads(m, x)
    scores = q @ k.mT * m.scale + torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def grouped(m: Any, x: Tensor) -> Any:
    y = F.scaled_dot_product_attention(*_heads(m, x, 2), enable_gqa=True)
    return y.transpose(1, 2).flatten(2)


def repeated(m: Any, x: Tensor) -> Any:
    q, k, v = _heads(m, x, 2)
    k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def expanded(m: Any, x: Tensor) -> Any:
    b, n, _ = x.shape
    q, k, v = _heads(m, x, 2)
    k, v = (t[:, :, None].expand(b, 2, 2, n, SIZE).reshape(b, m.heads, n, SIZE) for t in (k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


TRIL = torch.ones(TOKENS, TOKENS).tril()
FUSED = {"qkv": 3 * WIDTH}
THREE = {"q": WIDTH, "k": WIDTH, "v": WIDTH}
GROUPED = {"q": WIDTH, "k": WIDTH // 2, "v": WIDTH // 2}


@dataclass(frozen=True)
class Spelling:
    """One way to write attention.

    Attributes:
        attend: the function.
        widths: of its linear layers.
        extra: its parameters and buffers.
        unit: how many channels of its first linear layer one more head has.
    """

    attend: Callable[[Any, Tensor], Any]
    widths: Mapping[str, int] = field(default_factory=lambda: THREE)
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    unit: int = SIZE

    def network(self) -> Attends:
        torch.manual_seed(0)
        return Attends(self.attend, self.widths, {name: value.clone() for name, value in self.extra.items()})


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


ONE_LINEAR = (timm, timm_fused, nanogpt, chunked, einsum, linear_attention, efficient)
SPELLINGS: dict[str, Spelling] = {
    **{f.__name__: Spelling(f, FUSED, unit=3 * SIZE) for f in ONE_LINEAR},
    **{f.__name__: Spelling(f) for f in (einsum_tokens_first, einsum_dots, bmm, made, made_of_numbers)},
    "cosine": Spelling(cosine, FUSED, {"temperature": _drawn(HEADS, 1, 1)}, unit=3 * SIZE),
    "mingpt": Spelling(mingpt, extra={"mask": TRIL.view(1, 1, TOKENS, TOKENS)}),
    "baddbmm": Spelling(baddbmm, extra={"bias": _drawn(1, TOKENS, TOKENS)}),
    "masked": Spelling(masked, extra={"mask": TRIL.bool()}),
    "biased": Spelling(biased, extra={"bias": _drawn(1, HEADS, TOKENS, TOKENS)}),
    "where": Spelling(where, extra={"mask": TRIL}),
    "inverted": Spelling(inverted, extra={"mask": TRIL.bool()}),
    "added": Spelling(added, extra={"mask": TRIL}),
    "repeated": Spelling(repeated, GROUPED, unit=2 * SIZE),
    "expanded": Spelling(expanded, GROUPED, unit=2 * SIZE),
}
