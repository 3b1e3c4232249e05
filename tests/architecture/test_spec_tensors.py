"""A checkpoint that does not fit its spec is refused with the tensor, what was found and what is needed."""

from __future__ import annotations

from typing import Any

import pytest

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.shapes import Batch
from net2net_cli.architecture.spec_tensors import check_tensors
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.errors import CheckpointError

LINEAR: Any = REGISTRY["Linear"]
TENSORS = {
    "a.weight": TensorInfo("F32", (4, 3)),
    "a.bias": TensorInfo("BF16", (4,)),
    "b.weight": TensorInfo("F32", (4, 4)),
}
LAYERS = (
    Layer("a", LINEAR(3, 4, True), ("x",)),
    Layer("b", LINEAR(4, 4, False), ("a",)),
    Layer("c", LINEAR(4, 4, False), ("b",), weights_of="b"),
)
GRAPH = Graph("net", "a:b", (NetworkInput("x", (Batch(), 3)),), LAYERS, {"out": "c"})


def refusal(tensors: dict[str, TensorInfo]) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        check_tensors(GRAPH, tensors, where="`t.safetensors`")
    return caught.value


def test_a_checkpoint_that_fits_is_accepted() -> None:
    check_tensors(GRAPH, TENSORS)


def test_a_tied_tensor_may_be_stored_under_another_name() -> None:
    stored = {k: v for k, v in TENSORS.items() if k != "b.weight"} | {"tied": TENSORS["b.weight"]}
    check_tensors(GRAPH, stored, {"b.weight": "tied"})


def test_a_missing_tensor_is_named_with_what_may_have_been_meant() -> None:
    error = refusal({k.replace("b.weight", "b.weigth"): v for k, v in TENSORS.items()})
    assert error.message == "`t.safetensors` has no tensor `b.weight`, which layer `b` (Linear) needs"
    assert error.hint is not None
    assert "`b.weigth`" in error.hint


def test_a_tensor_of_another_shape_is_named_with_both_shapes() -> None:
    error = refusal(TENSORS | {"a.weight": TensorInfo("F32", (5, 3))})
    assert error.message == "tensor `a.weight` in `t.safetensors` has the shape 5×3; the spec needs 4×3"


def test_a_quantised_parameter_is_refused() -> None:
    assert "has the type I8" in refusal(TENSORS | {"a.weight": TensorInfo("I8", (4, 3))}).message


def test_tensors_of_no_layer_are_listed() -> None:
    error = refusal(TENSORS | {f"ema.{i}": TensorInfo("F32", ()) for i in range(7)})
    assert "`ema.0`, `ema.1`, `ema.2`, `ema.3`, `ema.4` and 2 more" in error.message
