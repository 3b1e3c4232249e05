"""What the proof refuses, should the copies that were chosen not fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from channels.sketch import conv, layer, linear, make, network, norm

import net2net_cli.channels.layout
from messages.areas.sketches import DENSE, IMAGE, POINTWISE, TOKENS
from messages.example import Area, Example, teacher_of
from net2net_cli.architecture.graph import Layer


def placed(*positions: int) -> Callable[[], AbstractContextManager[Any]]:
    """The slices of `a` stand for these channels, whatever the copies were."""
    real = net2net_cli.channels.layout.layout

    def layout(labels: Any, counts: Any, own: Any) -> Any:
        of_a = np.array_equal(own, labels.output_axis("a"))
        return np.array(positions) if of_a else real(labels, counts, own)

    return partial(patch, "net2net_cli.channels.positions.layout", layout)


def proof(row: str, positions: tuple[int, ...], *layers: Layer, shape: tuple[Any, ...] = IMAGE) -> Example:
    """A network whose first layer would grow by copies that do not fit."""
    before = teacher_of(partial(network, shape, *layers), "net.safetensors")
    command = "net2net widen net.safetensors a=2x --no-verify -o student.safetensors"
    slices = ", ".join(map(str, positions))
    return Example(
        command, before=before, row=f"{row}, and `a` grew to the channels {slices}", fault=placed(*positions)
    )


def then(op: Any, width: int = 4) -> tuple[Layer, ...]:
    return (POINTWISE, layer("b", op, "a"), layer("out", conv(width, 2), "b"))


def back(pattern: str, **sizes: int) -> tuple[Layer, ...]:
    """A pattern, and its inverse."""
    left, right = pattern.split(" -> ")
    apart, again = make("rearrange", pattern, sizes), make("rearrange", f"{right} -> {left}")
    return (POINTWISE, layer("b", apart, "a"), layer("c", again, "b"), layer("out", conv(4, 2), "c"))


STREAM = (DENSE, layer("norm", make("LayerNorm", (4,), 1e-5, True, True), "a"), layer("out", linear(4, 2), "norm"))
PROOF = (
    proof(
        "a batch norm that is used on another layer too",
        (0, 0, 1, 2, 3),
        POINTWISE,
        layer("n", norm(4), "a"),
        layer("o", conv(3, 4), "x"),
        layer("m", norm(4), "o", weights_of="n"),
        layer("b", make("cat", 1), "n", "m"),
        layer("out", conv(8, 2), "b"),
    ),
    proof("a mean over channels", (0, 0, 1, 2, 3), *then(make("mean", (1,), True), 1)),
    proof(
        "an RMS norm",
        (0, 0, 1, 2, 3),
        DENSE,
        layer("b", make("RMSNorm", (4,), 1e-5, True), "a"),
        layer("out", linear(4, 2), "b"),
        shape=TOKENS,
    ),
    proof("a group norm", (0, 0, 1, 2, 3), *then(make("GroupNorm", 1, 4, 1e-5, True))),
    proof("a group norm of two groups", (0, 0, 1, 2, 3), *then(make("GroupNorm", 2, 4, 1e-5, True))),
    proof("`x.chunk(2, 1)`", (0, 0, 1, 2, 3), *then(make("chunk", 2, 1, 0), 2)),
    proof("a convolution that reads them", (0, 0, 1, 2), POINTWISE, layer("out", conv(4, 2), "a")),
    proof("`x[:, :2]`", (0, 1, 2, 3, 0), *then(make("slice", 1, 0, 2, 1), 2)),
    proof("channels in two groups", (0, 0, 1, 2, 3), *back("n (g c) h w -> n g c h w", g=2)),
    proof(
        "a channel shuffle, then `x.chunk(2, 1)`",
        (0, 0, 1, 2, 3),
        POINTWISE,
        layer("b", make("rearrange", "n (g c) h w -> n (c g) h w", {"g": 2}), "a"),
        layer("c", make("chunk", 2, 1, 0), "b"),
        layer("out", conv(2, 2), "c"),
    ),
    proof(
        "an addition to another layer",
        (0, 0, 1, 2, 3),
        POINTWISE,
        layer("o", conv(3, 4), "x"),
        layer("b", make("add"), "a", "o"),
        layer("out", conv(4, 2), "b"),
    ),
    proof("a layer norm", (0, 1, 2, 3, -2), *STREAM, shape=TOKENS),
    proof(
        "ReLU", (0, 1, 2, 3, -2), DENSE, layer("b", make("ReLU"), "a"), layer("out", linear(4, 2), "b"), shape=TOKENS
    ),
)

AREAS = (
    Area(
        "proof",
        "Widening: the proof",
        4,
        "Every growth is proven before it is written. Widths for which copies do not fit are refused before that, "
        "with the next one that fits; the examples here force the copies. Please report a network for which you see "
        "one of these.",
        PROOF,
        "where the network has",
    ),
)
