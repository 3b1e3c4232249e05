"""`net2net verify --level proof`: students that are not what their lineage says, and lineages without use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from messages.example import Area, Example, both
from net2net_cli import Net2Net
from net2net_cli.growth.batch_norm import Moments
from net2net_cli.growth.deepen import plan_deepen

PROVE = "net2net verify teacher.safetensors student.safetensors --level proof"
Tensors = dict[str, Any]
Metadata = dict[str, str]


def widened(teacher: Net2Net) -> Net2Net:
    return teacher.widen({"conv1": 6, "block.conv2": 8})


def measured(teacher: Net2Net) -> Net2Net:
    """Deepened with a batch norm whose statistics were measured."""

    def moments(values: Any) -> Mapping[str, Moments]:
        return {value: Moments(np.arange(4.0), np.arange(1.0, 5.0)) for value in values}

    return teacher._grown(plan_deepen(teacher.graph, ["conv1"], None, teacher.tensors, moments))


def student(
    change: Callable[[Tensors, Metadata], Any] = lambda *_: None,
    grow: Callable[[Net2Net], Net2Net] = widened,
    sidecar: str | None = None,
) -> Callable[[Path], None]:
    """A student that was changed after it was grown."""

    def write(folder: Path) -> None:
        import safetensors.numpy
        from safetensors import safe_open

        path = folder / "student.safetensors"
        grow(Net2Net.load(folder / "teacher.safetensors")).save(path)
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
        tensors = safetensors.numpy.load_file(path)
        change(tensors, metadata)
        safetensors.numpy.save_file(tensors, path, metadata)
        path.with_suffix(".json").unlink()
        if sidecar is not None:
            path.with_suffix(".json").write_text(sidecar)

    return write


def row(text: str, before: Callable[[Path], None], **more: Any) -> Example:
    return Example(PROVE, before=before, row=text, **more)


def spec(*edits: tuple[str, str]) -> Callable[[Tensors, Metadata], None]:
    """Its spec was edited."""

    def change(_: Tensors, metadata: Metadata) -> None:
        for old, new in edits:
            assert old in metadata["net2net.spec"]
            metadata["net2net.spec"] = metadata["net2net.spec"].replace(old, new, 1)

    return change


def layers(edit: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Tensors, Metadata], None]:
    """The layers of its spec were edited."""

    def change(_: Tensors, metadata: Metadata) -> None:
        document = json.loads(metadata["net2net.spec"])
        edit(document["layers"])
        metadata["net2net.spec"] = json.dumps(document)

    return change


def lineage(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Tensors, Metadata], None]:
    """The first step of its lineage was edited."""

    def change(_: Tensors, metadata: Metadata) -> None:
        steps = json.loads(metadata["net2net.lineage"])
        edit(steps[0])
        metadata["net2net.lineage"] = json.dumps(steps)

    return change


def at(found: list[dict[str, Any]], name: str) -> int:
    return next(i for i, layer in enumerate(found) if layer["name"] == name)


def one_more(found: list[dict[str, Any]]) -> None:
    found.insert(at(found, "pool"), {"name": "block.relu4", "op": "ReLU", "inputs": ["block.add"]})
    found[at(found, "pool")]["inputs"] = ["block.relu4"]


def one_less(found: list[dict[str, Any]]) -> None:
    del found[at(found, "block.relu2")]
    found[at(found, "block.conv3")]["inputs"] = ["block.conv2"]


def another(found: list[dict[str, Any]]) -> None:
    found[at(found, "relu1")]["op"] = "SiLU"


def outputs(_: Tensors, metadata: Metadata) -> None:
    document = json.loads(metadata["net2net.spec"])
    metadata["net2net.spec"] = json.dumps({**document, "outputs": {"logits": "fc"}, "returns": {"eval": "logits"}})


def trained(tensors: Tensors, _: Metadata) -> None:
    tensors["fc.weight"][2, 3] += 0.01


def in_float64(tensors: Tensors, _: Metadata) -> None:
    tensors["fc.bias"] = tensors["fc.bias"].astype("float64")


def moved(tensors: Tensors, _: Metadata) -> None:
    tensors["conv1_deeper1_bn.running_mean"] += 0.5


def train_teacher(folder: Path) -> None:
    path = folder / "teacher.safetensors"
    model = Net2Net.load(path)
    tensors = {name: model.tensor(name).copy() for name, *_ in model.graph.tensors()}
    tensors["fc.bias"] += 0.01
    Net2Net.from_tensors(model.graph, tensors).save(path, force=True)


def named_twice(_: Tensors, metadata: Metadata) -> None:
    metadata["head.weight"] = "fc.weight"


DIFFERENT = (
    row("trained a little", student(trained)),
    row("converted: `fc.bias` to float64", student(in_float64)),
    row(
        'edited: in its spec, `bn1` has `"eps": 0.001`',
        student(spec(('"eps": 1e-05', '"eps": 0.001'))),
    ),
    row("edited: its spec has one more layer, `block.relu4`", student(layers(one_more))),
    row("edited: its spec lacks `block.relu2`", student(layers(one_less))),
    row("edited: in its spec, `relu1` is a `SiLU`", student(layers(another))),
    row(
        "edited: in its spec, `block.add` adds in the other order",
        student(spec(('["block.conv3", "relu1"]', '["relu1", "block.conv3"]'))),
    ),
    row("edited: its spec calls the output `logits`", student(outputs)),
    row("edited: its metadata say that `head.weight` is `fc.weight`", student(named_twice)),
    row("beside a `student.json` that is something else", student(sidecar="{}")),
    row(
        "beside the teacher's spec, called `student.json`",
        lambda here: student(sidecar=(here / "teacher.json").read_text())(here),
    ),
    row("deepened with a batch norm that was measured, and then trained a little", student(moved, measured)),
    row("grown by `random-pad`", student(grow=lambda teacher: teacher.random_pad({"conv1": 6}))),
)

TWICE = "`student.safetensors` was grown twice. "

REPLAY = (
    Example(
        PROVE.replace("student", "teacher"),
        given="`teacher.safetensors` was imported, not grown.",
    ),
    Example(
        PROVE,
        given="`teacher.safetensors` was trained further after `student.safetensors` was grown from it.",
        before=both(student(), train_teacher),
        vague=r"(?<=with )[0-9a-f]{12}",
    ),
    Example(
        PROVE,
        given="In the lineage of `student.safetensors`, the layer `conv9` was widened.",
        before=student(lineage(lambda step: step["arguments"].update(layers={"conv9": 6}))),
    ),
    Example(
        PROVE,
        given="In the lineage of `student.safetensors`, a thousand layers were inserted.",
        before=student(lineage(lambda step: step["arguments"].update(count=1000)), lambda t: t.deepen(["conv1"])),
    ),
    Example(
        PROVE,
        given=TWICE + "The first time like a target, whose spec is not in the lineage.",
        before=student(
            lineage(lambda step: step.pop("target")),
            lambda teacher: teacher.grow(widened(teacher).graph).widen({"block.conv2": 9}),
        ),
    ),
    Example(
        PROVE,
        given=TWICE + "First with a batch norm whose statistics were measured, and that was then padded with noise.",
        before=student(grow=lambda teacher: measured(teacher).random_pad({"conv1_deeper1": 6})),
    ),
)


AREAS = (
    Area(
        "not-proved",
        "Students that are not what their lineage says",
        1,
        "`--level proof` grows the teacher again, as the lineage in the student's metadata says, and compares every "
        "bit.",
        DIFFERENT,
        "where the student was",
    ),
    Area("replay", "Lineages that cannot be repeated", 3, "", REPLAY),
)
