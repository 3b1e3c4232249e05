"""The proof on files finds one changed bit anywhere, says where it should come from, and claims no more than holds.

Students are damaged here by hand: places in the file come from its own header, and expected numbers from the teacher.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from channels.sketch import conv, layer, linear, make, network, norm
from growth.teachers import random_tensors
from safetensors import safe_open

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph, Layer, NetworkInput, Tie
from net2net_cli.architecture.ops import Input
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import InputError, NotProvedError
from net2net_cli.growth.batch_norm import Moments, is_identity, unit_gain
from net2net_cli.growth.deepen import plan_deepen
from net2net_cli.proof import Proof, prove


def residual() -> Graph:
    """conv1 and conv3 are coupled by the addition, flat has 4 pixels a channel, fc is the output."""
    return network(
        (3, 2, 2),
        layer("conv1", conv(3, 4, 3), "x"),
        layer("bn1", norm(4), "conv1"),
        layer("relu1", make("ReLU"), "bn1"),
        layer("block.conv2", conv(4, 6, 3), "relu1"),
        layer("block.bn2", norm(6), "block.conv2"),
        layer("block.relu2", make("ReLU"), "block.bn2"),
        layer("block.conv3", conv(6, 4, 1), "block.relu2"),
        layer("block.add", make("add"), "block.conv3", "relu1"),
        layer("flat", make("rearrange", "n c h w -> n (c h w)"), "block.add"),
        layer("hidden", linear(16, 5), "flat"),
        layer("relu3", make("ReLU"), "hidden"),
        layer("fc", linear(5, 3), "relu3"),
    )


def saved(model: Net2Net, path: Path) -> Net2Net:
    model.save(path, force=True)
    return Net2Net.load(path, allow_nan=True)


def teacher_of(graph: Graph, folder: Path, dtype: npt.DTypeLike = np.float32) -> Net2Net:
    return saved(Net2Net.from_tensors(graph, random_tensors(graph, dtype)), folder / "teacher.safetensors")


@pytest.fixture
def teacher(tmp_path: Path) -> Net2Net:
    return teacher_of(residual(), tmp_path)


@pytest.fixture
def student(teacher: Net2Net, tmp_path: Path) -> Net2Net:
    return saved(teacher.widen({"conv1": 7, "block.conv2": 8, "hidden": 6}), tmp_path / "student.safetensors")


def path_of(model: Net2Net) -> Path:
    assert model.file is not None
    return model.file.path


def layout(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begin."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), 8 + length


def with_flipped_bit(model: Net2Net, name: str, byte: int, bit: int = 0) -> Net2Net:
    """A copy beside it, in which one bit of a tensor is another."""
    path = path_of(model)
    header, start = layout(path)
    raw = bytearray(path.read_bytes())
    raw[start + header[name]["data_offsets"][0] + byte] ^= 1 << bit
    other = path.with_name("changed.safetensors")
    other.write_bytes(raw)
    return Net2Net.load(other, allow_nan=True)


def with_tensors(model: Net2Net, change: Mapping[str, npt.NDArray[Any]]) -> Net2Net:
    """A copy beside it with other tensors, written by the safetensors library."""
    path = path_of(model)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    tensors = {**safetensors.numpy.load_file(path), **change}
    other = path.with_name("changed.safetensors")
    safetensors.numpy.save_file(tensors, other, metadata)
    return Net2Net.load(other, allow_nan=True)


def refusal(proof: Proof) -> NotProvedError:
    assert not proof.passed
    with pytest.raises(NotProvedError) as raised:
        proof.raise_if_different()
    assert raised.value.hint
    return raised.value


WAYS: dict[str, Callable[[Net2Net], Net2Net]] = {
    "wider": lambda t: t.widen({"conv1": 7, "hidden": 6}),
    "random shares": lambda t: t.widen({"block.conv2": 9, "conv1": "2x"}, split="random", seed=3),
    "equal shares": lambda t: t.widen({"block.conv2": 9, "conv1": "2x"}, split="equal", seed=3),
    "new channels": lambda t: t.widen({"block.conv2": 9, "conv1": "2x"}, split="fresh", seed=3),
    "new channels, with copies": lambda t: t.widen({"conv1": 7, "hidden": 6}, split="fresh").widen({"conv1": "2x"}),
    "deeper": lambda t: t.deepen(["conv1", "hidden", "block"]),
    "deeper with the plain identity": lambda t: t.deepen(["block.conv2"], kernel=1, count=2, batch_norm="identity"),
    "wider, deeper, wider": lambda t: (
        t.widen({"conv1": 7}).deepen(["block", "hidden"]).widen({"hidden": 9, "conv1": 8})
    ),
    "like a target": lambda t: t.grow(t.widen({"conv1": 8}).deepen(["block"]).graph).widen({"hidden": 7}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_grown_is_proved_in_every_stored_type(way: str, dtype: npt.DTypeLike, tmp_path: Path) -> None:
    teacher = teacher_of(residual(), tmp_path, dtype)
    student = saved(WAYS[way](teacher), tmp_path / "student.safetensors")
    proof = student.prove(teacher)
    proof.raise_if_different()
    stored, _ = layout(path_of(student))
    stored.pop("__metadata__")
    assert proof.passed
    assert proof.tensors == len(stored)
    assert proof.bytes == sum(end - start for start, end in (entry["data_offsets"] for entry in stored.values()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_one_flipped_bit_is_found_in_whichever_tensor_it_is(dtype: npt.DTypeLike, tmp_path: Path) -> None:
    """Weights, biases, statistics, counters, shares at zero, identities: the last bit of the last byte of each."""
    teacher = teacher_of(residual(), tmp_path, dtype)
    grown = teacher.widen({"conv1": 7, "hidden": 6}).deepen(["conv1"])
    student = saved(grown, tmp_path / "student.safetensors")
    header, _ = layout(path_of(student))
    header.pop("__metadata__")
    assert {"conv1.weight", "bn1.running_var", "bn1.num_batches_tracked", "conv1_deeper1_bn.running_mean"} <= set(
        header
    )
    for name, entry in header.items():
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        found = with_flipped_bit(student, name, size - 1, bit=7).prove(teacher)
        (difference,) = found.differences
        assert (difference.bits.name, difference.bits.count) == (name, 1)
        assert difference.bits.index == tuple(n - 1 for n in entry["shape"])
        changed = int(difference.bits.found.bits, 16) ^ int(difference.bits.expected.bits, 16)
        assert changed == 1 << (8 * size // max(1, int(np.prod(entry["shape"]))) - 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_a_changed_bit_of_what_was_drawn_is_found_and_told_to_be_new(dtype: npt.DTypeLike, tmp_path: Path) -> None:
    """Nothing computed with it: only the draws, made again, can tell."""
    teacher = teacher_of(residual(), tmp_path, dtype)
    student = saved(teacher.widen({"conv1": "2x"}, split="fresh"), tmp_path / "student.safetensors")
    weight = student.tensor("conv1.weight")
    row = weight.size // len(weight) * weight.itemsize
    changed = with_flipped_bit(student, "conv1.weight", row, bit=0)  # row 1 is new, row 0 the teacher's
    (difference,) = changed.prove(teacher).differences
    assert difference.bits.index == (1, *(0,) * (weight.ndim - 1))
    assert str(difference.place) == "new"
    assert int(difference.bits.found.bits, 16) ^ int(difference.bits.expected.bits, 16) == 1
    assert difference.bits.elements == weight.size
    assert changed.verify(teacher).passed


def test_any_bit_of_the_file_s_data_counts(teacher: Net2Net, student: Net2Net) -> None:
    rng = np.random.default_rng(0)
    header, _ = layout(path_of(student))
    header.pop("__metadata__")
    for name in rng.choice(sorted(header), 30):
        first, last = header[name]["data_offsets"]
        changed = with_flipped_bit(student, name, int(rng.integers(last - first)), int(rng.integers(8)))
        assert [d.bits.name for d in changed.prove(teacher).differences] == [name]


def test_the_last_bit_of_the_file_is_looked_at(teacher: Net2Net, student: Net2Net) -> None:
    path = path_of(student)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert refusal(Net2Net.load(path, allow_nan=True).prove(teacher))


def test_the_bits_of_nan_are_compared(tmp_path: Path) -> None:
    graph = residual()
    tensors = random_tensors(graph)
    tensors["conv1.bias"].view(np.uint32)[:] = 0x7FC00001
    teacher = saved(Net2Net.from_tensors(graph, tensors), tmp_path / "teacher.safetensors")
    student = saved(teacher.widen({"conv1": 7}), tmp_path / "student.safetensors")
    assert student.prove(teacher).passed
    (difference,) = with_flipped_bit(student, "conv1.bias", 0, bit=1).prove(teacher).differences
    assert (difference.bits.expected.bits, difference.bits.found.bits) == ("0x7fc00001", "0x7fc00003")


def test_a_bit_that_makes_an_infinity_is_a_difference_and_no_unreadable_file(
    teacher: Net2Net, student: Net2Net
) -> None:
    weight = student.tensor("fc.weight").copy()
    weight[0, 0] = np.inf
    strict = Net2Net.load(path_of(with_tensors(student, {"fc.weight": weight})))  # no reading of NaN
    (difference,) = strict.prove(Net2Net.load(path_of(teacher))).differences
    assert difference.bits.found.value == np.inf


def test_a_difference_names_the_teacher_s_element(teacher: Net2Net, student: Net2Net) -> None:
    """Of a tensor that is only gathered, the expected number is the one that the teacher has there."""
    header, _ = layout(path_of(student))
    for name in ("conv1.weight", "bn1.running_var", "conv1.bias"):
        for flat in range(0, int(np.prod(header[name]["shape"])), 5):
            (difference,) = with_flipped_bit(student, name, 4 * flat).prove(teacher).differences
            assert difference.bits.index == np.unravel_index(flat, header[name]["shape"])
            assert difference.place.tensor == name
            there = teacher.tensor(name)[difference.place.index]
            assert difference.bits.expected.value == there
            assert f"`{name}`[" in str(difference)
            assert " of the teacher" in str(difference)


def test_a_difference_is_followed_through_all_growths(teacher: Net2Net, tmp_path: Path) -> None:
    grown = teacher.widen({"conv1": 7}).deepen(["block"]).widen({"conv1": 10})
    student = saved(grown, tmp_path / "student.safetensors")
    (difference,) = with_flipped_bit(student, "conv1.weight", 4 * 27 * 9).prove(teacher).differences
    assert difference.bits.index == (9, 0, 0, 0)
    assert difference.place.tensor == "conv1.weight"
    assert difference.bits.expected.value == teacher.tensor("conv1.weight")[difference.place.index]


def test_a_new_tensor_comes_from_nowhere(teacher: Net2Net, tmp_path: Path) -> None:
    student = saved(teacher.deepen(["hidden"]), tmp_path / "student.safetensors")
    (difference,) = with_flipped_bit(student, "hidden_deeper1.weight", 0).prove(teacher).differences
    assert difference.place.tensor is None
    assert difference.bits.expected.value == 1.0  # the identity's first element
    assert "as it is new" in str(difference)


def test_swapped_channels_are_no_growth_of_the_teacher(teacher: Net2Net, student: Net2Net) -> None:
    """Even where the network computes the same: it is not what the lineage says."""
    order = np.r_[1, 0, 2:8]
    norms = {f"block.bn2.{name}": 0 for name in ("weight", "bias", "running_mean", "running_var")}
    names = {"block.conv2.weight": 0, "block.conv2.bias": 0, **norms, "block.conv3.weight": 1}
    swapped = {n: np.take(student.tensor(n), order, axis=axis) for n, axis in names.items()}
    found = with_tensors(student, swapped).prove(teacher)
    assert {d.bits.name for d in found.differences} == set(names)
    assert not found.problems


def test_permuted_outputs_are_found(teacher: Net2Net, student: Net2Net) -> None:
    found = with_tensors(student, {"fc.bias": student.tensor("fc.bias")[::-1].copy()}).prove(teacher)
    assert [(d.bits.name, d.bits.count) for d in found.differences] == [("fc.bias", 2)]  # the middle one stays


def test_a_trained_student_is_told_from_a_grown_one(teacher: Net2Net, student: Net2Net) -> None:
    trained = {name: student.tensor(name) + np.float32(0.1) for name in ("fc.weight", "fc.bias", "conv1.weight")}
    said = refusal(with_tensors(student, trained).prove(teacher))
    assert "and 2 more tensors" in said.message
    assert said.hint is not None
    assert "training" in said.hint


def test_another_spec_is_found_though_all_tensors_are_right(teacher: Net2Net, student: Net2Net) -> None:
    path = path_of(student)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    for old, new, said in (
        ('"eps": 1e-05', '"eps": 0.001', "`bn1` has `eps` 0.001 in the student's spec, and `eps` 1e-05 by its growth"),
        ('"inputs": ["block.conv3", "relu1"]', '"inputs": ["relu1", "block.conv3"]', "`block.add` stands or reads"),
        ('"outputs": {"out": "fc"}', '"outputs": {"result": "fc"}', "`outputs` of the student's spec"),
    ):
        spec = metadata["net2net.spec"].replace(old, new)
        if "result" in new:
            spec = spec.replace('"eval": "out", "train": "out"', '"eval": "result", "train": "result"')
        assert spec != metadata["net2net.spec"]
        other = path.with_name("changed.safetensors")
        safetensors.numpy.save_file(safetensors.numpy.load_file(path), other, {**metadata, "net2net.spec": spec})
        found = Net2Net.load(other).prove(teacher)
        assert said in refusal(found).message
        assert not found.differences


def test_a_sidecar_that_says_something_else_is_found(teacher: Net2Net, student: Net2Net) -> None:
    sidecar = path_of(student).with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"eps": 1e-05', '"eps": 0.001'))
    assert "student.json` differs from the spec" in refusal(Net2Net.load(path_of(student)).prove(teacher)).message
    sidecar.unlink()  # the spec inside is enough
    assert Net2Net.load(path_of(student)).prove(teacher).passed


def test_another_stored_type_is_found(teacher: Net2Net, student: Net2Net) -> None:
    found = with_tensors(student, {"fc.bias": student.tensor("fc.bias").astype(np.float64)}).prove(teacher)
    assert "`fc.bias` is stored as F64 [3], and its growth gives F32 [3]" in refusal(found).message


def test_another_teacher_is_named_by_its_digest(teacher: Net2Net, student: Net2Net) -> None:
    other = with_flipped_bit(teacher, "fc.bias", 0)
    with pytest.raises(InputError, match="not grown from this teacher") as refused:
        student.prove(other)
    assert other.origin.sha256()[:12] in refused.value.message


def test_another_network_as_teacher_is_told_by_its_digest_too(student: Net2Net, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = teacher_of(network((3, 2, 2), layer("only", conv(3, 2), "x")), tmp_path / "other")
    with pytest.raises(InputError, match="not grown from this teacher"):
        student.prove(other)


def test_the_same_weights_in_another_file_are_as_good(teacher: Net2Net, student: Net2Net) -> None:
    """Equal bits prove more than an equal digest: a licence may be added to the teacher's metadata."""
    path = path_of(teacher)
    with safe_open(path, "numpy") as file:
        metadata = {**file.metadata(), "license": "MIT"}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, metadata)
    again = Net2Net.load(path)
    assert again.origin.sha256() != student.origin.steps[0].teacher_sha256
    assert student.prove(again).passed


@pytest.mark.parametrize("way", ["noise", "random-pad"])
def test_an_approximate_student_replays_and_is_not_claimed_to_compute_the_same(
    way: str, teacher: Net2Net, tmp_path: Path
) -> None:
    grown = teacher.widen({"conv1": 7}, noise=0.1) if way == "noise" else teacher.random_pad({"conv1": 7})
    student = saved(grown, tmp_path / "student.safetensors")
    proof = student.prove(teacher)
    assert proof.replays
    assert not proof.exact
    assert "was not meant to keep what the network computes" in refusal(proof).message
    damaged = with_flipped_bit(student, "conv1.weight", 0).prove(teacher)
    assert not damaged.replays
    claimed = with_lineage(student, lambda step: step.update(exact=True))
    assert not claimed.prove(teacher).passed  # whatever the lineage claims


def test_a_stream_that_had_to_be_scaled_is_proved_up_to_rounding(tmp_path: Path) -> None:
    stream = network(
        (5, 3),
        layer("embed", linear(3, 4), "x"),
        layer("norm", make("LayerNorm", (4,), 1e-5, True, True), "embed"),
        layer("read", linear(4, 6), "norm"),
        layer("write", linear(6, 4), "read"),
        layer("add", make("add"), "embed", "write"),
        layer("last", make("LayerNorm", (4,), 1e-5, True, True), "add"),
        layer("out", linear(4, 2), "last"),
    )
    teacher = teacher_of(stream, tmp_path)
    student = saved(teacher.widen({"embed": 7, "read": 8}), tmp_path / "student.safetensors")
    proof = student.prove(teacher)
    assert proof.passed
    assert proof.exactness == "scaled"
    (difference,) = with_flipped_bit(student, "embed.bias", 4 * 6).prove(teacher).differences
    assert difference.place.index == (None,)  # the tail holds the mean
    assert "[mean]" in str(difference)


def tied() -> Graph:
    embed = Layer("embed", make("Embedding", 9, 4, None, False, False), ("x",))
    last = Layer("last", make("LayerNorm", (4,), 1e-5, True, True), ("embed",))
    head = Layer("head", make("Linear", 4, 9, True), ("last",), tied=(Tie("weight", "embed", "weight"),))
    return Graph("n", "s", (NetworkInput("x", (Batch(), 5), "int64"),), (embed, last, head), {"out": "head"})


def test_tied_tensors_are_proved_once_and_their_names_are_compared(tmp_path: Path) -> None:
    graph = tied()
    names = {"head.weight": "embed.weight"}
    model = Net2Net.from_tensors(graph, random_tensors(graph), aliases=names)
    teacher = saved(model, tmp_path / "teacher.safetensors")
    student = saved(teacher.widen({"embed": "2x"}), tmp_path / "student.safetensors")
    assert student.prove(teacher).passed
    path = path_of(student)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata.pop("head.weight") == "embed.weight"
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, metadata)
    found = Net2Net.load(path).prove(teacher)
    assert "tied names none, and its growth gives `head.weight` for `embed.weight`" in refusal(found).message


def test_layers_that_are_not_known_are_proved_without_their_code(tmp_path: Path) -> None:
    parameters = {"scale": (3,)}
    own = Opaque("module", "/nowhere/net.py:Scale", ("n", 3), (Input(0),), {}, {}, output=None, parameters=parameters)
    graph = network((4,), layer("a", linear(4, 6), "x"), layer("b", linear(6, 3), "a"), layer("own", own, "b"))
    teacher = teacher_of(graph, tmp_path)
    student = saved(teacher.widen({"a": 8}), tmp_path / "student.safetensors")
    assert student.prove(teacher).passed
    assert with_flipped_bit(student, "own.scale", 0).prove(teacher).differences


def test_what_is_in_memory_can_be_proved_as_well(teacher: Net2Net) -> None:
    assert teacher.widen({"conv1": 7}).prove(teacher).passed


def measured(teacher: Net2Net, layers: list[str]) -> Net2Net:
    """Deepened with statistics that were measured, here by nobody."""
    rng = np.random.default_rng(1)

    def moments(values: Any) -> dict[str, Moments]:
        widths = {value: int(str(teacher.graph.shapes[value][1])) for value in values}
        return {value: Moments(rng.normal(size=n), rng.random(n) + 0.1) for value, n in widths.items()}

    return teacher._grown(plan_deepen(teacher.graph, layers, None, teacher.tensors, moments))


@pytest.mark.parametrize("later", [False, True])
def test_measured_batch_norms_are_held_to_be_the_identity(later: bool, teacher: Net2Net, tmp_path: Path) -> None:
    grown = measured(teacher, ["conv1", "block.conv2"])
    if later:  # estimated from, copied as a whole, copied channel by channel
        grown = grown.deepen(["conv1_deeper1", "block"]).widen({"conv1_deeper1": 7, "conv1": 6})
    student = saved(grown, tmp_path / "student.safetensors")
    proof = student.prove(teacher)
    proof.raise_if_different()
    assert "conv1_deeper1_bn" in proof.identities
    assert len(proof.identities) == (4 if later else 2)
    for name in ("weight", "bias", "running_mean", "running_var"):
        for bit in (0, 3):
            changed = with_flipped_bit(student, f"conv1_deeper1_bn.{name}", 8, bit).prove(teacher)
            assert (
                "`conv1_deeper1_bn`, whose statistics were measured on data, is not the id" in refusal(changed).message
            )
    counter = with_flipped_bit(student, "conv1_deeper1_bn.num_batches_tracked", 0).prove(teacher)
    assert [d.bits.name for d in counter.differences] == ["conv1_deeper1_bn.num_batches_tracked"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_every_batch_norm_that_is_inserted_passes_for_the_identity(dtype: npt.DTypeLike, eps: float) -> None:
    variance = np.r_[np.geomspace(1e-12, 1e6, 60), 0.0]
    weight, stored = unit_gain(variance, eps, dtype)
    mean = np.linspace(-1, 1, variance.size).astype(dtype)
    assert (stored.dtype, weight.dtype) == (dtype, dtype)
    assert is_identity(weight, mean, mean, stored, eps)
    assert not is_identity(weight, np.nextafter(mean, 9, dtype=dtype), mean, stored, eps)
    for lost in (np.inf, np.nan, 1e30):  # x − 1e30 + 1e30 is 0
        far = mean.copy()
        far[3] = lost
        assert not is_identity(weight, far, far, stored, eps)
    for channel in range(variance.size):
        other = weight.copy()
        other[channel] = np.nextafter(other[channel], 9, dtype=dtype)
        assert not is_identity(other, mean, mean, stored, eps)
        if dtype == np.float32 and variance[channel] > eps:  # else the variance's last bit changes no weight
            other = stored.copy()
            other[channel] = np.nextafter(other[channel], 9, dtype=dtype)
            assert not is_identity(weight, mean, mean, other, eps)


def test_a_measured_batch_norm_that_was_changed_later_cannot_be_proved(teacher: Net2Net, tmp_path: Path) -> None:
    grown = measured(teacher, ["conv1"]).random_pad({"conv1_deeper1": 7})
    with pytest.raises(InputError, match="measured on data") as refused:
        saved(grown, tmp_path / "student.safetensors").prove(teacher)
    assert refused.value.hint


def with_lineage(model: Net2Net, change: Callable[[dict[str, Any]], Any]) -> Net2Net:
    """A copy whose first step in the lineage is another."""
    path = path_of(model)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    steps = json.loads(metadata["net2net.lineage"])
    change(steps[0])
    other = path.with_name("changed.safetensors")
    lineage = {"net2net.lineage": json.dumps(steps)}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), other, {**metadata, **lineage})
    return Net2Net.load(other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.update(operation="shrink"), "has the name 'shrink'"),
        (lambda s: s["arguments"].update(layers=["conv1"]), "`layers` of step 1 of the student's lineage"),
        (lambda s: s["arguments"].update(layers={"conv9": 3}), "`conv9` names no layer"),
        (lambda s: s["arguments"].update(sed=3), "unknown key `sed`"),
        (lambda s: s.update(arguments={"like": None, "noise": "x"}), "`noise` of step 1"),
        (lambda s: s.update(operation="grow", arguments={"like": "x"}, target="{"), "`target` of step 1"),
    ],
)
def test_a_lineage_that_cannot_be_repeated_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], Any], said: str, teacher: Net2Net, student: Net2Net
) -> None:
    with pytest.raises(InputError) as refused:
        with_lineage(student, change).prove(teacher)
    assert said in refused.value.message
    assert refused.value.hint


def test_another_seed_in_the_lineage_is_another_student(teacher: Net2Net, student: Net2Net) -> None:
    found = with_lineage(student, lambda step: step.update(seed=1)).prove(teacher)
    assert found.differences


def test_a_difference_under_another_version_says_so(teacher: Net2Net, student: Net2Net) -> None:
    changed = with_lineage(student, lambda step: step.update(seed=1, tool_version="0.0.1"))
    said = refusal(changed.prove(teacher))
    assert said.hint is not None
    assert "net2net 0.0.1" in said.hint


def test_more_new_layers_than_there_are_is_refused_before_they_are_made(teacher: Net2Net, tmp_path: Path) -> None:
    student = saved(teacher.deepen(["hidden"]), tmp_path / "student.safetensors")
    with pytest.raises(InputError, match="more layers than the student has"):
        with_lineage(student, lambda step: step["arguments"].update(count=10**9)).prove(teacher)


def test_a_target_that_an_older_lineage_lacks_is_asked_for(teacher: Net2Net, tmp_path: Path) -> None:
    grown = teacher.grow(teacher.widen({"conv1": 8}).graph).widen({"hidden": 7})
    student = saved(grown, tmp_path / "student.safetensors")
    with pytest.raises(InputError, match="`target` of step 1 of the student's lineage is missing"):
        with_lineage(student, lambda step: step.pop("target")).prove(teacher)


def test_progress_counts_every_byte_once(teacher: Net2Net, student: Net2Net) -> None:
    seen: list[int] = []
    proof = prove(teacher, student, on_bytes=seen.append)
    assert sum(seen) == proof.bytes


def test_nothing_is_written_and_the_student_may_stand_anywhere(
    teacher: Net2Net, student: Net2Net, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(path_of(student), elsewhere)
    before = sorted(tmp_path.rglob("*"))
    assert Net2Net.load(elsewhere / path_of(student).name).prove(teacher).passed
    assert sorted(tmp_path.rglob("*")) == before
