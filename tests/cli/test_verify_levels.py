"""`net2net verify`: what each level compares, what it reports, and what it says that this proves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cli.running import expects, run
from net2net_cli import Net2Net

KEYS = {
    *("passed", "error", "tolerance", "tolerance_reason", "smallest_tolerance", "level", "proves", "explanation"),
    *(
        "samples",
        "device",
        "driver",
        "torch",
        "cuda_build",
        "dtype",
        "autocast",
        "mode",
        "warnings",
        "notes",
        "outputs",
    ),
}
OUTPUT_KEYS = {
    *("name", "largest", "relative", "error", "same_top", "same_top5", "kl", "place", "teacher_value"),
    *("student_value", "mean", "quantiles", "cosine", "not_finite"),
}


@pytest.fixture
def student(teacher: Path) -> Path:
    out = teacher.with_name("student.safetensors")
    assert run("widen", teacher, "conv1=7", "block.conv2=9", "-o", out, "--split", "random").code == 0
    return out


def changed(teacher: Path, tensor: str, index: tuple[int, ...], value: float) -> Path:
    """The teacher with one number added to."""
    model = Net2Net.load(teacher)
    tensors = {name: model.tensor(name).copy() for name, *_ in model.graph.tensors()}
    tensors[tensor][index] += np.float32(value)
    out = teacher.with_name("changed.safetensors")
    Net2Net.from_tensors(model.graph, tensors).save(out, force=True)
    return out


def test_the_report_has_these_keys_and_no_others(teacher: Path, student: Path) -> None:
    found = run("verify", teacher, student, "--device", "cpu", "--json").json
    assert set(found) == KEYS
    (output,) = found["outputs"]
    assert set(output) == OUTPUT_KEYS
    assert (found["level"], found["mode"], found["dtype"]) == ("outputs", "eval", "float64")
    assert found["proves"] == "in evaluation on these inputs, same outputs to rounding"
    assert found["tolerance_reason"] == "float64, 4 layers deep"  # three convolutions and a linear layer
    assert output["same_top"] == 1
    assert output["same_top5"] is None  # of five classes
    assert len(output["quantiles"]) == 4


def test_a_change_is_reported_where_it_is(teacher: Path) -> None:
    other = changed(teacher, "fc.bias", (3,), 0.5)
    found = run("verify", teacher, other, "--device", "cpu", "--json")
    assert found.code == 1
    (output,) = found.json["outputs"]
    assert output["largest"] == pytest.approx(0.5, rel=1e-6)
    assert output["place"][1] == 3
    assert output["mean"] == pytest.approx(0.1, rel=1e-6)  # one class of five
    assert output["quantiles"] == pytest.approx([0, 0.5, 0.5, 0.5], rel=1e-6, abs=1e-12)
    assert output["kl"] > 0
    assert found.json["proves"] == "the networks do not compute the same"


def test_people_see_the_figures_the_tolerance_and_what_it_proves(teacher: Path, student: Path) -> None:
    said = run("verify", teacher, student, "--device", "cpu").out
    lines = said.splitlines()
    assert " ".join(lines[0].split()) == "output max |Δ| mean |Δ| relative error top 1 KL"
    assert "tolerance    2e-13 (float64, 4 layers deep)" in lines
    assert "compared     8 inputs in float64 on cpu" in lines
    assert "outputs      agree" in lines
    assert "proves       in evaluation on these inputs, same outputs to rounding" in lines
    assert max(map(len, lines)) <= 80


def test_training_compares_the_gradients_too(teacher: Path, student: Path) -> None:
    for spelled in (("--level", "train"), ("--train",)):
        found = run("verify", teacher, student, "--device", "cpu", *spelled, "--json")
        assert found.code == 0
        assert (found.json["level"], found.json["mode"]) == ("train", "train")
        assert [output["name"] for output in found.json["outputs"]] == ["out", "grad(x)"]
        assert found.json["outputs"][1]["kl"] is None
        assert found.json["tolerance_reason"] == "float64, 4 layers there and back"


def test_running_statistics_matter_in_evaluation_alone(teacher: Path) -> None:
    other = changed(teacher, "bn1.running_mean", (0,), 0.5)
    assert run("verify", teacher, other, "--device", "cpu", "--level", "outputs").code == 1
    assert run("verify", teacher, other, "--device", "cpu", "--level", "train").code == 0


def test_an_inserted_batch_norm_is_told_from_a_mistake(teacher: Path) -> None:
    deeper = teacher.with_name("deeper.safetensors")
    assert run("deepen", teacher, "conv1", "-o", deeper).code == 0
    assert run("verify", teacher, deeper, "--device", "cpu").code == 0
    found = run("verify", teacher, deeper, "--device", "cpu", "--level", "train", "--json")
    assert found.code == 1
    assert found.json["explanation"].startswith(
        "this is expected in training mode: the inserted batch norm `conv1_deeper1_bn` is the identity with"
    )
    assert "\nhint: this is expected in training mode" in found.err
    broken = changed(deeper, "fc.bias", (0,), 0.5)
    done = run("verify", teacher, broken, "--device", "cpu", "--json")
    assert done.json["explanation"] is None


def test_an_approximate_student_is_called_so(teacher: Path) -> None:
    padded = teacher.with_name("padded.safetensors")
    assert run("random-pad", teacher, "conv1=6", "-o", padded).code == 0
    done = run("verify", teacher, padded, "--device", "cpu")
    assert done.code == 1
    assert "\nhint: the student's lineage says that it is approximate" in done.err


def test_nan_in_the_same_places_is_equal_and_reported(teacher: Path) -> None:
    other = changed(teacher, "fc.bias", (2,), math.nan)
    done = run("verify", other, other, "--device", "cpu", "--allow-nan", "--json")
    assert done.code == 0
    assert done.json["outputs"][0]["not_finite"] == {"alike": 8, "unlike": 0, "first": [0, 2]}
    assert "warning: NaN or infinite in both networks alike: 8 elements" in done.err
    done = run("verify", teacher, other, "--device", "cpu", "--allow-nan", "--json")
    assert done.code == 1
    assert done.json["error"] is None
    assert done.json["outputs"][0]["not_finite"] == {"alike": 0, "unlike": 8, "first": [0, 2]}


def test_float64_names_the_type(teacher: Path, student: Path) -> None:
    assert run("verify", teacher, student, "--device", "cpu", "--float64", "--json").json["dtype"] == "float64"
    done = run("verify", teacher, student, "--float64", "--dtype", "float32")
    expects(done, 2, "`--float64` and `--dtype float32` name two types", "leave one of them out")


def test_autocast_needs_a_type_of_16_bits(teacher: Path, student: Path) -> None:
    expects(run("verify", teacher, student, "--autocast"), 2, "`--autocast` needs a type", "`--dtype bfloat16`")
    done = run("verify", teacher, student, "--device", "cpu", "--autocast", "--dtype", "bfloat16", "--json")
    assert (done.code, done.json["autocast"], done.json["dtype"]) == (0, True, "bfloat16")
