"""`net2net verify --level proof` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.running import expects, run, spawn

KEYS = {
    *("level", "passed", "replays", "exact", "exactness", "operations", "tensors", "bytes"),
    *("identities", "problems", "differences"),
}


@pytest.fixture
def student(teacher: Path) -> Path:
    out = teacher.with_name("student.safetensors")
    done = run("widen", teacher, "conv1=6", "block.conv2=2x", "-o", out, "--no-verify")
    assert done.code == 0, done.err
    return out


def flip(path: Path) -> None:
    """The last bit of the last byte."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_a_student_is_proved_without_torch(teacher: Path, student: Path, poison: Path) -> None:
    done = spawn("verify", teacher, student, "--level", "proof", poison=poison)
    assert done.code == 0, done.err
    assert "the student computes what the teacher computes" in done.out
    assert "each bit is what its growth makes of the teacher" in done.out
    assert "grown by  widen" in done.out


def test_one_flipped_bit_is_exit_1_with_its_place(teacher: Path, student: Path) -> None:
    flip(student)
    done = run("verify", teacher, student, "--level", "proof")
    assert done.code == 1
    assert "fc.weight  1 of 30  [4, 5]" in done.out
    assert "the student is not what its lineage says" in done.out
    assert done.err.startswith("error: `fc.weight`[4, 5] is ")
    assert "from `fc.weight`[4, 3] of the teacher; 1 of its 30 elements differ\n\nhint: " in done.err


def test_json_has_stable_keys(teacher: Path, student: Path) -> None:
    done = run("verify", teacher, student, "--level", "proof", "--json")
    assert set(done.json) == KEYS
    assert (done.json["level"], done.json["passed"], done.json["differences"]) == ("proof", True, [])
    flip(student)
    done = run("verify", teacher, student, "--level", "proof", "--json", "-q")
    assert done.code == 1
    (difference,) = done.json["differences"]
    assert set(difference) == {
        *("name", "differing", "elements", "index", "expected", "expected_bits", "found", "found_bits"),
        *("teacher_tensor", "teacher_index"),
    }


def test_noise_is_exit_1_and_said_to_be_meant(teacher: Path) -> None:
    """The exit code answers the same question at every level: does the student compute what the teacher computes?"""
    out = teacher.with_name("noisy.safetensors")
    run("widen", teacher, "conv1=6", "--noise", "0.1", "-o", out, "--no-verify")
    done = run("verify", teacher, out, "--level", "proof", "--json")
    assert done.code == 1
    assert (done.json["replays"], done.json["exact"], done.json["passed"]) == (True, False, False)
    assert "`widen` was not meant to keep what the network computes" in done.err


@pytest.mark.parametrize(
    "option",
    [
        *(("--batch", "3"), ("--dtype", "float32"), ("--tolerance", "0.1"), ("--device", "cpu"), ("--seed", "1")),
        *(("--inputs", "x.npz"), ("--train",)),
    ],
)
def test_options_about_running_are_refused(option: tuple[str, ...], teacher: Path, student: Path) -> None:
    done = run("verify", teacher, student, "--level", "proof", *option)
    expects(done, 2, f"`{option[0]}` says how networks are run", "`--level outputs`")


def test_without_lineage_nothing_can_be_proved(teacher: Path) -> None:
    expects(run("verify", teacher, teacher, "--level", "proof"), 3, "the student has no lineage", "compares outputs")


def test_another_teacher_is_exit_3(teacher: Path, student: Path) -> None:
    flip(teacher)
    expects(run("verify", teacher, student, "--level", "proof"), 3, "not grown from this teacher", "sha256sum")


def test_the_recipe_of_a_lineage_keeps_the_order_of_its_widths(teacher: Path) -> None:
    """In another order, other channels are drawn."""
    first, again = (teacher.with_name(f"{name}.safetensors") for name in ("first", "again"))
    run("widen", teacher, "conv1=6", "block.conv2=8", "-o", first, "--no-verify")
    recipe = teacher.with_name("teacher.toml")
    recipe.write_text(run("diff", teacher, first, "--recipe").out)
    run("apply", teacher, recipe, "-o", again, "--no-verify")
    assert first.read_bytes() == again.read_bytes()
