"""New channels: the teacher's numbers bit by bit where its channels are, zeros where readers meet new ones, else drawn.

Which entries are which is found here from the plan's positions, one entry after the other.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from channels.sketch import chain, conv, layer, linear, make, network, norm

from growth.teachers import Array, grown_tensors, random_tensors
from growth.test_apply import DTYPES, GRAPHS, later
from net2net_cli.architecture.graph import Graph
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.errors import UsageError
from net2net_cli.growth import apply
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.elements import place_in_teacher
from net2net_cli.growth.plan import SPLITS, Plan, TensorPlan
from net2net_cli.growth.random_pad import plan_random_pad
from net2net_cli.growth.requests import requests_from
from net2net_cli.growth.widen import WidenOptions, plan_widen

LSTM = make("LSTM", 3, 4, 1, True, True, 0.0, True)
MORE: dict[str, tuple[Graph, dict[str, str | int]]] = {
    **GRAPHS,
    "one channel": (chain((3, 4, 4), a=conv(3, 1), b=conv(1, 1), out=conv(1, 2)), {"a": 3, "b": 4}),
    "recurrent": (
        chain((5, 3), rnn=LSTM, out=linear(8, 2)),
        {"rnn": 7},
    ),
    "stream": (
        network(
            (3, 4, 4),
            layer("a", conv(3, 4), "x"),
            layer("b", conv(4, 5), "a"),
            layer("c", conv(5, 4), "b"),
            layer("add", make("add"), "a", "c"),
            layer("bn", norm(4), "add"),
            layer("out", conv(4, 2), "bn"),
        ),
        {"a": 7, "b": "2x"},
    ),
}


def fresh(name: str, seed: int = 0) -> Plan:
    graph, widths = MORE[name]
    return plan_widen(graph, requests_from(widths), WidenOptions(split="fresh", seed=seed))


Index = tuple[int, ...]


def origin(tensor: TensorPlan, index: Index) -> tuple[str, Index]:
    """Whether an entry is the `teacher`'s, `zero` or `drawn`; and the entry of the teacher's that a copy would be."""
    place, kind = list(index), "teacher"
    for one in tensor.axes:
        section = index[0] * len(one.position) // tensor.shape[0]
        g = one.position[section]
        at = index[one.axis]
        place[one.axis] = int(g[at])
        if later(g)[at]:
            kind = "drawn" if one.shares is None or kind == "drawn" else "zero"
    return kind, tuple(place)


def kinds(tensor: TensorPlan) -> dict[Index, tuple[str, Index]]:
    return {index: origin(tensor, index) for index in np.ndindex(tensor.shape)}


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_entry_is_the_teachers_or_zero_or_drawn(name: str, dtype: npt.DTypeLike) -> None:
    plan = fresh(name, seed=3)
    teacher = random_tensors(plan.teacher, dtype)
    student = grown_tensors(plan, teacher)
    counted = dict.fromkeys(("teacher", "zero", "drawn", "drawn by chance"), 0)
    for tensor in plan.tensors.values():
        assert tensor.source is not None
        source, made = teacher[tensor.source], student[tensor.name]
        assert made.dtype == source.dtype
        assert made.shape == tensor.shape
        for index, (kind, place) in kinds(tensor).items():
            counted[kind] += 1
            bits, theirs = made[index].tobytes(), source[place].tobytes()
            if kind == "drawn":
                counted["drawn by chance"] += bits == theirs
            else:
                assert bits == (theirs if kind == "teacher" else bytes(made.itemsize)), (tensor.name, index)
    assert min(counted["teacher"], counted["zero"], counted["drawn"]) > 0
    assert counted["drawn by chance"] <= counted["drawn"] / 100


@pytest.mark.parametrize("name", MORE)
def test_what_is_drawn_is_what_pytorch_gives_a_new_layer_of_that_width(name: str) -> None:
    """Weights and biases within ±1/√fan_in (`torch.nn.init.kaiming_uniform_(a=√5)`), norms at 1 and 0."""
    plan = fresh(name)
    student = grown_tensors(plan, random_tensors(plan.teacher, np.float64))
    fixed = {"running_var": 1.0, "running_mean": 0.0}
    for tensor_name, owner, key, _ in plan.student.tensors():
        tensor, made = plan.tensors[tensor_name], student[tensor_name]
        drawn = np.array([made[index] for index, (kind, _) in kinds(tensor).items() if kind == "drawn"])
        if not drawn.size:
            continue
        if owner.op.name == "BatchNorm2d":
            assert (drawn == fixed.get(key, 1.0 if key == "weight" else 0.0)).all()
            continue
        shapes = {k: slot.shape for k, slot in owner.op.tensors().items()}
        fan_in = getattr(owner.op, "hidden_size", None) or math.prod(shapes["weight"][1:])
        assert np.abs(drawn).max() <= 1 / math.sqrt(fan_in)
        if drawn.size > 12:
            assert np.abs(drawn).max() > 0.7 / math.sqrt(fan_in)
            assert drawn.min() < 0 < drawn.max()


def test_draws_depend_on_seed_and_name_and_not_on_the_teacher() -> None:
    graph, _ = MORE["convolutions"]
    one, again, other = (
        grown_tensors(fresh("convolutions", seed), random_tensors(graph, seed=teacher))
        for seed, teacher in ((1, 0), (1, 1), (2, 0))
    )
    plan = fresh("convolutions", 1)
    mask = np.vectorize(lambda *index: origin(plan.tensors["a.weight"], index)[0] == "drawn")(
        *np.indices(plan.tensors["a.weight"].shape)
    )
    assert np.array_equal(one["a.weight"][mask], again["a.weight"][mask])
    assert not np.array_equal(one["a.weight"][~mask], again["a.weight"][~mask])
    assert not np.array_equal(one["a.weight"], other["a.weight"])
    assert not np.array_equal(one["a.weight"][mask][:3], one["b.weight"].ravel()[-3:])


def test_new_channels_of_a_channel_differ_from_it_and_from_each_other() -> None:
    graph = chain((3, 4, 4), a=conv(3, 2, 3), out=conv(2, 2))
    plan = plan_widen(graph, requests_from({"a": 8}), WidenOptions(split="fresh"))
    weight = grown_tensors(plan, random_tensors(graph, np.float64))["a.weight"].reshape(8, -1)
    apart = np.abs(weight[:, None] - weight[None]).max(axis=2)
    assert (apart[~np.eye(8, dtype=bool)] > 0.05).all()


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("size", [1, 100, 500])
def test_the_size_of_the_blocks_changes_no_bit(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = fresh(name)
    teacher = random_tensors(plan.teacher)
    whole = grown_tensors(plan, teacher)
    monkeypatch.setattr(apply, "BLOCK_BYTES", size)
    grown = Grown(plan, MemoryTensors(teacher, {}))
    for tensor, expected in whole.items():
        assert b"".join(b.tobytes() for b in grown.blocks(tensor)) == expected.tobytes(), tensor


def test_not_a_number_in_the_teacher_does_not_reach_the_zeros() -> None:
    graph, _ = MORE["convolutions"]
    teacher = {n: np.full_like(t, np.nan) if t.dtype.kind == "f" else t for n, t in random_tensors(graph).items()}
    plan = fresh("convolutions")
    made = grown_tensors(plan, teacher)["out.weight"]
    for index, (kind, _) in kinds(plan.tensors["out.weight"]).items():
        assert np.isnan(made[index]) == (kind != "zero")


def embedding(padding: int | None) -> tuple[Plan, Array]:
    graph = chain((5,), a=make("Embedding", 6, 3, padding, False, False), out=linear(3, 2))
    plan = plan_widen(graph, requests_from({"a": 40}), WidenOptions(split="fresh"))
    return plan, grown_tensors(plan, random_tensors(graph, np.float64))["a.weight"]


def test_new_columns_of_an_embedding_are_normal_and_zero_in_the_row_of_padding() -> None:
    (plan, padded), (_, plain) = embedding(2), embedding(None)
    new = later(plan.tensors["a.weight"].axes[0].position[0])
    assert (padded[2, new] == 0).all()
    assert (padded[2, ~new] != 0).all()
    assert np.array_equal(np.delete(padded, 2, 0), np.delete(plain, 2, 0))
    assert abs(plain[:, new].std() - 1) < 0.1
    assert abs(plain[:, new].mean()) < 0.2


def test_a_parameter_of_the_users_own_keeps_the_number_of_the_channel_beside_it() -> None:
    """Its start is not known: at 0, as a scale often is, a channel that is read with zeros would never learn."""
    graph = network(
        (4,),
        layer("a", linear(4, 3), "x"),
        layer("scale", make("Parameter", (3,))),
        layer("b", make("mul"), "a", "scale"),
        layer("out", linear(3, 2), "b"),
    )
    plan = plan_widen(graph, requests_from({"a": "2x"}), WidenOptions(split="fresh"))
    teacher = random_tensors(graph)
    assert np.array_equal(grown_tensors(plan, teacher)["scale"], np.repeat(teacher["scale"], 2))


def test_noise_is_refused_where_there_are_no_copies() -> None:
    with pytest.raises(UsageError, match="`--noise` sets copies apart, and `--split fresh` makes none"):
        WidenOptions(split="fresh", noise=0.1)
    for split in SPLITS:
        WidenOptions(split=split)


@pytest.mark.parametrize("name", ["convolutions", "grouped", "transposed and grouped", "recurrent"])
def test_an_entry_is_followed_back_to_the_teacher_or_is_new(name: str) -> None:
    plan = fresh(name)
    for tensor in plan.tensors.values():
        for index, (kind, theirs) in kinds(tensor).items():
            place = place_in_teacher([plan], tensor.name, index)
            if kind == "teacher":
                assert (place.tensor, place.index) == (tensor.source, theirs)
            else:
                assert (place.tensor, str(place)) == (None, "new")


def test_entries_that_random_padding_draws_are_new_too() -> None:
    graph, widths = GRAPHS["convolutions"]
    plan = plan_random_pad(graph, requests_from(widths))
    g = plan.tensors["a.bias"].axes[0].position[0]
    places = [place_in_teacher([plan], "a.bias", (i,)).tensor for i in range(len(g))]
    assert places == [None if new else "a.bias" for new in later(g)]


def test_bfloat16_draws_are_those_of_float64_rounded_once() -> None:
    graph, _ = MORE["convolutions"]
    plan = fresh("convolutions")
    wide, half = (
        grown_tensors(plan, random_tensors(graph, dtype))["a.weight"] for dtype in (np.float64, ml_dtypes.bfloat16)
    )
    for index, (kind, _) in kinds(plan.tensors["a.weight"]).items():
        if kind == "drawn":
            assert half[index] == wide[index].astype(ml_dtypes.bfloat16)
