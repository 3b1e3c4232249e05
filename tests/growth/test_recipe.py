"""Recipes: growths written down, and replayed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from net2net_cli import Net2Net
from net2net_cli.errors import InputError
from net2net_cli.growth.recipe import parse_recipe, recipe_text

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"

RECIPE = """
[[operation]]
name = "widen"
layers = { "layer3.*.conv1" = "2x", "layer1.1.conv1" = 21 }
split = "random"
seed = 3

[[operation]]
name = "deepen"
layers = ["layer2.1", "layer1.0.conv1"]
bn = "identity"
"""


def grown_by_hand(teacher: Net2Net) -> Net2Net:
    wider = teacher.widen({"layer3.*.conv1": "2x", "layer1.1.conv1": 21}, split="random", seed=3)
    return wider.deepen(["layer2.1", "layer1.0.conv1"], batch_norm="identity")


def same_tensors(a: Net2Net, b: Net2Net) -> bool:
    names = [name for name, *_ in a.graph.tensors()]
    return a.graph == b.graph and all(np.array_equal(a.tensor(name), b.tensor(name)) for name in names)


def test_a_recipe_does_what_its_operations_do_one_by_one() -> None:
    teacher = Net2Net.load(SAMPLES / "resnet.safetensors")
    assert same_tensors(teacher.apply(parse_recipe(RECIPE, where="recipe")), grown_by_hand(teacher))


def test_the_recipe_in_a_lineage_replays_the_student(tmp_path: Path) -> None:
    teacher = Net2Net.load(SAMPLES / "resnet.safetensors")
    student = grown_by_hand(teacher)
    student.save(tmp_path / "student.safetensors")
    saved = Net2Net.load(tmp_path / "student.safetensors")
    assert saved.file is not None
    text = recipe_text(saved.file.steps())
    assert [o["name"] for o in tomllib.loads(text)["operation"]] == ["widen", "deepen"]
    assert same_tensors(teacher.apply(parse_recipe(text, where="recipe")), student)


def test_a_student_that_was_applied_computes_what_its_teacher_computes() -> None:
    teacher = Net2Net.load(SAMPLES / "resnet.safetensors")
    student = teacher.apply(parse_recipe(RECIPE, where="recipe"))
    student.verify(teacher, device="cpu").raise_if_different()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no list of `[[operation]]`"),
        ("a = [", "is no TOML"),
        ("colour = 1", "`colour` is no key of a recipe"),
        ("operation = 3", "no list of `[[operation]]`"),
        ("[[operation]]", "has the name None"),
        ('[[operation]]\nname = "shrink"', "has the name 'shrink'"),
        ('[[operation]]\nname = "widen"', "has no `layers`"),
        ('[[operation]]\nname = "widen"\nlayers = ["a"]', "`layers` of operation 1"),
        ('[[operation]]\nname = "widen"\nlayers = {a = "2x"}\nseed = -1', "`seed` of operation 1"),
        ('[[operation]]\nname = "widen"\nlayers = {a = "2x"}\nround_to = 0', "`round_to` of operation 1"),
        ('[[operation]]\nname = "widen"\nlayers = {a = "2x"}\nnoise = inf', "`noise` of operation 1"),
        ('[[operation]]\nname = "widen"\nlayers = {a = "2x"}\nsed = 1', "unknown key `sed`"),
        ('[[operation]]\nname = "deepen"\nlayers = ["a"]\nbn = "measured"', "`bn` of operation 1"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_recipe(text, where="`r.toml`")
    assert said in refused.value.message
    assert refused.value.hint


def test_a_teacher_has_no_recipe() -> None:
    with pytest.raises(InputError, match="no lineage"):
        recipe_text([])
