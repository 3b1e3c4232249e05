"""Targets that a teacher cannot grow into."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from channels.sketch import conv, layer, linear, make

from messages.areas.sketches import (
    ADD,
    EMBED,
    HEAD,
    IMAGE,
    POINTWISE,
    RELU,
    network_of,
)
from messages.example import Area, Example, both, teacher_of
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import Input

GELU = make("GELU")
TANH = make("Tanh")
OUT = layer("out", conv(4, 2), "b")


def _like_graph(shape: tuple[Any, ...], layers: tuple[Layer, ...], output: str | None, integers: bool) -> Graph:
    return replace(network_of(shape, *layers, integers=integers), outputs={"out": output or layers[-1].name})


def like(
    row: str,
    ours: tuple[Layer, ...],
    theirs: tuple[Layer, ...],
    *,
    command: str = "grow",
    shape: tuple[Any, ...] = IMAGE,
    bigger: tuple[Any, ...] | None = None,
    output: str | None = None,
    integers: bool = False,
) -> Example:
    """A teacher, and a target for it."""
    text = f"net2net {command} net.safetensors --like big.safetensors --no-verify -o student.safetensors"
    before = both(
        teacher_of(partial(_like_graph, shape, ours, None, integers), "net.safetensors"),
        teacher_of(partial(_like_graph, bigger or shape, theirs, output, integers), "big.safetensors"),
    )
    return Example(text, before=before, row=row)


def plain(act: Any = RELU, *, width: int = 4, extra: tuple[Layer, ...] = (), kernel: int = 1) -> tuple[Layer, ...]:
    """conv, activation, and what more there is; conv."""
    last = extra[-1].name if extra else "act"
    return (layer("a", conv(3, width, kernel), "x"), layer("act", act, "a"), *extra, layer("out", conv(width, 2), last))


ODD = make("opaque", "module", "net.py:Net", ("n", 4, 6, 6), (Input(0),), parameters={"weight": (4,)})
BESIDE = layer("beside", conv(3, 2), "x")
NEW_BLOCK = (
    layer("n.a", conv(4, 4), "act"),
    layer("n.odd", ODD, "n.a"),
    layer("n.c", conv(4, 4), "n.odd"),
    layer("n.add", ADD, "n.c", "act"),
)
WORDS = (EMBED, layer("last", make("LayerNorm", (4,), 1e-5, True, True), "a"))
UNTIED = replace(HEAD, tied=())


def positions(tokens: int) -> tuple[Layer, ...]:
    """Tokens with a position each."""
    return (
        layer("a", linear(6, 4), "x"),
        layer("position", make("Parameter", (1, tokens, 4))),
        layer("b", ADD, "a", "position"),
        layer("out", linear(4, 2), "b"),
    )


SHARED_HEAD = (EMBED, layer("last", make("LayerNorm", (4,), 1e-5, True, True), "a"), HEAD)

GROW = (
    like("one convolution less, beside the others", (BESIDE, *plain()), plain()),
    like(
        "an earlier value as its output",
        (*plain()[:2], layer("b", RELU, "act"), layer("c", RELU, "b")),
        (*plain()[:2], layer("b", RELU, "act"), layer("c", RELU, "b")),
        output="act",
    ),
    like("a head that is not tied to the embedding", (*WORDS, HEAD), (*WORDS, UNTIED), shape=(5,), integers=True),
    like("more positions", positions(5), positions(7), shape=(5, 6), bigger=(7, 6)),
    like("a new block with a layer that net2net does not know", plain(), plain(extra=NEW_BLOCK)),
    like(
        "the target's input has no channels",
        plain(),
        (layer("a", make("Conv1d", 3, 4, (1,), (1,), (0,), (1,), 1, True, "zeros"), "x"),),
        bigger=(3, 6),
    ),
    like("another activation", plain(), plain(GELU)),
    like("a narrower layer", plain(), plain(width=3)),
    like("a new layer norm", plain(), plain(extra=(layer("b", make("GroupNorm", 1, 4, 1e-5, True), "act"),))),
    like(
        "a new layer that changes the number of channels",
        plain(),
        plain(
            width=6,
            extra=(
                layer("b", conv(6, 8), "act"),
                layer("c", RELU, "b"),
                layer("d", conv(8, 6), "c"),
                layer("e", RELU, "d"),
            ),
        ),
    ),
    like(
        "a new layer with an even kernel",
        plain(),
        plain(
            extra=(
                layer("b", make("Conv2d", 4, 4, (2, 2), (1, 1), "same", (1, 1), 1, True, "zeros"), "act"),
                layer("c", RELU, "b"),
            )
        ),
    ),
    like(
        "a new layer that two others read",
        plain(),
        plain(extra=(layer("b", conv(4, 4), "act"), layer("c", RELU, "b"), layer("d", ADD, "c", "b"))),
    ),
    like(
        "a new layer behind tanh",
        plain(TANH),
        plain(TANH, extra=(layer("b", conv(4, 4), "act"), layer("c", TANH, "b"))),
    ),
    like(
        "a new residual block that ends in ReLU, on a stream that comes from tanh",
        plain(TANH),
        plain(
            TANH,
            extra=(layer("n.a", conv(4, 4), "act"), layer("n.add", ADD, "n.a", "act"), layer("n.relu", RELU, "n.add")),
        ),
    ),
    like(
        "an addition of one more value",
        plain(),
        (*plain()[:2], layer("sum", make("mul"), "act", "act"), layer("out", conv(4, 2), "sum")),
    ),
)

WIDEN_LIKE = (
    like(
        "one position for all tokens, a vector",
        positions(5),
        (layer("a", linear(6, 4), "x"), layer("position", make("Parameter", (4,))), *positions(5)[2:]),
        shape=(5, 6),
        command="widen",
    ),
    like(
        "the teacher's widths, and more positions",
        positions(5),
        positions(7),
        shape=(5, 6),
        bigger=(7, 6),
        command="widen",
    ),
    like("the teacher itself", plain(), plain(), command="widen"),
    like("a narrower layer", plain(), plain(width=3), command="widen"),
    like(
        "a grouped convolution with as many groups",
        (POINTWISE, layer("b", make("GroupNorm", 2, 4, 1e-5, True), "a"), OUT),
        (
            layer("a", conv(3, 8), "x"),
            layer("b", make("GroupNorm", 2, 8, 1e-5, True), "a"),
            layer("out", conv(8, 2), "b"),
        ),
        command="widen",
    ),
)

TARGETS = (
    like(
        "a head that is not tied to the embedding",
        (*WORDS, HEAD),
        (*WORDS, UNTIED),
        shape=(5,),
        integers=True,
        command="widen",
    ),
    like(
        "a linear layer instead of a convolution",
        plain(),
        (
            *plain()[:2],
            layer(
                "out", make("ConvTranspose2d", 4, 2, (1, 1), (1, 1), (0, 0), (1, 1), 1, True, "zeros", (0, 0)), "act"
            ),
        ),
        command="widen",
    ),
    like("a further layer", plain(), plain(extra=(layer("b", conv(4, 4), "act"),)), command="widen"),
)

AREAS = (
    Area("targets", "Targets of `widen --like`", 3, "", TARGETS, "where the target has"),
    Area("widen-like", "Widening like a target", 4, "", WIDEN_LIKE, "where the target has"),
    Area("grow", "Growing into a target", 4, "", GROW, "where the target has"),
)
