"""Student tensors are what the formulas of widening say, computed here the plain way, and block by block the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from channels.sketch import chain, conv, deconv, layer, linear, make, network, norm

from growth.teachers import Array, grown_tensors, random_tensors
from net2net_cli.architecture.graph import Graph
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.growth import apply
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.plan import COPYING, SPLITS, AxisMap, Fill, Operation, Plan, Split, TensorPlan
from net2net_cli.growth.requests import requests_from
from net2net_cli.growth.shares import generator, share_rows
from net2net_cli.growth.sharing import share_out
from net2net_cli.growth.widen import WidenOptions, plan_widen

FLATTEN = make("rearrange", "n c h w -> n (c h w)")

GRAPHS: dict[str, tuple[Graph, dict[str, str | int]]] = {
    "convolutions": (chain((3, 4, 4), a=conv(3, 5, 3), bn=norm(5), b=conv(5, 4, 3), out=conv(4, 2)), {"a": 8, "b": 7}),
    "flattened": (chain((3, 2, 2), a=conv(3, 4), flat=FLATTEN, b=linear(16, 6), out=linear(6, 2)), {"a": 7, "b": 9}),
    "grouped": (
        chain((4, 4, 4), a=conv(4, 6, 3, groups=2), b=conv(6, 9, groups=3), out=conv(9, 2)),
        {"a": 12, "b": 12},
    ),
    "depthwise with multiplier": (
        chain((3, 4, 4), a=conv(3, 3), deep=conv(3, 6, 3, groups=3), out=conv(6, 2)),
        {"a": 5},
    ),
    "transposed": (chain((3, 4, 4), a=conv(3, 4), up=deconv(4, 5), out=conv(5, 2)), {"a": 7, "up": 8}),
    "transposed and grouped": (
        chain((3, 4, 4), a=conv(3, 4), up=deconv(4, 6, groups=2), out=conv(6, 2)),
        {"a": 8, "up": 8},
    ),
    "transposed and depthwise": (
        chain((3, 4, 4), a=conv(3, 4), up=deconv(4, 8, groups=4), out=conv(8, 2)),
        {"a": 6},
    ),
    "joined": (
        network(
            (3, 4, 4),
            layer("a", conv(3, 3), "x"),
            layer("b", conv(3, 4), "x"),
            layer("cat", make("cat", 1), "a", "b", "a"),
            layer("out", conv(10, 3), "cat"),
        ),
        {"a": 5, "b": 6},
    ),
}


def plainly(tensor: TensorPlan, source: Array, seed: int) -> Array:
    """`W[g]` along each axis, section by section, then times the shares: the whole tensor at once, in float64."""
    maps = {m.axis: m for m in tensor.axes}
    reading = next((m for m in tensor.axes if m.shares is not None), None)
    wide = source.astype(np.float64)
    if 0 in maps:
        wide = wide[maps[0].position[0]]
    if 1 in maps:
        sections = maps[1].position
        rows = np.split(np.arange(len(wide)), len(sections))
        wide = np.concatenate([wide[r][:, g] for r, g in zip(rows, sections, strict=True)])
    for axis, one in maps.items():
        if axis > 1:
            wide = np.take(wide, one.position[0], axis=axis)
    if reading is not None and reading.shares is not None:
        split, rng = reading.shares.split, generator(seed, tensor.name, "shares")
        rows_axis = 1 - reading.axis
        rows_each = wide.shape[rows_axis] // len(reading.position)
        shares = np.concatenate(
            [s for g in reading.position for s in share_rows(split, g, rows_each, rows_each, rng)]
        ).astype(np.float64)
        shares = shares if reading.axis == 1 else shares.T
        wide = wide * shares.reshape(shares.shape + (1,) * (wide.ndim - 2))
    return wide


def widened(name: str, split: Split, seed: int = 0) -> Plan:
    graph, widths = GRAPHS[name]
    return plan_widen(graph, requests_from(widths), WidenOptions(split=split, seed=seed))


DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("split", COPYING)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_student_tensor_is_its_formula(name: str, split: Split, dtype: npt.DTypeLike) -> None:
    """To the bit, but where shares are rounded: there copies may take units of the teacher's number from each other."""
    plan = widened(name, split, seed=3)
    teacher = random_tensors(plan.teacher, dtype)
    student = grown_tensors(plan, teacher)
    for tensor in plan.tensors.values():
        assert tensor.source is not None
        source = teacher[tensor.source]
        expected = plainly(tensor, source, 3)
        assert student[tensor.name].dtype == source.dtype
        shared = any(m.shares is not None and m.shares.split != "ownership" for m in tensor.axes)
        off = np.abs(student[tensor.name].astype(np.float64) - expected).max(initial=0)
        if shared:
            copies = max(np.unique(g, return_counts=True)[1].max() for m in tensor.axes for g in m.position)
            unit = 2 * UNIT_ROUNDOFF[source.dtype.name] * np.abs(source.astype(np.float64)).max(initial=0)
            assert off <= copies * unit, tensor.name
        else:
            assert off == 0, tensor.name


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("split", COPYING)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_stored_for_the_copies_of_a_channel_sums_to_the_teachers_number(
    name: str, split: Split, dtype: npt.DTypeLike
) -> None:
    plan = widened(name, split, seed=5)
    teacher = random_tensors(plan.teacher, dtype)
    student = grown_tensors(plan, teacher)
    for tensor in plan.tensors.values():
        reading = next((m for m in tensor.axes if m.shares is not None), None)
        if reading is None:
            continue
        assert tensor.source is not None
        along = replace(tensor, axes=tuple(replace(m, shares=None) for m in tensor.axes))
        wide = plainly(along, teacher[tensor.source], 0)  # the teacher's numbers, one for each copy
        made = student[tensor.name].astype(np.float64)
        parts = len(reading.position)
        for section, (ours, theirs) in enumerate(zip(np.split(made, parts), np.split(wide, parts), strict=True)):
            ours, theirs = (np.moveaxis(a, reading.axis, 0) for a in (ours, theirs))
            for position in set(reading.position[section].tolist()):
                at = np.flatnonzero(reading.position[section] == position)
                assert np.array_equal(ours[at].sum(axis=0), theirs[at[0]]), tensor.name


def test_halves_are_equal_to_the_bit() -> None:
    plan = widened("convolutions", "equal")
    doubled = plan_widen(plan.teacher, requests_from({"a": "2x"}), WidenOptions(split="equal"))
    weight = grown_tensors(doubled, random_tensors(doubled.teacher, np.float32))["b.weight"]
    assert np.array_equal(weight[:, 0::2], weight[:, 1::2])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("copies", [2, 3, 5])
def test_numbers_at_the_borders_of_a_type_are_shared_out_without_loss(dtype: npt.DTypeLike, copies: int) -> None:
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    numbers = [0.0, 1.0, -1.0, 3.0, float(info.max), float(info.tiny), float(info.smallest_subnormal), -7.5]
    block = np.repeat(np.array(numbers, dtype=dtype)[None], copies, axis=1)
    position = np.repeat(np.arange(len(numbers)), copies)
    rng = np.random.default_rng(0)
    for split in ("random", "equal"):
        (shares,) = share_rows(split, position, 1, 1, rng)
        made = share_out(block, shares.astype(np.float64), position).astype(np.float64)
        assert made.reshape(-1, copies).sum(axis=1).tolist() == [float(n) for n in np.array(numbers, dtype=dtype)]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [1, 100, 500])
def test_the_size_of_the_blocks_changes_no_bit(
    name: str, split: Split, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = widened(name, split)
    teacher = random_tensors(plan.teacher)
    whole = grown_tensors(plan, teacher)
    monkeypatch.setattr(apply, "BLOCK_BYTES", size)
    grown = Grown(plan, MemoryTensors(teacher, {}))
    for tensor, expected in whole.items():
        blocks = list(grown.blocks(tensor))
        assert all(b.flags.c_contiguous for b in blocks)
        assert b"".join(b.tobytes() for b in blocks) == expected.tobytes(), tensor


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("split", COPYING)
def test_summed_over_the_copies_a_readers_columns_are_the_teachers(name: str, split: Split) -> None:
    """The condition of widening, checked on the numbers alone: every reader's columns add up again."""
    plan = widened(name, split)
    teacher = random_tensors(plan.teacher, np.float64)
    student = grown_tensors(plan, teacher)
    for tensor in plan.tensors.values():
        reading = next((m for m in tensor.axes if m.shares is not None), None)
        if reading is None or reading.axis != 1 or tensor.source is None:
            continue
        own = next((m.position[0] for m in tensor.axes if m.axis == 0), np.arange(tensor.shape[0]))
        wide, narrow = student[tensor.name], teacher[tensor.source]
        rows = np.split(np.arange(len(wide)), len(reading.position))
        for r, g in zip(rows, reading.position, strict=True):
            for i in range(narrow.shape[1]):
                summed = wide[r][:, g == i].sum(axis=1)
                assert np.allclose(summed, narrow[own[r]][:, i], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_that_ownership_keeps_are_the_teachers_bit_by_bit(name: str, dtype: npt.DTypeLike) -> None:
    plan = widened(name, "ownership")
    teacher = random_tensors(plan.teacher, dtype)
    student = grown_tensors(plan, teacher)
    for tensor in plan.tensors.values():
        assert tensor.source is not None
        source, made = teacher[tensor.source], student[tensor.name]
        assert made.dtype == source.dtype
        known = {v.tobytes() for v in source.reshape(-1)} | {np.zeros((), source.dtype).tobytes()}
        assert {v.tobytes() for v in made.reshape(-1)} <= known, tensor.name


def test_the_teachers_arrays_are_never_written_to() -> None:
    for name in GRAPHS:
        for split in SPLITS:
            plan = widened(name, split)
            teacher = random_tensors(plan.teacher)
            before = {n: t.copy() for n, t in teacher.items()}
            for tensor in teacher.values():
                tensor.setflags(write=False)
            grown_tensors(plan, teacher)
            assert all(np.array_equal(t, before[n]) for n, t in teacher.items())


def test_a_seed_repeats_and_another_one_differs() -> None:
    plans = [widened("convolutions", "ownership", seed) for seed in (1, 1, 2)]
    first, again, other = (grown_tensors(p, random_tensors(p.teacher)) for p in plans)
    assert all(np.array_equal(t, again[n]) for n, t in first.items())
    assert any(not np.array_equal(t, other[n]) for n, t in first.items())


def test_counters_pass_through() -> None:
    plan = widened("convolutions", "ownership")
    student = grown_tensors(plan, random_tensors(plan.teacher))
    assert student["bn.num_batches_tracked"].dtype == np.int64
    assert int(student["bn.num_batches_tracked"]) == 7


def later(position: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which slices stand at the second or a later copy."""
    seen: set[int] = set()
    found = []
    for p in position.tolist():
        found.append(p in seen)
        seen.add(p)
    return np.array(found)


def new_entries(tensor: TensorPlan) -> npt.NDArray[np.bool_]:
    """Entries that are at a later copy on some axis; sections each count for themselves."""
    mask = np.zeros(tensor.shape, dtype=bool)
    for one in tensor.axes:
        rows = np.split(np.arange(tensor.shape[0]), len(one.position))
        for r, g in zip(rows, one.position, strict=True):
            shape = [1] * len(tensor.shape)
            shape[one.axis] = -1
            if one.axis == 0:
                mask |= later(g).reshape(shape)
            else:
                mask[r] |= later(g).reshape(shape)
    return mask


@pytest.mark.parametrize("name", GRAPHS)
def test_noise_touches_later_copies_alone(name: str) -> None:
    graph, widths = GRAPHS[name]
    plain = plan_widen(graph, requests_from(widths), WidenOptions(split="equal"))
    noisy = plan_widen(graph, requests_from(widths), WidenOptions(split="equal", noise=0.1))
    teacher = random_tensors(graph, np.float64)
    quiet, loud = grown_tensors(plain, teacher), grown_tensors(noisy, teacher)
    for tensor in plain.tensors.values():
        changed = quiet[tensor.name] != loud[tensor.name]
        expected = new_entries(tensor) if len(tensor.shape) > 1 else np.zeros(tensor.shape, dtype=bool)
        assert np.array_equal(changed, expected), tensor.name
    assert not noisy.operation.exact


def test_noise_is_measured_in_the_tensors_own_root_mean_square() -> None:
    graph = chain((64, 1, 1), a=conv(64, 40), out=conv(40, 2))
    options = WidenOptions(split="equal", noise=0.05)
    teacher = {n: 3 * t for n, t in random_tensors(graph, np.float64).items()}
    noisy = grown_tensors(plan_widen(graph, requests_from({"a": "2x"}), options), teacher)["a.weight"]
    plain = np.repeat(teacher["a.weight"], 2, axis=0)
    added = (noisy - plain)[1::2]
    expected = 0.05 * float(np.sqrt((teacher["a.weight"] ** 2).mean()))
    assert abs(added.std() / expected - 1) < 0.1
    assert abs(added.mean()) < expected / 5


def from_nothing(fill: Fill, shape: tuple[int, ...]) -> Array:
    """A tensor that a constructor makes, as `apply` makes it."""
    graph = chain((3, 4, 4), a=conv(3, 2))
    tensors = {"new": TensorPlan("new", shape, None, fill=fill, dtype="F64")}
    plan = Plan(graph, graph, tensors, Operation("test", {}, 0, exact=True))
    return Grown(plan, MemoryTensors(random_tensors(graph), {})).read("new")


@pytest.mark.parametrize("size", [1, 64, 1 << 20])
def test_constructors_make_what_they_say(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "BLOCK_BYTES", size)
    centred = np.zeros((4, 4, 3, 3))
    centred[range(4), range(4), 1, 1] = 1
    assert np.array_equal(from_nothing(Fill("dirac", 1.0), (4, 4, 3, 3)), centred)
    assert np.array_equal(from_nothing(Fill("dirac", 1.0), (4, 4)), np.eye(4))
    two = np.concatenate([np.eye(3), -np.eye(3)])
    assert np.array_equal(from_nothing(Fill("split_pair", 0.5), (6, 3)), 0.5 * two)
    assert np.array_equal(from_nothing(Fill("join_pair", 2.0), (3, 6)), 2 * two.T)
    assert np.array_equal(from_nothing(Fill("constant", 0.25), (3,)), np.full(3, 0.25))
    vector = np.array([1.5, -2.0, 3.0])
    assert np.array_equal(from_nothing(Fill("vector", vector=vector), (3,)), vector)


def test_a_grouped_dirac_is_the_identity_inside_each_group() -> None:
    kernel = from_nothing(Fill("dirac", 1.0), (6, 2, 3))
    expected = np.zeros((6, 2, 3))
    for group in range(3):
        for i in range(2):
            expected[2 * group + i, i, 1] = 1
    assert np.array_equal(kernel, expected)


def test_drawn_constructors_have_the_spread_they_say() -> None:
    uniform = from_nothing(Fill("uniform", 0.3), (100, 100))
    assert np.abs(uniform).max() <= 0.3
    assert abs(uniform.std() - 0.3 / np.sqrt(3)) < 0.01
    normal = from_nothing(Fill("normal", 0.3), (100, 100))
    assert abs(normal.std() - 0.3) < 0.01


def test_a_factor_scales_its_axis_after_gathering() -> None:
    graph = chain((3, 4, 4), a=conv(3, 2, bias=False))
    teacher = random_tensors(graph, np.float64)
    factor = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    position = np.tile(np.arange(3), 2)
    both = AxisMap(1, position[None], factor=factor)
    plan = Plan(
        graph,
        graph,
        {"a.weight": TensorPlan("a.weight", (2, 6, 1, 1), "a.weight", (both,))},
        Operation("test", {}, 0, exact=True),
    )
    found = grown_tensors(plan, teacher)["a.weight"]
    assert np.array_equal(found, np.concatenate([teacher["a.weight"], -teacher["a.weight"]], axis=1))
