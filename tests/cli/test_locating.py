"""`verify --locate` and `--report`."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from channels.sketch import chain, linear, make
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cli.conftest import residual, weights
from cli.running import expects, leftovers, run
from net2net_cli import Net2Net
from net2net_cli.cli import located
from net2net_cli.cli.located import Finding, finding, located_text, middle, picture
from net2net_cli.correspondence import Correspondence
from net2net_cli.report.page import MARK
from net2net_cli.runtime.locating import LayerError, Located


@pytest.fixture
def student(teacher: Path) -> Path:
    out = teacher.with_name("s.safetensors")
    assert run("widen", teacher, "conv1=2x", "-o", out, "--no-verify").code == 0
    assert run("deepen", out, "block.conv2", "-o", teacher.with_name("d.safetensors"), "--no-verify").code == 0
    return teacher.with_name("d.safetensors")


def changed(student: Path, tensor: str, by: float = 1.0) -> Path:
    """A copy in which the first number of a tensor is another."""
    with safe_open(student, "np") as file:
        metadata = file.metadata()
    tensors = load_file(student)
    tensors[tensor].reshape(-1)[0] += by
    out = student.with_name("changed.safetensors")
    save_file(tensors, out, metadata)
    return out


def test_a_student_that_agrees_differs_nowhere(teacher: Path, student: Path) -> None:
    done = run("verify", teacher, student, "--locate")
    assert done.code == 0
    assert "compared            12 layers on 8 inputs\n" in done.out
    # which of both depends on the processor's kernels
    assert re.search(
        "first that differs  none: (no layer differs by more than|all are equal to the last bit)", done.out
    )


@pytest.mark.parametrize(
    ("tensor", "first", "reads"),
    [
        ("conv1.weight", "conv1", "x"),
        ("bn1.running_var", "bn1", "conv1"),
        ("block.conv2.bias", "block.conv2", "relu1"),
        ("block.conv2_deeper1.weight", "block.conv2_deeper1", "block.relu2"),
        ("block.conv3.weight", "block.conv3", "block.conv2_deeper1_act"),
        ("fc.bias", "fc", "flat"),
    ],
)
def test_the_first_layer_that_differs_is_named(
    teacher: Path, student: Path, tensor: str, first: str, reads: str
) -> None:
    other = changed(student, tensor)
    done = run("verify", teacher, other, "--locate")
    assert done.code == 1
    assert f"first that differs  `{first}` (" in done.out
    assert f"its inputs          `{reads}` differs by 0\n" in done.out
    assert f" numbers of `{tensor}` differ, by up to 1\n" in done.out
    (marked,) = (line for line in done.out.splitlines() if line.endswith("◀"))
    assert marked.split()[0] == first


def test_json_tells_of_every_layer(teacher: Path, student: Path) -> None:
    found = run("verify", teacher, changed(student, "block.conv3.weight"), "--locate", "--json").json["located"]
    assert list(found) == [
        *("source", "why", "tolerance", "samples", "first", "culprits", "layers", "not_compared"),
    ]
    assert (found["source"], found["why"], found["samples"], found["not_compared"]) == ("growth", None, 8, [])
    assert found["culprits"] == ["block.conv3"]
    first = found["first"]
    assert (first["name"], first["op"]) == ("block.conv3", "Conv2d")
    assert first["inputs"] == [{"name": "block.conv2_deeper1_act", "error": 0.0, "through": []}]
    (said,) = first["changed"]["block.conv3"]
    assert said.startswith("1 of 48 numbers of `block.conv3.weight` differ")
    names = [layer["name"] for layer in found["layers"]]
    assert names == [layer.name for layer in Net2Net.load(student).graph.layers]
    errors = {layer["name"]: layer["error"] for layer in found["layers"]}
    assert errors["block.conv2"] == 0.0
    assert errors["fc"] > 1e-6
    own = {layer["name"]: layer["own"] for layer in found["layers"]}
    assert own["fc"] < 1e-12


def test_a_stranger_is_compared_by_names_and_shapes(teacher: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.safetensors"
    tensors = weights(residual())
    tensors["fc.bias"][2] += 1.0
    Net2Net.from_tensors(residual(), tensors).save(stranger)
    done = run("verify", teacher, stranger, "--locate")
    assert "first that differs  `fc` (Linear)" in done.out
    assert "compared by         names and shapes alone, since the student has no lineage" in done.out


def test_of_a_student_that_was_trained_the_first_layer_is_named_and_few_others(teacher: Path, student: Path) -> None:
    with safe_open(student, "np") as file:
        metadata = file.metadata()
    tensors = {name: t + np.float32(0.01) if t.dtype.kind == "f" else t for name, t in load_file(student).items()}
    save_file(tensors, student, metadata)
    done = run("verify", teacher, student, "--locate")
    assert "first that differs  `conv1` (Conv2d)" in done.out
    assert "differ as well      `bn1`, `block.conv2`, `block.conv2_deeper1`, `block.conv3` and 1 more" in done.out


def test_training_is_located_with_its_own_statistics(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    run("widen", teacher, "conv1=2x", "-o", out, "--no-verify")
    done = run("verify", teacher, changed(out, "bn1.weight"), "--locate", "--level", "train")
    assert "first that differs  `bn1` (BatchNorm2d)" in done.out


def test_a_proof_runs_nothing_and_locates_nothing(teacher: Path, student: Path) -> None:
    expects(run("verify", teacher, student, "--level", "proof", "--locate"), 2, "`--locate`", "--level outputs")


def test_the_report_says_what_was_found(teacher: Path, student: Path) -> None:
    page = teacher.with_name("report.html")
    done = run("verify", teacher, changed(student, "block.conv3.weight"), "--report", page)
    assert done.code == 1
    assert "first that differs" not in done.out  # nobody asked to be told
    text = page.read_text()
    assert "teacher.safetensors → changed.safetensors" in text
    assert "The outputs differ." in text
    assert "first that differs" in text
    assert text.count('<g class="row"') == 1 + 12
    assert "4 → 8" in text
    assert leftovers(page.parent) == sorted(
        [*("changed.safetensors", "d.json", "d.safetensors", "report.html", "s.json", "s.safetensors")]
    )


def test_the_same_comparison_writes_the_same_report(teacher: Path, student: Path) -> None:
    pages = [teacher.with_name(name) for name in ("a.html", "b.html")]
    for page in pages:
        assert run("verify", teacher, student, "--report", page).code == 0
        assert ">out: what both return<" in page.read_text()
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_proof_has_a_report_without_errors(teacher: Path, student: Path, poison: Path) -> None:
    page = teacher.with_name("report.html")
    assert run("verify", teacher, student, "--level", "proof", "--report", page).code == 0
    text = page.read_text()
    assert "Proved." in text
    assert "Error by depth" not in text
    other = changed(student, "fc.bias")
    assert run("verify", teacher, other, "--level", "proof", "--report", page).code == 1
    assert "Not proved." in page.read_text()


def test_names_in_a_report_cannot_act(tmp_path: Path) -> None:
    name = "<script>alert(1)<script>"
    graph = chain((3,), **{"a": linear(3, 4), name: make("ReLU"), "out": linear(4, 2)})
    teacher = tmp_path / "<script>.safetensors"
    Net2Net.from_tensors(graph, weights(graph)).save(teacher)
    page = tmp_path / "page.html"
    assert run("verify", teacher, teacher, "--report", page).code == 0
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;alert(1)" in page.read_text()


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("page.pdf", "must end in `.html`", "page.html`"),
        ("no/page.html", "there is no folder", "mkdir -p"),
        ("notes.html", "exists and is no report of net2net", "--force"),
        ("folder.html", "is a folder", "report.html`"),
    ],
)
def test_a_report_goes_where_it_can(teacher: Path, name: str, message: str, hint: str) -> None:
    teacher.with_name("notes.html").write_text("mine")
    teacher.with_name("folder.html").mkdir()
    expects(run("verify", teacher, teacher, "--report", teacher.parent / name), 2, message, hint)
    assert teacher.with_name("notes.html").read_text() == "mine"


def test_a_report_replaces_a_report_and_with_force_anything(teacher: Path) -> None:
    page = teacher.with_name("page.html")
    for before, options in ((f"<!doctype html>\n{MARK}\nold", []), ("mine", ["--force"])):
        page.write_text(before)
        assert run("verify", teacher, teacher, "--report", page, *options).code == 0
        assert page.read_text().endswith("</html>\n")


def test_a_report_never_replaces_a_network(teacher: Path) -> None:
    page = teacher.with_name("teacher.html")
    page.symlink_to(teacher.name)
    before = teacher.read_bytes()
    expects(run("verify", teacher, teacher, "--report", page, "--force"), 2, "is a network", "another name")
    assert teacher.read_bytes() == before


def error(name: str, size: float, own: float | None = None) -> LayerError:
    return LayerError(name, name, size, size, (0,), 0.0, size, own)


def found(*layers: LayerError, tolerance: float = 1e-12) -> Finding:
    graph = chain((3,), **{layer.name: make("ReLU") for layer in layers})
    return Finding(graph, Located(layers, (), tolerance, 2), Correspondence({}, "growth"), {})


def test_the_picture_is_a_bar_of_the_logarithm_of_each_error() -> None:
    text = picture(
        found(error("a", 0.0), error("b", 1e-16), error("c", 1e-12), error("d", 0.1, 0.1), error("e", 1e-4, 0.0))
    )
    # 24 cells for the 15 decades from 1e-16 to 0.1, and a step below them for zero
    rows = {line.split()[0]: line for line in text.splitlines()[1:]}
    lengths = {name: sum(c in "█▏▎▍▌▋▊▉" for c in line) for name, line in rows.items()}
    decades = {"a": None, "b": -16, "c": -12, "d": -1, "e": -4}
    for name, decade in decades.items():
        expected = 0.0 if decade is None else 24 * (decade + 16 + 1) / 16
        assert abs(lengths[name] - expected) <= 1, name
    assert rows["d"].endswith("0.1 ◀")
    assert not rows["e"].endswith("◀")


def test_many_layers_share_rows_and_those_that_differ_by_themselves_do_not() -> None:
    layers = [error(f"layer{i}", 1e-16 if i < 100 else 0.5, 0.5 if i in (100, 301) else 0.0) for i in range(700)]
    lines = picture(found(*layers)).splitlines()
    assert len(lines) <= 1 + located.MOST_ROWS + 2
    alone = [line.split()[0] for line in lines[1:] if "+" not in line.split()[1]]
    assert [name for name in alone if name in ("layer100", "layer301")] == ["layer100", "layer301"]
    counted = sum(1 + int(line.split()[1][1:]) if line.split()[1].startswith("+") else 1 for line in lines[1:])
    assert counted == 700


def test_the_picture_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(located, "terminal_width", lambda: 80)
    names = [f"features.denseblock{i}.denselayer{i}.a.very.long.name.of.a.convolution{i}.conv" for i in range(40)]
    lines = picture(found(*(error(name, 1e-7, 0.0) for name in names))).splitlines()
    assert max(map(len, lines)) <= 80
    assert all("…" in line for line in lines[1:])


def test_rounding_that_adds_up_is_nobodys_fault() -> None:
    text = located_text(found(error("a", 1e-13, None), error("b", 3e-12, 1e-13)))
    assert "none: each differs by rounding alone, which adds up to 3e-12 at `b`" in text


def test_equal_values_are_told_as_such() -> None:
    assert "none: all are equal to the last bit" in located_text(found(error("a", 0.0), error("b", 0.0)))


def test_infinity_is_told_as_such() -> None:
    text = located_text(found(error("a", math.inf, math.inf)))
    assert "infinity standard deviations" in text


def test_a_name_is_cut_in_the_middle() -> None:
    assert middle("features.denseblock3.conv2", 11) == "featu…conv2"
    assert middle("short", 11) == "short"


def test_what_stands_between_is_read_through() -> None:
    names = ("a", "new", "b")
    graph = chain((3,), **{name: make("ReLU") for name in names})
    result = Located((error("a", 1e-15, 0.0), error("b", 0.5, 0.5)), (), 1e-12, 1)
    (reading,) = Finding(graph, result, Correspondence({}, "growth"), {}).readings("b")
    assert (reading.value, reading.error, reading.through) == ("a", 1e-15, ("new",))


def test_layers_between_are_suspected_too() -> None:
    graph = chain((3,), a=linear(3, 3), new=linear(3, 3), b=linear(3, 3))
    grown = Net2Net.from_tensors(graph, weights(graph))
    tensors = weights(graph)
    tensors["new.bias"] = tensors["new.bias"] + np.float32(1.0)
    result = Located((error("a", 0.0, 0.0), error("b", 0.5, 0.5)), (), 1e-12, 1)
    told = finding(Net2Net.from_tensors(graph, tensors), result, Correspondence({}, "growth", expected=grown))
    assert list(told.changed) == ["new"]
