"""Every op that is a call runs as PyTorch runs it, and names functions of the closed table only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY, Call
from net2net_cli.architecture.shapes import Batch, Shape
from net2net_cli.runtime.build import build
from net2net_cli.runtime.calls import FUNCTIONS

N = Batch()


def make(op: str, *args: Any, **attributes: Any) -> Any:
    return REGISTRY[op](*args, **attributes)


def single(op: Any, *shapes: Shape) -> Graph:
    """A network of one op."""
    inputs = tuple(NetworkInput(f"x{i}", shape) for i, shape in enumerate(shapes))
    layers = (Layer("op", op, tuple(i.name for i in inputs)),)
    return Graph("single", "tests:single", inputs, layers, {"out": "op"}, {"eval": "out", "train": "out"})


def calls(value: Any) -> list[str]:
    """All functions that a call tree names."""
    if isinstance(value, Call):
        inner = [name for part in (*value.args, *value.kwargs.values()) for name in calls(part)]
        return [value.target, *inner]
    return [name for part in value for name in calls(part)] if isinstance(value, (list, tuple)) else []


SINGLE: dict[str, tuple[Any, tuple[Shape, ...], Callable[..., Tensor]]] = {
    "add": (make("add"), ((N, 4), (N, 4)), lambda a, b: a + b),
    "add a number": (make("add", 2.5), ((N, 4),), lambda a: a + 2.5),
    "sub": (make("sub"), ((N, 4), (N, 4)), lambda a, b: a - b),
    "number minus": (make("rsub", 1), ((N, 4),), lambda a: 1 - a),
    "mul": (make("mul"), ((N, 4), (N, 4)), lambda a, b: a * b),
    "div": (make("div"), ((N, 4), (N, 4)), lambda a, b: a / b),
    "number by": (make("rdiv", 2.0), ((N, 4),), lambda a: 2.0 / a),
    "pow": (make("pow", 2), ((N, 4),), lambda a: a**2),
    "number to the power": (make("rpow", 2), ((N, 4),), lambda a: 2**a),
    "maximum": (make("maximum"), ((N, 4), (N, 4)), torch.maximum),
    "minimum": (make("minimum"), ((N, 4), (N, 4)), torch.minimum),
    "matmul": (make("matmul"), ((N, 4, 3), (N, 3, 5)), lambda a, b: a @ b),
    "cat": (make("cat", 1), ((N, 4), (N, 3)), lambda a, b: torch.cat([a, b], 1)),
    "chunk": (make("chunk", 2, 1, 1), ((N, 6),), lambda a: a[:, 3:]),
    "split": (make("split", (2, 4), 1, 1), ((N, 6),), lambda a: a[:, 2:]),
    "slice": (make("slice", 1, 1, 6, 2), ((N, 6),), lambda a: a[:, 1:6:2]),
    "slice to the end": (make("slice", 1, 1, 6, 1), ((N, 6),), lambda a: a[:, 1:]),
    "select": (make("select", 1, 2), ((N, 6),), lambda a: a[:, 2]),
    "expand": (make("expand", (-1, 5, 3)), ((N, 1, 3),), lambda a: a.expand(-1, 5, 3)),
    "pad": (make("pad", (1, 2), "reflect"), ((N, 1, 6),), lambda a: nn.functional.pad(a, (1, 2), "reflect")),
    "pad with a number": (
        make("pad", (1, 2), "constant", 3.0),
        ((N, 6),),
        lambda a: nn.functional.pad(a, (1, 2), value=3.0),
    ),
    "clamp": (make("clamp", min=0.1), ((N, 4),), lambda a: a.clamp(min=0.1)),
    "interpolate": (
        make("interpolate", scale_factor=(2.0,), mode="bilinear", align_corners=True),
        ((N, 2, 3, 3),),
        lambda a: nn.functional.interpolate(a, scale_factor=2.0, mode="bilinear", align_corners=True),
    ),
    "mean": (make("mean", (2, 3), keepdim=True), ((N, 2, 3, 4),), lambda a: a.mean((2, 3), keepdim=True)),
    "sum": (make("sum", (1,)), ((N, 2, 3),), lambda a: a.sum(1)),
    "amax": (make("amax", (1,)), ((N, 2, 3),), lambda a: a.amax(1)),
    "amin": (make("amin", (1,)), ((N, 2, 3),), lambda a: a.amin(1)),
    "var": (make("var", (1,)), ((N, 5),), lambda a: a.var(1)),
    "var, biased": (make("var", (1,), unbiased=False), ((N, 5),), lambda a: a.var(1, unbiased=False)),
    "normalize": (make("normalize"), ((N, 5),), nn.functional.normalize),
    "softmax": (make("Softmax", 1), ((N, 5),), lambda a: a.softmax(1)),
    "flatten": (make("rearrange", "n c h -> n (c h)"), ((N, 2, 3),), lambda a: a.flatten(1)),
    "shuffle": (
        make("rearrange", "n (g c) h -> n (c g) h", {"g": 2}),
        ((N, 6, 3),),
        lambda a: a.view(-1, 2, 3, 3).transpose(1, 2).reshape(-1, 6, 3),
    ),
    "squeeze and unsqueeze": (make("rearrange", "n c 1 -> n 1 c"), ((N, 3, 1),), lambda a: a.squeeze(2).unsqueeze(1)),
    "windows": (
        make("rearrange", "n (h a) c -> (n a) h c", {"a": 2}),
        ((N, 6, 3),),
        lambda a: a.view(-1, 3, 2, 3).transpose(1, 2).reshape(-1, 3, 3),
    ),
    "nothing": (make("rearrange", "n c -> n c"), ((N, 3),), lambda a: a),
    "max pooling": (make("MaxPool2d", (2, 2), (2, 2)), ((N, 2, 4, 4),), lambda a: nn.functional.max_pool2d(a, 2)),
    "layer norm": (
        make("LayerNorm", (5,), 1e-5, False, False),
        ((N, 5),),
        lambda a: nn.functional.layer_norm(a, (5,)),
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_an_op_runs_as_pytorch_runs_it(name: str) -> None:
    op, shapes, expected = SINGLE[name]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(*(2 if isinstance(d, Batch) else d for d in s), generator=generator) + 0.1 for s in shapes]
    graph = single(op, *shapes)
    found = build(graph)(*inputs)
    assert torch.equal(found, expected(*inputs))
    batch = tuple(d.times * 2 if isinstance(d, Batch) else d for d in graph.shapes["op"])
    assert tuple(found.shape) == batch


@pytest.mark.parametrize("name", SINGLE)
def test_calls_name_functions_of_the_closed_table(name: str) -> None:
    op, shapes, _ = SINGLE[name]
    if op.module is None:
        assert set(calls(op.call(shapes))) <= set(FUNCTIONS)


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "rsqrt", "abs", "neg", "square", "reciprocal", "sin", "cos", "erf"]
)
def test_functions_of_one_tensor_run_under_their_name(name: str) -> None:
    x = torch.rand(2, 3) + 0.1
    assert torch.equal(build(single(make(name), (N, 3)))(x), getattr(torch, name)(x))
