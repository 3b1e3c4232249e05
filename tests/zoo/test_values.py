"""Every value that a plan claims to be a value of the teacher is that value: both networks are run and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.channels.values import Value, chained
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.runtime.build import Network, values_of
from net2net_cli.runtime.mapped import in_student
from zoo import test_sequences, test_swin, test_transformers, test_zoo
from zoo.growing import Teacher
from zoo.networks import ENTRIES

GROWS = [name for name in ENTRIES if name != "Normalized"]


def values(net: Net2Net, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    module = net.to_module(dtype=torch.float64).eval()
    assert isinstance(module, Network)
    with torch.no_grad():
        return {name: value.clone() for name, value in values_of(module, *inputs)}


def claims(student: Net2Net) -> dict[str, Value]:
    return chained([plan.values for plan in student.plans], student.plans[0].teacher)


def wrong(one: Teacher, student: Net2Net, claimed: Mapping[str, Value]) -> dict[str, float]:
    """The claims that do not hold, and by how much: max |Δ|, over the largest element that should be there."""
    ours, theirs = values(one.net, one.inputs), values(student, one.inputs)
    found = {}
    for name, claim in ((n, claimed[n]) for n in theirs if n in claimed):
        expected = in_student(ours[claim.name].double(), claim)
        assert expected.shape == theirs[name].shape, name
        apart = torch.where(expected == theirs[name], 0.0, (expected - theirs[name].double()).abs())
        found[name] = float(apart.max()) / max(float(expected.abs().max()), 1e-300)
    return {name: error for name, error in found.items() if not error <= 1e-11}


def grown(one: Teacher) -> Net2Net:
    """Wider, then deeper wherever that goes, then wider again."""
    try:
        net = one.net.widen({"**": "1.5x"}, where_possible=True, seed=1)
    except GrowthRefusedError:
        net = one.net.widen({"**": "2x"}, where_possible=True, seed=1)
    for layer in one.growable:
        try:
            net = net.deepen([layer])
        except GrowthRefusedError:
            continue
    return net.widen({"**": "2x"}, where_possible=True, seed=2, split="random")


@pytest.mark.parametrize("name", [*GROWS, *test_sequences.NETWORKS])
def test_all_values_that_persist_are_the_teachers_after_three_growths(name: str) -> None:
    one = test_zoo.teacher(name) if name in ENTRIES else test_sequences.teacher(name)
    student = grown(one)
    claimed = claims(student)
    assert wrong(one, student, claimed) == {}
    assert {claim.name for claim in claimed.values()} == set(one.net.graph.by_name)


@pytest.mark.parametrize("width", ["+1", "1.5x", "25"])
def test_a_stream_with_zeros_behind_its_copies_is_the_teachers_scaled(width: str) -> None:
    torch.manual_seed(0)
    gated = test_sequences.Gated
    one = Teacher.of(
        nn.Sequential(nn.Linear(3, 10), gated(10, 12), gated(10, 12), nn.RMSNorm(10), nn.Linear(10, 4)), [(5, 3)]
    )
    check(one, one.net.widen({"0": width}).deepen(["1"]).widen({"1.gate": "2x"}), scaled={"0", "1.down", "2.down"})


@pytest.mark.parametrize("width", ["+8", "56"])
def test_a_stream_with_its_mean_behind_its_copies_is_the_teachers_scaled(width: str) -> None:
    one = Teacher.of(test_transformers.vit(2), [(3, 32, 32)])
    mlp = "encoder.layers.encoder_layer_1.mlp"
    check(one, one.net.widen({"conv_proj": width}).widen({"**.mlp.0": "2x"}), scaled={"conv_proj", f"{mlp}.3"})


def check(one: Teacher, student: Net2Net, *, scaled: set[str]) -> None:
    """All claims hold, and those of these layers have a factor, which leaves their mean square as the width was."""
    claimed = claims(student)
    assert wrong(one, student, claimed) == {}
    for name in scaled:
        (slices,) = (axis for axis in claimed[name].axes if axis is not None)
        copies = slices.factors[slices.position >= 0]
        assert copies**2 == pytest.approx(slices.position.size / copies.size)  # s = √(H / kh)


def test_values_of_a_swin_transformer_whose_windows_are_folded_into_the_batch_are_the_teachers() -> None:
    one = test_swin.teacher("v1")
    student = one.net.widen({"**": "2x"}, where_possible=True).deepen([test_swin.block("v1", 0, 1)])
    claimed = claims(student)
    assert wrong(one, student, claimed) == {}
    assert {claim.name for claim in claimed.values()} == set(one.net.graph.by_name)


def test_a_network_grown_into_its_targets_class_returns_the_teachers_values_and_passes_them_through_new_layers() -> (
    None
):
    one = Teacher.of(test_transformers.vit(2), [(3, 32, 32)])
    target = Net2Net.from_module(test_transformers.vit(3, hidden=48, heads=6), torch.zeros(1, 3, 32, 32))
    student = one.net.grow(target.graph)
    claimed = claims(student)
    assert wrong(one, student, claimed) == {}
    assert {claim.name for claim in claimed.values()} == set(one.net.graph.by_name)
    through = [name for name, claim in claimed.items() if name not in one.net.graph.by_name and name.startswith("enc")]
    assert through


def test_a_claim_with_channels_in_another_order_is_seen() -> None:
    one = test_zoo.teacher("Dense")
    student = one.net.widen({"**": "2x"}, where_possible=True)
    claimed = claims(student)
    name = next(n for n, c in claimed.items() if any(c.axes))
    claimed[name] = Value(
        claimed[name].name, tuple(replace(s, position=s.position[::-1]) if s else None for s in claimed[name].axes)
    )
    assert set(wrong(one, student, claimed)) == {name}
