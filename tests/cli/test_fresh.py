"""`--split fresh`: new channels in the place of copies, through every command that meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from cli.running import expects, leftovers, run, sha256
from cli.test_optimizer import trained
from net2net_cli import Net2Net

FRESH = ("--split", "fresh")


@pytest.fixture
def student(teacher: Path, tmp_path: Path) -> Path:
    out = tmp_path / "student.safetensors"
    done = run("widen", teacher, "block.conv2=9", *FRESH, "-o", out, "--device", "cpu")
    assert done.code == 0, done
    return out


def test_the_student_is_compared_proved_and_told_apart_from_copies(teacher: Path, student: Path) -> None:
    done = run("verify", teacher, student, "--level", "proof")
    assert done.code == 0, done
    assert "new channels  weights of zero read them" in done.out
    assert "exactly" in done.out
    assert run("verify", teacher, student, "--level", "train", "--device", "cpu").code == 0
    assert "widen block.conv2=9 (seed 0), new channels" in run("inspect", student).out


def test_new_rows_are_drawn_and_the_columns_that_read_them_are_zero(teacher: Path, student: Path) -> None:
    before, after = load_file(teacher), load_file(student)
    made, read = after["block.conv2.weight"], after["block.conv3.weight"]
    known = [i for i, row in enumerate(made) if any(np.array_equal(row, one) for one in before["block.conv2.weight"])]
    assert np.array_equal(made[known], before["block.conv2.weight"])
    new = sorted(set(range(9)) - set(known))
    assert len(new) == 3
    assert (read[:, new] == 0).all()
    assert np.array_equal(read[:, known], before["block.conv3.weight"])
    assert 0 < np.abs(made[new]).max() <= 1 / np.sqrt(made[0].size)  # as `torch.nn.Conv2d` begins


def test_a_dry_run_says_what_is_zero_and_what_is_drawn(teacher: Path) -> None:
    done = run("widen", teacher, "block.conv2=9", *FRESH, "--dry-run")
    assert [" ".join(line.split()) for line in done.out.splitlines()[1:4]] == [
        "block.conv2.weight 6×4×3×3 9×4×3×3 axis 0 longer, new entries: random, uniform",
        "block.conv2.bias 6 9 axis 0 longer, new entries: random, uniform",
        "block.conv3.weight 4×6×1×1 4×9×1×1 axis 1 zero for new channels",
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(teacher: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert run("widen", teacher, "conv1=2x", *FRESH, "--seed", str(seed), "-o", path, "--no-verify").code == 0
    digests = [sha256(path) for path in paths]
    assert digests[0] == digests[1] != digests[2]


def test_a_drawn_number_that_was_changed_is_seen_by_the_proof_alone(teacher: Path, student: Path) -> None:
    with safe_open(student, "numpy") as file:
        metadata = file.metadata()
    tensors = load_file(student)
    before = load_file(teacher)["block.conv2.weight"]
    new = next(i for i, row in enumerate(tensors["block.conv2.weight"]) if not any((row == b).all() for b in before))
    tensors["block.conv2.weight"][new, 0, 0, 0] *= 1.5
    safetensors.numpy.save_file(tensors, student, metadata)
    done = run("verify", teacher, student, "--level", "proof")
    assert done.code == 1
    assert f"`block.conv2.weight`[{new}, 0, 0, 0]" in done.err
    assert "as it is new; 1 of its 324 elements differ" in done.err
    assert run("verify", teacher, student, "--device", "cpu").code == 0


def test_a_recipe_makes_the_same_bytes(teacher: Path, student: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "growth.toml"
    recipe.write_text(run("diff", teacher, student, "--recipe").out)
    assert 'split = "fresh"' in recipe.read_text()
    again = tmp_path / "again.safetensors"
    assert run("apply", teacher, recipe, "-o", again, "--no-verify").code == 0
    assert {n: t.tobytes() for n, t in load_file(again).items()} == {
        n: t.tobytes() for n, t in load_file(student).items()
    }


def test_grow_and_like_make_new_channels_too(teacher: Path, tmp_path: Path) -> None:
    wide, like, grown = (tmp_path / f"{name}.safetensors" for name in ("wide", "like", "grown"))
    assert run("widen", teacher, "block.conv2=9", "-o", wide, "--no-verify").code == 0
    spec = wide.with_suffix(".json")
    assert run("widen", teacher, "--like", spec, *FRESH, "-o", like, "--device", "cpu").code == 0
    assert run("grow", teacher, "--like", spec, *FRESH, "-o", grown, "--device", "cpu").code == 0
    for path in (like, grown):
        assert (load_file(path)["block.conv3.weight"] == 0).any()
        assert run("verify", teacher, path, "--level", "proof").code == 0, path


def test_the_optimizers_state_of_new_channels_is_zero(teacher: Path, tmp_path: Path) -> None:
    saved, out = tmp_path / "teacher.optim.pt", tmp_path / "student.safetensors"
    torch.save(trained(teacher, torch.optim.AdamW), saved)
    assert run("widen", teacher, "block.conv2=2x", *FRESH, "--optimizer", saved, "-o", out).code == 0
    grown, before = (torch.load(p, weights_only=True) for p in (out.with_suffix(".optim.pt"), saved))
    names = grown["optimizer"]["param_groups"][0]["param_names"]
    at = names.index("block.conv2.weight")
    old = before["optimizer"]["param_groups"][0]["param_names"].index("block.conv2.weight")
    for key in ("exp_avg", "exp_avg_sq"):
        ours, theirs = grown["optimizer"]["state"][at][key], before["optimizer"]["state"][old][key]
        assert torch.equal(ours[0::2], theirs)
        assert (ours[1::2] == 0).all()
    told = json.loads(out.with_suffix(".train.json").read_text())["parameters"]
    assert told["block.conv2.weight"]["copies"] == {"0": [[0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1]]}
    assert {tuple(one["lr_factor"].values()) for one in told.values()} == {(1.0, 1.0)}
    weights = Net2Net.load(out).tensor("block.conv2.weight")
    assert np.array_equal(grown["ema"]["module.block.conv2.weight"].numpy()[1::2], weights[1::2])


def test_what_would_see_new_channels_is_refused_and_inspect_knows_it(tmp_path: Path) -> None:
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    teacher, out = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    Net2Net.from_module(model, torch.zeros(2, 4)).save(teacher)
    done = run("widen", teacher, "0=2x", *FRESH, "-o", out)
    expects(done, 4, "new channels (`--split fresh`) cannot be exact: `1` takes the mean over it", "copies of channels")
    assert leftovers(tmp_path) == []
    told = {layer["name"]: layer["not_fresh"] for layer in run("inspect", teacher, "--json").json["layers"]}
    assert told == {
        "0": "`1` takes the mean over it",
        "1": None,
        "2": None,
        "4": "it is the network's output `out`",
    }
    detail = run("inspect", teacher, "0", "2").out
    assert "new channels  no: `1` takes the mean over it" in detail
    assert "new channels  yes" in detail
    done = run("widen", teacher, "*=2x", "--where-possible", *FRESH, "-o", out, "--no-verify")
    assert done.code == 0, done
    assert "passed over: new channels (`--split fresh`) cannot be exact: `1` takes the mean over it" in done.err
    assert load_file(out)["2.weight"].shape == (16, 6)


def test_noise_needs_copies(teacher: Path, tmp_path: Path) -> None:
    done = run("widen", teacher, "conv1=2x", *FRESH, "--noise", "0.1", "-o", tmp_path / "student.safetensors")
    expects(done, 2, "`--noise` sets copies apart, and `--split fresh` makes none", "leave out one of the two")
