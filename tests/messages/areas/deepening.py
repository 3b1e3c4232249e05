"""Deepening: where nothing can be inserted or repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from channels.sketch import conv, layer, linear, make

from messages.areas.sketches import (
    ADD,
    POINTWISE,
    RELU,
    deepened,
)
from messages.example import Area, Example
from net2net_cli.architecture.graph import Layer

GELU = make("GELU")
TANH = make("Tanh")
BARE = make("BatchNorm2d", 4, 1e-5, 0.1, False, True)
OUT = layer("out", conv(4, 2), "b")

DEEPEN = (
    Example("net2net deepen teacher.safetensors bn1 --no-verify -o student.safetensors"),
    Example("net2net deepen teacher.safetensors fc --no-verify -o student.safetensors"),
    deepened(
        "In `net.safetensors`, `relu` and `sum` both read the convolution `block.conv`.",
        layer("block.conv", conv(3, 3), "x"),
        layer("relu", RELU, "block.conv"),
        layer("sum", ADD, "relu", "block.conv"),
        names="block.conv",
    ),
    Example("net2net deepen teacher.safetensors block.conv3 --no-verify -o student.safetensors"),
    Example("net2net deepen teacher.safetensors 'f*' --where-possible --no-verify -o student.safetensors"),
    deepened(
        "In `net.safetensors`, tanh stands behind `a`.",
        POINTWISE,
        layer("tanh", TANH, "a"),
        layer("out", conv(4, 2), "tanh"),
    ),
    deepened(
        "In `net.safetensors`, the batch norm behind `a` has no weights (`affine=False`).",
        POINTWISE,
        layer("bn", BARE, "a"),
        layer("relu", RELU, "bn"),
        layer("out", conv(4, 2), "relu"),
    ),
    deepened(
        "In `net.safetensors`, `a` is called twice, with ReLU behind it and with GELU.",
        layer("a", conv(3, 3), "x"),
        layer("relu", RELU, "a"),
        layer("a_1", conv(3, 3), "relu", weights_of="a"),
        layer("gelu", GELU, "a_1"),
        layer("out", conv(3, 2), "gelu"),
    ),
)


def block(row: str, *layers: Layer, **more: Any) -> Example:
    """A module `block` of these layers, between two convolutions."""
    graph = (layer("stem", conv(3, 4), "x"), *layers, layer("out", conv(4, 2), layers[-1].name))
    found = deepened("", *graph, names="block", **more)
    return replace(found, given="", row=row)


BLOCKS = (
    block(
        "two of its values leave it",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.b", conv(4, 4), "stem"),
        layer("sum", ADD, "block.a", "block.b"),
    ),
    block("it makes six channels of four", layer("block.a", conv(4, 6), "stem"), layer("last", conv(6, 4), "block.a")),
    block(
        "an activation and no addition at its end",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.act", TANH, "block.a"),
    ),
    block(
        "a convolution on the shortcut",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.b", conv(4, 4), "stem"),
        layer("block.add", ADD, "block.a", "block.b"),
    ),
    block(
        "layer norm behind its addition",
        layer("turn", make("rearrange", "n c h w -> n h w c"), "stem"),
        layer("block.fc", linear(4, 4), "turn"),
        layer("block.add", ADD, "block.fc", "turn"),
        layer("block.norm", make("LayerNorm", (4,), 1e-5, True, True), "block.add"),
        layer("back", make("rearrange", "n h w c -> n c h w"), "block.norm"),
    ),
    block(
        "it turns the image",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.add", ADD, "block.a", "stem"),
        layer("block.turn", make("rearrange", "n c h w -> n c w h"), "block.add"),
    ),
    replace(
        deepened(
            "",
            layer("stem", linear(6, 4), "x"),
            layer("first", make("slice", 1, 0, 1, 1), "stem"),
            layer("start", make("rearrange", "n t c -> t n c"), "first"),
            layer("block.rnn", make("GRU", 4, 4, 1, True, True, 0.0, False), "stem", "start"),
            layer("block.add", ADD, "block.rnn", "stem"),
            layer("out", linear(4, 2), "block.add"),
            shape=(4, 6),
            names="block",
        ),
        given="",
        row="a GRU that does not start at zero",
    ),
    block("a branch without weights", layer("block.act", GELU, "stem"), layer("block.add", ADD, "block.act", "stem")),
    block(
        "a branch that ends in a sigmoid",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.act", make("Sigmoid"), "block.a"),
        layer("block.add", ADD, "block.act", "stem"),
    ),
    block(
        "the square of a convolution as its branch",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.b", make("mul"), "block.a", "block.a"),
        layer("block.add", ADD, "block.b", "stem"),
    ),
    block(
        "a branch that ends in a ReLU",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.act", RELU, "block.a"),
        layer("block.add", ADD, "block.act", "stem"),
    ),
    block(
        "a branch that uses its convolution twice",
        layer("block.a", conv(4, 4), "stem"),
        layer("block.b", GELU, "block.a"),
        layer("block.c", conv(4, 4), "block.b", weights_of="block.a"),
        layer("block.add", ADD, "block.c", "stem"),
    ),
    block(
        "a bias that multiplies as well",
        layer("block.bias", make("Parameter", (4, 1, 1))),
        layer("block.a", conv(4, 4), "stem"),
        layer("block.b", make("mul"), "block.a", "block.bias"),
        layer("block.c", ADD, "block.b", "block.bias"),
        layer("block.add", ADD, "block.c", "stem"),
    ),
)

AREAS = (
    Area("deepening", "Deepening", 4, "", DEEPEN),
    Area("blocks", "Deepening: repeating a block", 4, "", BLOCKS, "where `block` has"),
)
