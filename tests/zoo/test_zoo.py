"""Every layer of every network of the zoo grows exactly, or is refused for the reason that is written beside it."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch

from net2net_cli import Net2Net
from net2net_cli.channels.groups import Groups
from net2net_cli.channels.labels import find_labels
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.plan import COPYING
from zoo.growing import TOLERANCE, WIDTHS, Teacher, cause, check_growth, error, new_layers, outputs
from zoo.networks import ENTRIES

every_network = pytest.mark.parametrize("name", ENTRIES)


@cache
def teacher(name: str) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Teacher.of(ENTRIES[name].make(), ENTRIES[name].shapes)


def shortened(refused: dict[str, dict[str, str]]) -> dict[str, str]:
    """`layer` where every width is refused for one reason, else `layer=width`."""
    found = {}
    for layer, reasons in refused.items():
        if len(reasons) == len(WIDTHS) and len(set(reasons.values())) == 1:
            found[layer] = next(iter(reasons.values()))
        else:
            found |= {f"{layer}={width}": why for width, why in reasons.items()}
    return found


@every_network
def test_the_layers_that_grow_together_are_those_that_must(name: str) -> None:
    one = teacher(name)
    groups = Groups(find_labels(one.net.graph))
    found = {layer: {m.layer for m in groups.members(layer)} for layer in one.weighted}
    assert {layer: members for layer, members in found.items() if members} == ENTRIES[name].coupled


@every_network
def test_every_layer_is_widened_exactly_or_refused_for_the_reason_that_is_known(name: str) -> None:
    one = teacher(name)
    outs = one.net.graph.output_values()
    refused: dict[str, dict[str, str]] = {}
    for layer in one.growable:
        for width in WIDTHS:
            for split in COPYING:
                try:
                    student = one.net.widen({layer: width}, split=split)
                except GrowthRefusedError as refusal:
                    refused.setdefault(layer, {})[width] = cause(one.net, refusal)
                else:
                    check_growth(one, student, [layer])
    for layer in outs & set(one.growable):
        assert all("is the network's output" in why for why in refused.pop(layer).values())
    assert shortened(refused) == ENTRIES[name].refused


@every_network
def test_every_layer_is_deepened_exactly_or_refused_for_the_reason_that_is_known(name: str) -> None:
    one = teacher(name)
    outs = one.net.graph.output_values()
    refused: dict[str, str] = {}
    for layer in one.growable:
        try:
            student = one.net.deepen([layer])
        except GrowthRefusedError as refusal:
            refused[layer] = cause(one.net, refusal)
        else:
            new = new_layers(one.net, student)
            assert new
            # A new batch norm is the identity for the running statistics alone.
            check_growth(one, student, new, train=not any(n.endswith("_bn") for n in new))
    for layer in outs & set(one.growable):
        assert "the network's output" in refused.pop(layer)
    assert refused == ENTRIES[name].not_deepened


@every_network
def test_a_student_is_widened_again_like_any_network(name: str) -> None:
    one = teacher(name)
    try:
        once = one.net.widen({"**": "1.5x"}, where_possible=True, seed=1)
    except GrowthRefusedError:
        once = one.net.widen({"**": "2x"}, where_possible=True, seed=1) if name != "Normalized" else one.net
    if once is one.net:
        with pytest.raises(GrowthRefusedError):
            one.net.widen({"**": "2x"}, where_possible=True)
        return
    twice = once.widen({"**": "2x"}, where_possible=True, seed=2, split="random")
    before, after = once.graph, twice.graph
    grown = [n for n in one.growable if before.by_name[n].op != after.by_name[n].op]
    assert grown
    check_growth(one, twice, grown)


@every_network
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_ownership_is_exact_in_every_stored_type(name: str, dtype: npt.DTypeLike) -> None:
    """Both networks are run in float64: what is stored is the teacher's own, whatever the type."""
    if name == "Normalized":
        pytest.skip("no layer of it can be widened")
    one = teacher(name)
    tensors = {n: one.net.tensor(n) for n, *_ in one.net.graph.tensors()}
    stored = {n: t if t.dtype.kind == "i" else t.astype(dtype) for n, t in tensors.items()}
    net = Net2Net.from_tensors(one.net.graph, stored)
    student = net.widen({"**": "2x"}, where_possible=True)
    assert all(student.tensor(n).dtype == t.dtype for n, t in stored.items())
    for mode in ("eval", "train"):
        expected, found = (outputs(n.to_module(dtype=torch.float64), one.inputs, mode) for n in (net, student))
        assert error(expected, found) <= TOLERANCE
