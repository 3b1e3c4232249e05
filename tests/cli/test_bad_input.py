from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from cli.running import expects, leftovers, run
from net2net_cli import Net2Net
from net2net_cli.errors import ExitCode


def grow(teacher: Path, *arguments: str | Path, out: str = "s.safetensors") -> tuple[str | Path, ...]:
    return ("widen", teacher, *arguments, "-o", teacher.with_name(out), "--no-verify")


def test_an_unknown_layer_names_the_nearest_ones(teacher: Path) -> None:
    expects(run(*grow(teacher, "block.conv=2x")), 2, "`block.conv` names no layer", "did you mean `block.conv")
    expects(run("deepen", teacher, "conv9", "-n"), 2, "`conv9` names no layer", "`conv1`")
    expects(run("inspect", teacher, "conv9"), 2, "`conv9` names no layer", "`conv1`")
    assert leftovers(teacher.parent) == []


def test_a_width_that_is_not_above_the_present_one(teacher: Path) -> None:
    expects(run(*grow(teacher, "conv1=3")), 2, "`conv1` is 4 wide already", "more than 4")


@pytest.mark.parametrize("text", ["conv1", "conv1=", "conv1=-2", "conv1=2y", "=3"])
def test_what_is_no_width(teacher: Path, text: str) -> None:
    assert run(*grow(teacher, text)).code == 2
    assert leftovers(teacher.parent) == []


@pytest.mark.parametrize(
    "text", ["conv1=" + "2" * 400, "conv1=" + "9" * 5000 + "x", "conv1=+1" + "0" * 20, "conv1=9999999x"]
)
def test_a_width_beyond_all_memory(teacher: Path, text: str) -> None:
    done = run(*grow(teacher, text))
    expects(done, 2, "`conv1` cannot be `", "ask for 16777216 or less")
    assert len(done.err) < 300
    assert leftovers(teacher.parent) == []


def test_a_recipe_is_read_up_to_a_limit(teacher: Path) -> None:
    expects(run("apply", teacher, "/dev/zero", "-n"), 3, "is longer than the 1.0 MB that are read", "check that this")
    teacher.with_name("r.toml").write_bytes(b"\xff")
    expects(run("apply", teacher, teacher.with_name("r.toml"), "-n"), 3, "is not UTF-8 text", "check that this")
    expects(run("inspect", teacher, "--spec", "/dev/zero"), 3, "is longer than the 67.1 MB", "net2net import")


def test_an_edited_history_is_told_or_passed_over(teacher: Path) -> None:
    student = teacher.with_name("s.safetensors")
    assert run(*grow(teacher, "conv1=6")).code == 0
    whole = student.read_bytes()
    old, number = b'\\"layers\\": {\\"conv1\\": \\"6\\"}', b'\\"layers\\": 5'
    assert old in whole
    student.write_bytes(whole.replace(old, number.ljust(len(old))))
    assert "widen 5" in run("inspect", student).out
    student.write_bytes(whole.replace(old, (number[:-1] + b"1e999").ljust(len(old))))
    expects(run("inspect", student), 3, "`net2net.lineage` is not JSON (1e999 is no number)", "restore it")


def test_no_width_at_all_shows_an_example(teacher: Path) -> None:
    expects(run("widen", teacher, "-n"), 2, "no layer and width", f"`net2net widen {teacher} LAYER=2x")


def test_two_widths_for_one_layer_or_group(teacher: Path) -> None:
    expects(run(*grow(teacher, "conv1=6", "conv1=8")), 2, "`conv1` is asked for two widths", "give one")
    expects(run(*grow(teacher, "conv1=6", "block.conv3=8")), 2, "grow together", "same width")


def test_like_and_widths_exclude_each_other(teacher: Path) -> None:
    expects(run(*grow(teacher, "conv1=6", "--like", teacher)), 2, "`--like` and LAYER=WIDTH", "leave one")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none(teacher: Path, value: str) -> None:
    assert run(*grow(teacher, "conv1=6", "--noise", value)).code == 2


def test_the_output_layer_is_refused(teacher: Path) -> None:
    expects(run(*grow(teacher, "fc=2x")), 4, "`fc` cannot be widened: it is the network's output", "net2net inspect")
    assert leftovers(teacher.parent) == []


def test_a_spec_that_does_not_fit_names_the_tensor_and_both_shapes(teacher: Path) -> None:
    spec = json.loads(teacher.with_suffix(".json").read_text())
    layer = next(entry for entry in spec["layers"] if entry["name"] == "fc")
    layer["out_features"] = 7
    other = teacher.with_name("other.json")
    other.write_text(json.dumps(spec))
    done = run(*grow(teacher, "conv1=6", "--spec", other))
    assert done.code == 3
    assert "fc.weight" in done.err
    assert "7" in done.err
    assert "5" in done.err
    assert leftovers(teacher.parent) == ["other.json"]


def test_a_checkpoint_without_a_spec_says_how_to_make_one(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path = tmp_path / "bare.safetensors"
    save_file({"x": np.zeros(3, dtype=np.float32)}, path)
    expects(run("inspect", path), 2, "has no spec", "net2net import")


def test_broken_json_is_told_with_its_place(teacher: Path) -> None:
    broken = teacher.with_name("broken.json")
    broken.write_text('{"format": "net2net-spec", "version": 1, "layers": [')
    expects(run("inspect", broken), 3, "not valid JSON", "net2net import")


def test_a_truncated_checkpoint(teacher: Path) -> None:
    teacher.write_bytes(teacher.read_bytes()[:-100])
    expects(run(*grow(teacher, "conv1=6")), 3, "cut short", "copy, download or export it again")
    assert leftovers(teacher.parent) == []


def test_a_hostile_header(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{" + bytes(100))
    assert run("inspect", path).code == 3


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    assert run("inspect", path).code == 3
    assert not (tmp_path / "pwned").exists()


def test_a_missing_file(tmp_path: Path) -> None:
    expects(run("inspect", tmp_path / "no.safetensors"), 2, "no such file", "check the path")
    expects(run("widen", tmp_path / "no.safetensors", "a=2x", "-n"), 2, "no such file", "check the path")


def test_a_folder_in_place_of_a_checkpoint(tmp_path: Path) -> None:
    expects(run("inspect", tmp_path), 2, "is a folder", "ls")


def test_no_place_for_the_student(teacher: Path) -> None:
    expects(run("widen", teacher, "conv1=6"), 2, "no place for the student", "`--dry-run`")


def test_the_output_exists(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    out.write_text("mine")
    expects(run(*grow(teacher, "conv1=6")), 2, f"`{out}` exists", "--force")
    assert out.read_text() == "mine"
    assert run(*grow(teacher, "conv1=6"), "--force").code == 0


def test_the_output_is_a_folder(teacher: Path) -> None:
    teacher.with_name("s.safetensors").mkdir()
    expects(run(*grow(teacher, "conv1=6")), 2, "is a folder", "student.safetensors")


def test_the_output_is_the_teacher_even_by_a_link_and_with_force(teacher: Path) -> None:
    link = teacher.with_name("link.safetensors")
    link.symlink_to(teacher)
    for out in (teacher, link):
        expects(run("widen", teacher, "conv1=6", "-o", out, "--force"), 2, "is the teacher itself", "another name")


def test_the_output_has_another_suffix(teacher: Path) -> None:
    expects(run(*grow(teacher, "conv1=6", out="s.pt")), 2, "must end in `.safetensors`", "s.safetensors")


def test_the_folder_of_the_output_does_not_exist(teacher: Path) -> None:
    out = teacher.parent / "no" / "s.safetensors"
    expects(run("widen", teacher, "conv1=6", "-o", out), 2, "there is no folder", "mkdir -p")


def test_the_folder_of_the_output_is_read_only(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _, mode, **__: mode == os.R_OK)  # root may write anywhere
    expects(run(*grow(teacher, "conv1=6")), 5, "no permission to write", "another folder")


def test_a_full_disk(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10, 10, 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    expects(run(*grow(teacher, "conv1=6")), 5, "disk full", "free some space")
    assert leftovers(teacher.parent) == []


def test_a_missing_device(teacher: Path) -> None:
    import torch

    name = "mps" if torch.cuda.is_available() else "cuda"
    done = run("widen", teacher, "conv1=6", "-o", teacher.with_name("s.safetensors"), "--device", name)
    expects(done, 5, f"`{name}` cannot be used", "`--no-verify`")
    assert "net2net env" in done.err
    assert leftovers(teacher.parent) == []


def test_two_networks_that_differ(teacher: Path) -> None:
    model = Net2Net.load(teacher)
    tensors = {name: model.tensor(name).copy() for name, *_ in model.graph.tensors()}
    tensors["block.conv2.weight"][2, 1, 1, 1] += 0.01
    other = teacher.with_name("other.safetensors")
    Net2Net.from_tensors(model.graph, tensors).save(other)
    done = run("verify", teacher, other, "--device", "cpu", "--json")
    assert done.code == ExitCode.DIFFERENT
    assert done.json["passed"] is False
    assert done.err.startswith("error: the outputs differ")
    tolerance = f"{done.json['smallest_tolerance'] * 1.001:g}"
    assert run("verify", teacher, other, "--device", "cpu", "--tolerance", tolerance).code == 0
