"""Widening with `--split fresh`: what would see new channels."""

from __future__ import annotations

from functools import partial
from typing import Any

from channels.sketch import conv, layer, linear, make

from messages.areas.sketches import DENSE, EMBED, HEAD, TOKENS, after, widened
from messages.example import Area
from net2net_cli.architecture.graph import Layer

new_channels = partial(widened, options="--split fresh ")
NORMS: dict[str, Any] = {
    "LayerNorm": make("LayerNorm", (4,), 1e-5, True, True),
    "RMSNorm": make("RMSNorm", (4,), 1e-5, True),
}
UP = make("WeightNormConvTranspose2d", 4, 4, *[(n, n) for n in (2, 2, 0, 1)], 1, True, "zeros", (0, 0), 0, "hook")
LAST = layer("last", linear(4, 4), "a")
GROUPED: tuple[Layer, ...] = (
    layer("q", linear(6, 16), "x"),
    layer("a", linear(6, 8), "x"),
    layer("qs", make("rearrange", "n t (h d) -> n h t d", {"h": 4}), "q"),
    layer("ks", make("rearrange", "n t (h d) -> n h t d", {"h": 2}), "a"),
    layer("m", make("scaled_dot_product_attention", 0.0, False, None, True), "qs", "ks", "ks"),
    layer("u", make("rearrange", "n h t d -> n t (h d)"), "m"),
    layer("c", linear(16, 2), "u"),
)

SEEN = (
    new_channels(
        "linear, then layer norm", DENSE, layer("norm", NORMS["LayerNorm"], "a"), layer("c", linear(4, 2), "norm"),
        shape=TOKENS,
    ),
    new_channels(
        "linear, then RMS norm", DENSE, layer("norm", NORMS["RMSNorm"], "a"), layer("c", linear(4, 2), "norm"),
        shape=TOKENS,
    ),
    new_channels(
        "conv, then a group norm of one group",
        *after(make("GroupNorm", 1, 4, 1e-5, True), layer("c", conv(4, 2), "b")),
    ),
    new_channels("conv, then `x.amax(1)`", *after(make("amax", (1,), True), layer("c", conv(1, 2), "b"))),
    new_channels("conv, then `x.amin(1)`", *after(make("amin", (1,), True), layer("c", conv(1, 2), "b"))),
    new_channels("conv, then `x.log()`", *after(make("log"), layer("c", conv(4, 2), "b"))),
    new_channels("an embedding that is the head as well", EMBED, LAST, HEAD, shape=(5,), integers=True),
    new_channels("a transposed convolution with weight norm behind it", *after(UP, layer("c", conv(4, 2), "b"))),
    new_channels("keys and values that serve several heads of queries", *GROUPED, shape=TOKENS),
)  # fmt: skip

ABOUT = (
    "With `--split fresh`, new channels stand where copies would, and weights of zero read them. Anything else that "
    "acts on several channels would see them, and of what is not a number zero makes no zero. Copies can stand there."
)

AREAS = (Area("fresh", "Widening: new channels", 4, ABOUT, SEEN, "where `a` is in a network of"),)
