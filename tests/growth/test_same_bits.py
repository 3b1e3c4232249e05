"""Tensors compared bit by bit: whatever the blocks and however many threads, each difference is found once."""

from __future__ import annotations

import threading
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from channels.sketch import chain, conv, linear, make, norm

from growth.teachers import grown_tensors, random_tensors
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.growth import same_bits
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.elements import Place, place_in_teacher
from net2net_cli.growth.plan import AxisMap, Operation, Plan, TensorPlan
from net2net_cli.growth.requests import requests_from
from net2net_cli.growth.same_bits import BitDifference, different_tensors
from net2net_cli.growth.widen import WidenOptions, plan_widen

Array = npt.NDArray[Any]
GRAPH = chain(
    (3, 2, 2),
    a=conv(3, 5, 3),
    bn=norm(5),
    b=conv(5, 4, 3),
    flat=make("rearrange", "n c h w -> n (c h w)"),
    out=linear(16, 2),
)


def compared(expected: dict[str, Array], found: dict[str, Array]) -> list[BitDifference]:
    return different_tensors(list(found), MemoryTensors(expected, {}), MemoryTensors(found, {}))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_every_changed_element_is_counted_once(size: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_bits, "BLOCK_BYTES", size)
    monkeypatch.setattr(same_bits, "MOST_WORKERS", workers)
    monkeypatch.setattr(same_bits, "_processors", lambda: workers)
    teacher = random_tensors(GRAPH)
    plan = plan_widen(GRAPH, requests_from({"a": 8, "b": 7}), WidenOptions("random"))
    student = {name: tensor.copy() for name, tensor in grown_tensors(plan, teacher).items()}
    rng = np.random.default_rng(0)
    changed = {name: sorted(rng.choice(t.size, min(5, t.size), replace=False)) for name, t in student.items()}
    for name, places in changed.items():
        bits = student[name].reshape(-1).view(np.uint8).reshape(student[name].size, -1)
        bits[places, rng.integers(bits.shape[1])] ^= 1
    found = different_tensors(list(student), Grown(plan, MemoryTensors(teacher, {})), MemoryTensors(student, {}))
    assert [d.name for d in found] == list(student)
    for difference in found:
        name, shape = difference.name, student[difference.name].shape
        assert difference.count == len(changed[name])
        assert difference.elements == student[name].size
        assert difference.index == np.unravel_index(changed[name][0], shape)
        assert difference.found.value == student[name][difference.index]


@pytest.mark.parametrize("n", [1, 3, 7, 8, 9, 17])
def test_bytes_behind_the_last_whole_word_count(n: int) -> None:
    values = np.arange(n, dtype=np.uint8)
    for place in range(n):
        other = values.copy()
        other[place] ^= 0x80
        (difference,) = compared({"x": values}, {"x": other})
        assert difference.index == (place,)
        assert (difference.expected.bits, difference.found.bits) == (f"0x{place:02x}", f"0x{place ^ 0x80:02x}")


def test_equal_numbers_with_other_bits_differ() -> None:
    assert compared({"x": np.array([0.0])}, {"x": np.array([-0.0])})
    nan = np.array([0x7FC00000, 0x7FC00001], dtype=np.uint32).view(np.float32)
    assert compared({"x": nan[:1]}, {"x": nan[1:]})
    assert not compared({"x": nan[:1]}, {"x": nan[:1].copy()})


def test_bits_are_shown_as_people_write_them() -> None:
    """1.0 is 0x3f800000 in float32 and 0x3f80 in bfloat16."""
    for dtype, bits in ((np.float32, "0x3f800000"), (ml_dtypes.bfloat16, "0x3f80"), (np.int64, f"0x{1:016x}")):
        (difference,) = compared({"x": np.ones(2, dtype)}, {"x": np.array([1, 0], dtype)})
        assert difference.index == (1,)
        assert (difference.expected.value, difference.expected.bits) == (1.0, bits)
        assert difference.found.value == 0.0


def test_tensors_without_axes_and_without_elements_are_compared() -> None:
    one, two, none = np.array(1.0), np.array(2.0), np.zeros((0, 3))
    assert not compared({"x": one, "y": none}, {"x": one.copy(), "y": none.copy()})
    (difference,) = compared({"x": one}, {"x": two})
    assert difference.index == ()


class Broken(MemoryTensors):
    """Tensors that one thread cannot read: the caller's own, or another, for which the caller waits."""

    def __init__(self, tensors: dict[str, Array], *, own: bool) -> None:
        super().__init__(tensors, {})
        self.caller, self.own, self.begun = threading.get_ident(), own, threading.Event()

    def read(self, name: str) -> Array:
        if (threading.get_ident() == self.caller) == self.own:
            self.begun.set()
            raise OSError("gone")
        assert self.begun.wait(60)
        return super().read(name)


@pytest.mark.parametrize("own", [True, False])
def test_what_goes_wrong_in_any_thread_reaches_the_caller(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_bits, "_processors", lambda: 2)
    values = {name: np.zeros(4) for name in "abcdefgh"}
    with pytest.raises(OSError, match="gone"):
        different_tensors(list(values), MemoryTensors(values, {}), Broken(values, own=own))


def plan_of(tensor: TensorPlan) -> Plan:
    return Plan(GRAPH, GRAPH, {tensor.name: tensor}, Operation("test", {}, 0, exact=True))


def test_a_place_is_followed_through_sections_and_means() -> None:
    """Two groups of two rows: columns of the second group have positions of their own."""
    sections = AxisMap(1, np.array([[0, 0, 1], [1, -1, 0]]))
    rows = AxisMap(0, np.array([[0, 1, 1, 0]]))
    plan = plan_of(TensorPlan("w", (4, 3), "v", (rows, sections)))
    assert place_in_teacher([plan], "w", (1, 2)) == Place("v", (1, 1))
    assert place_in_teacher([plan], "w", (2, 0)) == Place("v", (1, 1))
    assert place_in_teacher([plan], "w", (3, 1)) == Place("v", (0, None))
    assert str(Place("v", (0, None))) == "`v`[0, mean]"
    before = plan_of(TensorPlan("v", (2, 2), "u", (AxisMap(0, np.array([[5, 6]])),)))
    assert place_in_teacher([before, plan], "w", (2, 0)) == Place("u", (6, 1))
    nothing = plan_of(TensorPlan("v", (2, 2), None))
    assert place_in_teacher([nothing, plan], "w", (2, 0)) == Place(None, ())
