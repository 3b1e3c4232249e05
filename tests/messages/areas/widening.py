"""Widening: what cannot be exact."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from channels.sketch import conv, layer, linear, make, norm

from messages.areas.ops import ATTENTION, LSTM
from messages.areas.sketches import (
    ADD,
    DENSE,
    EMBED,
    HEAD,
    POINTWISE,
    RELU,
    TOKENS,
    after,
    widened,
)
from messages.example import Area, Example
from net2net_cli.architecture.graph import Layer, Tie
from net2net_cli.architecture.ops import SizeOf
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.channels.counts import NoCountsError

WIDEN = (
    Example("net2net widen teacher.safetensors fc=2x --no-verify -o student.safetensors"),
    Example("net2net widen teacher.safetensors 'fc*=2x' --where-possible --no-verify -o student.safetensors"),
)

REASONS = (
    widened("conv, then softmax over channels", *after(make("Softmax", 1), layer("c", conv(4, 2), "b"))),
    widened("conv, then a sum over channels", *after(make("sum", (1,), True), layer("c", conv(1, 2), "b"))),
    widened(
        "conv, then the variance over channels", *after(make("var", (1,), True, True), layer("c", conv(1, 2), "b"))
    ),
    widened("conv, then `normalize(dim=1)`", *after(make("normalize", 2.0, 1, 1e-12), layer("c", conv(4, 2), "b"))),
    widened(
        "conv, then local response norm",
        *after(make("LocalResponseNorm", 2, 1e-4, 0.75, 1.0), layer("c", conv(4, 2), "b")),
    ),
    widened("conv, then `x[:, 0]`", *after(make("select", 1, 0))),
    widened(
        "conv, then noise",
        POINTWISE,
        layer("noise", make("Normal", False), "a"),
        layer("b", ADD, "a", "noise"),
        layer("c", conv(4, 2), "b"),
    ),
    widened(
        "conv of one channel, then a GRU that starts with it",
        layer("a", conv(3, 1), "x"),
        layer("row", make("select", 2, 0), "a"),
        layer("start", make("rearrange", "n c w -> c n w"), "row"),
        layer("b", conv(3, 1), "x"),
        layer("steps", make("rearrange", "n 1 h w -> n h w"), "b"),
        layer("rnn", make("GRU", 6, 6, 1, True, True, 0.0, False), "steps", "start"),
    ),
    widened("conv, then `x[:, ::2]`", *after(make("slice", 1, 0, 4, 2), layer("c", conv(2, 2), "b"))),
    widened("conv, then `x.chunk(3, 1)`", *after(make("chunk", 3, 1, 0), layer("c", conv(2, 2), "b"))),
    widened(
        "conv, then reflected channels are padded",
        *after(make("pad", (0, 0, 0, 0, 1, 1), "reflect"), layer("c", conv(6, 2), "b")),
    ),
    widened(
        "conv of one channel, then `x.expand(-1, 4, -1, -1)`",
        layer("a", conv(3, 1), "x"),
        layer("b", make("expand", (-1, 4, -1, -1)), "a"),
        layer("d", conv(4, 2), "b"),
    ),
    widened(
        "conv of one channel, times another conv",
        layer("a", conv(3, 1), "x"),
        layer("b", conv(3, 4), "x"),
        layer("c", make("mul"), "b", "a"),
        layer("d", conv(4, 2), "c"),
    ),
    widened(
        "conv, then zeros of 16 MiB added",
        POINTWISE,
        layer("zeros", Constant.of(np.zeros((4, 1024, 1024), np.float32))),
        layer("b", ADD, "a", "zeros"),
        layer("c", conv(4, 2), "b"),
        shape=(3, 1024, 1024),
    ),
    widened(
        "conv of one channel, then `x.squeeze(1)`",
        layer("a", conv(3, 1), "x"),
        layer("b", make("rearrange", "n 1 h w -> n h w"), "a"),
    ),
    widened(
        "linear, then the product `q @ k.T`",
        DENSE,
        layer("k", linear(6, 4), "x"),
        layer("t", make("rearrange", "n t c -> n c t"), "k"),
        layer("m", make("matmul"), "a", "t"),
        layer("c", linear(4, 2), "m"),
        shape=TOKENS,
    ),
    widened(
        "linear, then `einsum('nic,njc->nij', q, k)`",
        DENSE,
        layer("k", linear(6, 4), "x"),
        layer("m", make("einsum", "nic,njc->nij"), "a", "k"),
        layer("c", linear(4, 2), "m"),
        shape=TOKENS,
    ),
    widened(
        "linear, then `einsum('ncc->nc', x)`",
        DENSE,
        layer("m", make("einsum", "ncc->nc"), "a"),
        layer("c", linear(4, 2), "m"),
        shape=TOKENS,
    ),
    widened(
        "queries and keys of scaled dot product attention",
        DENSE,
        layer("k", linear(6, 4), "x"),
        layer("v", linear(6, 4), "x"),
        layer("m", make("scaled_dot_product_attention", 0.0, False), "a", "k", "v"),
        layer("c", linear(4, 2), "m"),
        shape=TOKENS,
    ),
    widened(
        "linear, then channels become places: a convolution slides over them",
        DENSE,
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("u", make("rearrange", "n c t -> n t c"), "t"),
        layer("b", make("Conv1d", 4, 2, (3,), (1,), (1,), (1,), 1, True, "zeros"), "u"),
        shape=TOKENS,
    ),
    widened(
        "linear, then its features over their norm",
        DENSE,
        layer("b", make("norm", (2,), True, 2.0), "a"),
        layer("m", make("div"), "a", "b"),
        layer("c", linear(4, 2), "m"),
        shape=TOKENS,
    ),
    widened(
        "linear, then a roll of places and features at once",
        DENSE,
        layer("b", make("roll", (1, 2), (1, 1)), "a"),
        layer("c", linear(4, 2), "b"),
        shape=TOKENS,
    ),
    widened(
        "linear, then pooling over its features",
        DENSE,
        layer("b", make("AvgPool1d", (2,), (2,), (0,)), "a"),
        layer("c", linear(2, 2), "b"),
        shape=TOKENS,
    ),
    widened(
        "linear, then resampled features",
        DENSE,
        layer("b", make("interpolate", None, (2.0,)), "a"),
        layer("c", linear(8, 2), "b"),
        shape=TOKENS,
    ),
    widened(
        "features that an LSTM takes for time",
        DENSE,
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("b", make("LSTM", **{**LSTM, "input_size": 4}), "t"),
        shape=TOKENS,
    ),
    widened(
        "features that attention takes for tokens",
        DENSE,
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("b", make("MultiheadAttention", **{**ATTENTION, "embed_dim": 4}), "t", "t", "t"),
        shape=TOKENS,
    ),
    widened(
        "conv, then channels become samples: `x.flatten(0, 1)`",
        *after(make("rearrange", "n c h w -> (n c) h w"), layer("c", linear(6, 2), "b")),
    ),
    widened(
        "the same, and a convolution behind it",
        *after(make("rearrange", "n c h w -> (n c) 1 h w"), layer("c", conv(1, 2), "b")),
    ),
    widened(
        "channels come out of a batch axis that they were folded into first",
        *after(
            make("rearrange", "n c h w -> (c n) h w"),
            layer("c", make("rearrange", "(c n) h w -> n c h w", {"c": 4}), "b"),
            layer("d", conv(4, 2), "c"),
        ),
    ),
    widened(
        "a linear layer whose width another tensor is stretched to",
        DENSE,
        layer("k", linear(6, 1), "x"),
        layer("b", make("expand", (-1, -1, SizeOf("a", 2))), "k"),
        layer("d", linear(4, 2), "b"),
        shape=TOKENS,
    ),
    widened(
        "words of an embedding that is the head as well",
        EMBED,
        layer("last", make("LayerNorm", (4,), 1e-5, True, True), "a"),
        HEAD,
        shape=(5,),
        grow="head=+1",
        integers=True,
    ),
    widened(
        "the head reads the embedding's weights, and nothing stands between",
        EMBED,
        replace(HEAD, inputs=("a",)),
        shape=(5,),
        integers=True,
    ),
    widened(
        "… and a norm without weights does",
        EMBED,
        layer("last", make("LayerNorm", (4,), 1e-5, False, False), "a"),
        HEAD,
        shape=(5,),
        integers=True,
    ),
    widened(
        "… and another layer reads the norm too",
        EMBED,
        layer("last", make("LayerNorm", (4,), 1e-5, True, True), "a"),
        HEAD,
        layer("other", linear(4, 2), "last"),
        shape=(5,),
        integers=True,
    ),
    widened(
        "… and the norm is used twice",
        EMBED,
        layer("first", make("LayerNorm", (4,), 1e-5, True, True), "a"),
        replace(layer("last", make("LayerNorm", (4,), 1e-5, True, True), "first"), weights_of="first"),
        HEAD,
        shape=(5,),
        integers=True,
    ),
    widened(
        "… and it reads tokens as channels",
        EMBED,
        layer("norm", make("LayerNorm", (4,), 1e-5, True, True), "a"),
        layer("last", make("rearrange", "n t c -> n c t"), "norm"),
        HEAD,
        shape=(4,),
        integers=True,
    ),
    widened(
        "a depthwise convolution that is used on the input, and again",
        layer("a", conv(3, 3, groups=3), "x"),
        layer("b", RELU, "a"),
        replace(layer("c", conv(3, 3, groups=3), "b"), weights_of="a"),
        layer("d", conv(3, 2), "c"),
    ),
)


def stream(
    row: str,
    *between: Layer,
    last: str = "b",
    width: int = 4,
    kind: str = "LayerNorm",
    grow: str = "a=+1",
    **more: Any,
) -> Example:
    """A stream with a norm, which grows by any amount unless something takes it channel by channel."""
    norms = {
        "LayerNorm": make("LayerNorm", (width,), 1e-5, True, True),
        "RMSNorm": make("RMSNorm", (width,), 1e-5, True),
    }
    ends = (layer("norm", norms[kind], last), layer("fc", linear(width, 2), "norm"))
    return widened(row, DENSE, *between, *ends, shape=TOKENS, grow=grow, **more)


HALVES = (
    layer("p", make("chunk", 2, 2, 0), "a"),
    layer("q", make("chunk", 2, 2, 1), "a"),
    layer("b", make("cat", 2), "p", "q"),
)
PARTS = (
    layer("p", make("slice", 2, 0, 1, 1), "a"),
    layer("q", make("slice", 2, 1, 4, 1), "a"),
    layer("b", make("cat", 2), "p", "q"),
)

ATTENDING = {**ATTENTION, "embed_dim": 8}

GROUPED = (
    layer("q", linear(6, 24), "x"),
    layer("a", linear(6, 8), "x"),
    layer("qs", make("rearrange", "n t (h d) -> n h t d", {"h": 6}), "q"),
    layer("ks", make("rearrange", "n t (h d) -> n h t d", {"h": 2}), "a"),
    layer("m", make("scaled_dot_product_attention", 0.0, False, None, True), "qs", "ks", "ks"),
    layer("u", make("rearrange", "n h t d -> n t (h d)"), "m"),
    layer("c", linear(24, 2), "u"),
)

HEADS = (
    widened("six heads of queries that two heads of keys serve", *GROUPED, shape=TOKENS),
    widened(
        "linear, and a sum with a slice of `torch.cat` that holds the input",
        layer("a", linear(6, 6), "x"),
        layer("e", linear(6, 6), "x"),
        layer("b", make("cat", 2), "x", "e"),
        layer("s", make("slice", 2, 0, 6, 1), "b"),
        layer("c", ADD, "a", "s"),
        layer("d", linear(6, 2), "c"),
        shape=TOKENS,
    ),
    widened(
        "an outer product of two layers' features, flattened",
        layer("k", linear(6, 7), "x"),
        layer("a", linear(6, 4), "x"),
        layer("m", make("einsum", "ni,nj->nij"), "k", "a"),
        layer("f", make("rearrange", "n i j -> n (i j)"), "m"),
        layer("c", linear(28, 2), "f"),
        shape=(6,),
    ),
    widened(
        "linear, then features that come out of an axis `(g n)`",
        layer("a", linear(6, 4), "x"),
        layer("b", make("rearrange", "n t c -> (n c) t"), "a"),
        layer("c", make("rearrange", "(g n) t -> n t g", {"g": 4}), "b"),
        layer("d", linear(4, 2), "c"),
        shape=TOKENS,
    ),
)

SHORT = make("WeightNormLinear", 4, 4, True, 0, "hook")

OTHERS = (
    widened(
        "linear, then two layers with weight norm and the same lengths",
        DENSE,
        layer("b", SHORT, "a"),
        Layer("c", SHORT, ("a",), tied=(Tie("weight_g", "b", "weight_g"),)),
        layer("d", ADD, "b", "c"),
        layer("e", linear(4, 2), "d"),
        shape=TOKENS,
        options="--split equal ",
    ),
    widened(
        "linear, then attention with two heads of 4",
        layer("a", linear(6, 8), "x"),
        layer("b", make("MultiheadAttention", **ATTENDING), "a", "a", "a"),
        layer("c", linear(8, 2), "b"),
        shape=TOKENS,
        grow="a=+1",
    ),
    widened(
        "places as features, then causal attention",
        DENSE,
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("k", linear(6, 4), "x"),
        layer("m", make("scaled_dot_product_attention", 0.0, True), "t", "k", "k"),
        layer("u", make("rearrange", "n c t -> n t c"), "m"),
        layer("c", linear(4, 2), "u"),
        shape=TOKENS,
    ),
    widened(
        "features as tokens of a video transformer",
        layer("a", linear(6, 4), "x"),
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("b", make("MultiscalePositionalEncoding", 8, (1, 2, 2), True), "t"),
        layer("c", linear(8, 2), "b"),
        shape=(8, 6),
    ),
    widened(
        "conv, then an image whose width are the channels, and a batch norm",
        *after(make("rearrange", "n c h w -> n h w c"), layer("c", norm(6), "b"), layer("d", linear(4, 2), "c")),
    ),
    widened(
        "conv, then `torch.cat` with a part of the input in a shape that both make",
        layer("a", conv(3, 4), "x"),
        layer("b", make("cat", 1), "a", "x"),
        layer("c", make("rearrange", "n c h w -> n h (c w)"), "b"),
        layer("d", make("Softmax", 2), "c"),
        layer("e", make("Linear", 42, 2, True), "d"),
    ),
)

STREAMS = (
    stream("an activation before the norm", layer("b", RELU, "a")),
    stream("a number is added", layer("b", make("add", 0.5), "a")),
    stream("one number is added to all channels", layer("k", linear(6, 1), "x"), layer("b", ADD, "a", "k")),
    stream("a gate for each channel", layer("k", linear(6, 4), "x"), layer("b", make("mul"), "a", "k")),
    stream("`x.chunk(2, -1)` and back", *HALVES, grow="a=+2"),
    stream("`x[..., :1]` and `x[..., 1:]`", *PARTS),
    stream(
        "`torch.cat` with other channels", layer("k", linear(6, 2), "x"), layer("b", make("cat", 2), "a", "k"), width=6
    ),
    stream("padded features", layer("b", make("pad", (0, 2), "constant", 0.0), "a"), width=6),
    stream("features beside ones", layer("b", make("pad", (0, 2), "constant", 1.0), "a"), width=6),
    stream("a layer with weight norm", layer("b", make("WeightNormLinear", 4, 4, True, 0, "hook"), "a"), grow="b=+1"),
    stream("reordered features", layer("b", make("index_select", 2, (3, 2, 1, 0)), "a")),
    stream(
        "a depthwise convolution",
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("c", make("Conv1d", 4, 4, (1,), (1,), (0,), (1,), 4, True, "zeros"), "t"),
        layer("b", make("rearrange", "n c t -> n t c"), "c"),
    ),
    stream(
        "group norm",
        layer("t", make("rearrange", "n t c -> n c t"), "a"),
        layer("c", make("GroupNorm", 2, 4, 1e-5, True), "t"),
        layer("b", make("rearrange", "n c t -> n t c"), "c"),
    ),
)


def _dead_end(self: Any, *_: Any) -> None:
    """No class may have one more copy."""
    raise NoCountsError("a", self._explain(self.rows[0], 0))


SIZES = (
    widened(
        "conv, if all ways of dealing out copies ran into a dead end",
        POINTWISE,
        layer("out", conv(4, 2), "a"),
        grow="a=+1",
        fault=partial(patch, "net2net_cli.channels.counts._Component.repair", _dead_end),
    ),
    widened("`x.chunk(2, 1)`", *after(make("chunk", 2, 1, 0), layer("c", conv(2, 2), "b")), grow="a=+1"),
    widened(
        "a group norm of two groups",
        *after(make("GroupNorm", 2, 4, 1e-5, True), layer("c", conv(4, 2), "b")),
        grow="a=+1",
    ),
)

ACTS = "“It” is the axis along which the layer's channels stand: where an op lets them act on each other, they stay."

AREAS = (
    Area("widening", "Widening", 4, "", WIDEN),
    Area("sizes", "Widening: widths that are not possible", 4, "", SIZES, "where `a` is the first layer of"),
    Area("others", "Widening: heads, tokens and places", 4, "", OTHERS, "where `a` is in a network of"),
    Area("heads", "Widening: what is joined, shared and merged", 4, "", HEADS, "where `a` is in a network of"),
    Area("streams", "Widening: streams with a norm", 4, "", STREAMS, "where `a` is the first layer of"),
    Area("reasons", "Widening: what acts on the channels", 4, ACTS, REASONS, "where `a` is the first layer of"),
)
