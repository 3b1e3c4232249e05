"""Which layers of two networks return the same: by growths in memory, by lineage, else by names and shapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from channels.sketch import chain, conv, layer, linear, make, network, norm
from cli.conftest import residual, weights

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops import Op
from net2net_cli.channels.values import Value
from net2net_cli.correspondence import changed_since, corresponding


def model(graph: Graph | None = None) -> Net2Net:
    graph = graph or residual()
    return Net2Net.from_tensors(graph, weights(graph))


def with_attributes(op: Op, **changed: object) -> Op:
    return dataclasses.replace(op, **changed)  # type: ignore[type-var]


def positions(value: Value) -> list[list[int] | None]:
    return [None if slices is None else slices.position.tolist() for slices in value.axes]


def test_a_student_grown_in_memory_is_known_by_its_plans() -> None:
    teacher = model()
    found = corresponding(teacher, teacher.widen({"conv1": "+1"}))
    assert (found.source, found.why, found.expected) == ("growth", None, None)
    (grown,) = (i for i in range(4) if positions(found.values["conv1"])[1].count(i) == 2)  # type: ignore[union-attr]
    expected = sorted([0, 1, 2, 3, grown])
    for name in ("conv1", "bn1", "relu1", "block.conv3", "block.add"):
        assert positions(found.values[name]) == [None, expected, None, None]
    assert positions(found.values["flat"]) == [None, expected]
    assert positions(found.values["block.conv2"]) == [None] * 4
    assert list(found.values) == [one.name for one in residual().layers]


def test_a_student_of_a_student_is_known_from_either() -> None:
    teacher = model()
    middle = teacher.widen({"block.conv2": "2x"})
    student = middle.deepen(["conv1"]).widen({"block.conv2": "2x"})
    copies = [[0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4, sorted([*range(12)] * 2)]
    for start, expected in zip((teacher, middle), copies, strict=True):
        found = corresponding(start, student)
        assert found.source == "growth"
        assert positions(found.values["block.conv2"]) == [None, expected, None, None]
        assert found.values["conv1_deeper1_act"].name == "relu1"


def test_a_student_from_a_file_is_known_by_its_lineage(tmp_path: Path) -> None:
    model().save(tmp_path / "teacher.safetensors")
    teacher = Net2Net.load(tmp_path / "teacher.safetensors")
    teacher.widen({"block.conv2": "2x"}).deepen(["block.conv2"]).save(tmp_path / "student.safetensors")
    student = Net2Net.load(tmp_path / "student.safetensors")
    found = corresponding(teacher, student)
    assert (found.source, found.why) == ("growth", None)
    assert positions(found.values["block.conv2"]) == [None, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], None, None]
    assert found.expected is not None
    assert found.expected.graph == student.graph


def test_a_stranger_is_compared_by_names_ops_and_shapes() -> None:
    ours = network(
        (3, 6, 6),
        layer("a", conv(3, 4), "x"),
        layer("b", conv(4, 4), "a"),
        layer("c", norm(4), "b"),
        layer("act", make("ReLU"), "c"),
    )
    theirs = network(
        (3, 6, 6),
        layer("a", conv(3, 4), "x"),  # the same
        layer("b", conv(4, 8), "a"),  # another shape
        layer("c", conv(8, 4), "b"),  # another op
        layer("other", make("ReLU"), "c"),  # the output, under another name
    )
    found = corresponding(model(ours), model(theirs))
    assert found.source == "shapes"
    assert found.why is not None
    assert "has no lineage" in found.why
    assert found.values == {"a": Value("a", (None,) * 4), "other": Value("act", (None,) * 4)}


def test_layers_that_are_gone_or_return_other_shapes_are_left_out(tmp_path: Path) -> None:
    model().save(tmp_path / "teacher.safetensors")
    teacher = Net2Net.load(tmp_path / "teacher.safetensors")
    teacher.widen({"block.conv2": "2x"}).save(tmp_path / "student.safetensors")
    student = Net2Net.load(tmp_path / "student.safetensors")
    pool = make("AdaptiveAvgPool2d", (2, 2))
    layers = tuple(dataclasses.replace(n, op=pool) if n.name == "pool" else n for n in student.graph.layers[:-2])
    student.graph = dataclasses.replace(student.graph, layers=layers, outputs={"out": "pool"})
    found = corresponding(teacher, student)
    assert found.source == "growth"
    assert list(found.values) == [one.name for one in layers if one.name != "pool"]


def changed(graph: Graph | None = None, tensors: dict[str, np.ndarray] | None = None) -> Net2Net:
    return Net2Net.from_tensors(graph or residual(), weights(residual()) | (tensors or {}))


def test_what_was_changed_since_the_growth_is_counted() -> None:
    weight = weights(residual())["block.conv2.weight"]
    weight[1, 2, 0, 0] += 0.5
    weight[3, 0, 1, 1] -= 0.25
    said = changed_since(model(), changed(tensors={"block.conv2.weight": weight}), "block.conv2")
    assert said == ["2 of 216 numbers of `block.conv2.weight` differ, by up to 0.5"]
    assert changed_since(model(), changed(), "block.conv2") == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("bn1", {"op": with_attributes(norm(4), eps=0.5)}, ["`bn1` has eps 0.5, and was grown with 1e-05"]),
        ("block.conv3", {"inputs": ("relu1",)}, ["`block.conv3` reads `relu1`, and was grown to read `block.relu2`"]),
    ],
)
def test_attributes_and_inputs_that_were_changed_are_told(
    name: str, change: dict[str, object], said: list[str]
) -> None:
    graph = residual()
    layers = tuple(dataclasses.replace(one, **change) if one.name == name else one for one in graph.layers)  # type: ignore[arg-type]
    assert changed_since(model(), changed(dataclasses.replace(graph, layers=layers)), name) == said


def test_a_tensor_that_is_missing_or_has_another_shape_is_told() -> None:
    was = model(chain((3,), a=linear(3, 2)))
    now = model(chain((3,), a=with_attributes(linear(3, 4), bias=False)))
    assert changed_since(was, now, "a") == [
        "`a` has out_features 4, and was grown with 2",
        "`a` has bias False, and was grown with True",
        "`a.weight` has another shape",
        "`a.bias` is missing",
    ]
    assert changed_since(was, now, "b") == []
