from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cli.running import expects, leftovers, run, sha256, spawn
from net2net_cli import Net2Net

FAST = "--no-verify"


def test_widen_writes_a_student_and_says_what_changed(teacher: Path) -> None:
    out = teacher.with_name("student.safetensors")
    done = run("widen", teacher, "block.conv2=9", "-o", out, FAST)
    assert done.code == 0
    assert done.err.splitlines() == [
        "outputs were not compared (`--no-verify`)",
        f"widen: 1 layer wider, 1 other adapted; wrote `{out}`",
    ]
    assert done.out.splitlines()[:2] == ["layer        op      width", "block.conv2  Conv2d  6 → 9"]
    assert "parameters     395 → 518  (+31.1 %)" in done.out
    assert done.out.rstrip().endswith(f"written to     {out}")
    assert load_file(out)["block.conv2.weight"].shape == (9, 4, 3, 3)
    assert leftovers(teacher.parent) == ["student.json", "student.safetensors"]


def test_what_is_coupled_grows_and_is_listed(teacher: Path) -> None:
    done = run("widen", teacher, "conv1=+3", "-o", teacher.with_name("s.safetensors"), FAST, "--json")
    wider = {layer["name"]: layer["width"] for layer in done.json["layers"] if layer["kind"] == "wider"}
    assert wider["conv1"] == wider["bn1"] == wider["block.conv3"] == [4, 7]


def test_verified_growth_tells_the_error_it_found(teacher: Path) -> None:
    done = run("widen", teacher, "conv1=2x", "-o", teacher.with_name("s.safetensors"), "--device", "cpu", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found["verification"]["passed"]
    assert found["verification"]["error"] <= 1e-12
    assert found["verification"]["dtype"] == "float64"
    assert found["exact"]
    assert not found["dry_run"]


def test_deepen_repeats_a_block_and_inserts_a_layer(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    done = run("deepen", teacher, "block.conv2", "-o", out, FAST, "--json")
    assert done.code == 0, done.err
    assert [layer["kind"] for layer in done.json["layers"] if layer["op"] == "Conv2d"] == ["new"]
    assert run("verify", teacher, out, "--device", "cpu").code == 0


def test_random_pad_has_the_shapes_of_widen_and_says_that_nothing_is_preserved(teacher: Path) -> None:
    wide, padded = teacher.with_name("w.safetensors"), teacher.with_name("p.safetensors")
    run("widen", teacher, "conv1=2x", "-o", wide, FAST)
    done = run("random-pad", teacher, "conv1=2x", "-o", padded)
    assert done.code == 0, done.err
    assert "preserves nothing" in done.err
    shapes = [{name: array.shape for name, array in load_file(path).items()} for path in (wide, padded)]
    assert shapes[0] == shapes[1]


def test_like_takes_the_widths_of_another_spec(teacher: Path) -> None:
    wide, copy = teacher.with_name("w.safetensors"), teacher.with_name("c.safetensors")
    run("widen", teacher, "conv1=10", "-o", wide, FAST)
    done = run("widen", teacher, "--like", wide.with_suffix(".json"), "-o", copy, FAST, "--json")
    assert done.code == 0, done.err
    assert load_file(copy)["conv1.weight"].shape[0] == 10


def test_a_dry_run_prints_every_changed_tensor_and_writes_nothing(teacher: Path) -> None:
    done = run("widen", teacher, "block.conv2=9", "--dry-run")
    assert done.code == 0
    assert [line.split() for line in done.out.splitlines()[:4]] == [
        ["tensor", "before", "after", "how"],
        ["block.conv2.weight", "6×4×3×3", "9×4×3×3", "axis", "0", "copied"],
        ["block.conv2.bias", "6", "9", "axis", "0", "copied"],
        ["block.conv3.weight", "4×6×1×1", "4×9×1×1", "axis", "1", "shared", "out"],
    ]
    assert leftovers(teacher.parent) == []


def test_a_dry_run_still_refuses_a_place_that_cannot_be(teacher: Path) -> None:
    expects(run("widen", teacher, "conv1=2x", "-n", "-o", teacher), 2, "is the teacher itself", "another name")


def test_json_has_the_same_keys_whether_or_not_anything_is_written(teacher: Path) -> None:
    dry = run("widen", teacher, "conv1=2x", "-n", "--json").json
    real = run("widen", teacher, "conv1=2x", "-o", teacher.with_name("s.safetensors"), FAST, "--json").json
    assert list(dry) == list(real)
    assert dry["tensors"] == real["tensors"]


def test_quiet_says_nothing_and_json_is_still_printed(teacher: Path) -> None:
    done = run("widen", teacher, "conv1=2x", "-o", teacher.with_name("s.safetensors"), FAST, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    done = run("widen", teacher, "conv1=2x", "-n", "-q", "--json")
    assert done.json["operation"] == "widen"
    assert done.err == ""


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(teacher: Path) -> None:
    paths = [teacher.with_name(f"{name}.safetensors") for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert run("widen", teacher, "conv1=7", "--seed", str(seed), "-o", path, FAST).code == 0
    assert sha256(paths[0]) == sha256(paths[1])
    assert sha256(paths[0]) != sha256(paths[2])


def test_noise_is_reported_as_approximate_after_an_exact_check(teacher: Path) -> None:
    done = run("widen", teacher, "conv1=2x", "--noise", "0.01", "-o", teacher.with_name("s.safetensors"), "--json")
    assert done.code == 0, done.err
    assert "approximate" in done.err
    assert done.json["exact"] is False
    assert done.json["verification"]["passed"]


def test_where_possible_notes_what_it_passed_over(teacher: Path) -> None:
    done = run("widen", teacher, "**=2x", "--where-possible", "-n", "--json")
    assert done.code == 0, done.err
    assert any("`fc`" in note for note in done.json["notes"])


def test_a_spec_given_by_option_is_used(teacher: Path) -> None:
    spec = teacher.with_name("other.json")
    spec.write_text(teacher.with_suffix(".json").read_text().replace('"name": "sketch"', '"name": "mine"'))
    assert run("inspect", teacher, "--spec", spec, "--json").json["name"] == "mine"


def test_a_sidecar_that_says_something_else_is_a_warning(teacher: Path) -> None:
    sidecar = teacher.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"name": "sketch"', '"name": "mine"'))
    done = run("widen", teacher, "conv1=2x", "-n")
    assert done.code == 0
    assert done.err.startswith(f"warning: `{sidecar}` differs from the spec inside `{teacher}`")


@pytest.mark.parametrize(
    "command",
    [
        ("widen", "conv1=2x", "-n"),
        ("widen", "conv1=2x", "-o", "s.safetensors", FAST),
        ("deepen", "block.conv2", "-o", "d.safetensors", FAST),
        ("random-pad", "conv1=2x", "-o", "p.safetensors"),
        ("inspect",),
    ],
    ids=" ".join,
)
def test_no_torch_is_imported(teacher: Path, poison: Path, command: tuple[str, ...]) -> None:
    arguments = [teacher.with_name(a) if a.endswith(".safetensors") else a for a in command[1:]]
    done = spawn(command[0], teacher, *arguments, poison=poison)
    assert done.code == 0, done.err


def test_the_poison_is_seen(teacher: Path, poison: Path) -> None:
    done = spawn("widen", teacher, "conv1=2x", "-o", teacher.with_name("s.safetensors"), poison=poison)
    expects(done, 5, "cannot import PyTorch: torch was imported", "`--no-verify`")
    assert leftovers(teacher.parent) == []


def test_the_teacher_is_untouched_by_every_command(teacher: Path) -> None:
    before = [sha256(teacher), sha256(teacher.with_suffix(".json"))]
    for command in (("widen", "conv1=2x"), ("random-pad", "conv1=2x"), ("deepen", "block.conv2")):
        assert run(*command[:1], teacher, *command[1:], "-o", teacher.with_name("s.safetensors"), "--force").code == 0
    assert run("widen", teacher, "conv1=2x", "--force", "-o", teacher).code == 2
    assert [sha256(teacher), sha256(teacher.with_suffix(".json"))] == before


def test_a_student_that_differs_is_not_published(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Net2Net.write

    def wrong(self: Net2Net, part: Path, **options: object) -> str:
        text = write(self, part, **options)  # type: ignore[arg-type]
        data = bytearray(part.read_bytes())
        data[-400:] = bytes(400)  # the end holds weights
        part.write_bytes(data)
        return text

    monkeypatch.setattr(Net2Net, "write", wrong)
    done = run("widen", teacher, "conv1=2x", "-o", teacher.with_name("s.safetensors"), "--device", "cpu")
    expects(done, 1, "the outputs differ", "nothing was written")
    assert leftovers(teacher.parent) == []


def test_lineage_names_no_path(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    run("widen", teacher, "conv1=2x", "-o", out, FAST)
    steps = run("inspect", out, "--json").json["lineage"]
    assert [step["operation"] for step in steps] == ["widen"]
    assert steps[0]["teacher_sha256"] == sha256(teacher)
    assert str(teacher.parent) not in json.dumps(steps)


def test_nan_weights_are_grown_only_when_that_is_asked_for(teacher: Path) -> None:
    model = Net2Net.load(teacher)
    tensors = {name: model.tensor(name).copy() for name, *_ in model.graph.tensors()}
    tensors["conv1.weight"][0] = np.nan
    bad, out = teacher.with_name("bad.safetensors"), teacher.with_name("s.safetensors")
    Net2Net.from_tensors(model.graph, tensors).save(bad)
    expects(run("widen", bad, "conv1=2x", "-o", out, FAST), 3, "tensor `conv1.weight`", "--allow-nan")
    assert not out.exists()
    assert run("widen", bad, "conv1=2x", "-o", out, FAST, "--allow-nan").code == 0
