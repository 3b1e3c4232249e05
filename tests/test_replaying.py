"""Lineages as recipes: a student is grown again, from any of the networks that it descends from."""

from __future__ import annotations

from pathlib import Path

import pytest

from net2net_cli import Net2Net
from net2net_cli.errors import InputError
from net2net_cli.replaying import replayed

SAMPLES = Path(__file__).parents[1] / "sample_checkpoints"


@pytest.fixture
def teacher() -> Net2Net:
    return Net2Net.load(SAMPLES / "resnet.safetensors")


def saved(model: Net2Net, path: Path) -> Net2Net:
    model.save(path)
    return Net2Net.load(path)


def same_bits(a: Net2Net, b: Net2Net) -> bool:
    names = [name for name, *_ in a.graph.tensors()]
    return a.graph == b.graph and all(a.tensor(name).tobytes() == b.tensor(name).tobytes() for name in names)


def test_widths_are_drawn_again_in_the_order_in_which_they_were_named(teacher: Net2Net, tmp_path: Path) -> None:
    widths: dict[str, str | int] = {"layer3.0.conv1": "1.5x", "layer1.1.conv1": 21}
    assert not same_bits(teacher.widen(widths), teacher.widen(dict(reversed(widths.items()))))  # the order counts
    student = saved(teacher.widen(widths), tmp_path / "student.safetensors")
    assert same_bits(replayed(teacher, student), student)


def test_a_chain_is_replayed_from_any_of_its_networks(teacher: Net2Net, tmp_path: Path) -> None:
    first = saved(teacher.widen({"layer1.0.conv1": 20}, split="random", seed=3), tmp_path / "first.safetensors")
    deeper = first.deepen(["layer2.1", "layer1.0.conv1"])
    last = saved(deeper.widen({"layer1.0.conv1": "1.5x"}, split="equal"), tmp_path / "last.safetensors")
    for ancestor, growths in ((teacher, 3), (first, 2), (deeper, 2)):
        again = replayed(ancestor, last)
        assert same_bits(again, last)
        assert len(again.plans) == growths


def test_what_was_not_saved_is_replayed_as_well(teacher: Net2Net) -> None:
    student = teacher.widen({"conv1": "2x"})
    assert same_bits(replayed(teacher, student), student)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("way", ["grow", "widen"])
def test_growth_after_a_target_is_replayed_without_the_target(
    way: str, later: bool, teacher: Net2Net, tmp_path: Path
) -> None:
    wider = teacher.widen({"conv1": "2x", "layer1.0.conv1": "1.5x"})
    grown = teacher.widen(like=wider.graph) if way == "widen" else teacher.grow(wider.deepen(["layer2.1"]).graph)
    if later:
        grown = saved(grown, tmp_path / "middle.safetensors").widen({"layer3.0.conv1": "1.5x"})
    student = saved(grown, tmp_path / "student.safetensors")
    assert same_bits(replayed(teacher, student), student)


def test_noise_and_random_padding_are_drawn_again(teacher: Net2Net, tmp_path: Path) -> None:
    noisy = teacher.widen({"conv1": "1.5x"}, noise=0.1, seed=4)
    student = saved(noisy.random_pad({"layer1.0.conv1": 20}, std=0.1, seed=5), tmp_path / "student.safetensors")
    assert same_bits(replayed(teacher, student), student)


def test_a_network_that_is_no_ancestor_is_refused_with_both_digests(teacher: Net2Net, tmp_path: Path) -> None:
    other = saved(teacher.widen({"conv1": "2x"}), tmp_path / "other.safetensors")
    student = saved(teacher.widen({"conv1": 20}), tmp_path / "student.safetensors")
    with pytest.raises(InputError, match="not grown from this teacher") as refused:
        replayed(other, student)
    assert teacher.origin.sha256()[:12] in refused.value.message
    assert other.origin.sha256()[:12] in refused.value.message


def test_a_network_without_lineage_is_refused(teacher: Net2Net) -> None:
    with pytest.raises(InputError, match="no lineage"):
        replayed(teacher, teacher)
