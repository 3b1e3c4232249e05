"""Growths drawn at random, of networks drawn at random, held against what the original returns."""

from __future__ import annotations

import copy
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.python_source import python_source
from net2net_cli.channels.labels import find_labels
from net2net_cli.errors import GrowthRefusedError, TraceError, UsageError
from net2net_cli.growth.plan import SPLITS, Split
from net2net_cli.runtime.tolerance import default_tolerance
from zoo.growing import WIDTHS, Teacher, error, outputs, random_inputs, sensitive, sensitivity
from zoo.random_networks import ACTIVATIONS, RandomNetwork, random_network

TOLERANCE = 1e-11
"""Of max |Δ| / standard deviation of the teacher's output, in float64."""

ROUNDING = 1e-13
"""Of the same, where the same numbers are added in another order."""

BLIND = 1e-9
"""A scrambled layer that moves the output less says nothing; so does an output that hardly varies."""


class Unusable(Exception):  # noqa: N818 - no error: the draw says nothing
    """The network does not say anything about growth: it does not run, or its output is constant or not finite."""


@dataclass
class Report:
    """What became of the growths of one network.

    Attributes:
        count: how many growths ended how: `exact`, `refused`, `blind`.
        refusals: what was asked for, and the refusal.
    """

    count: Counter[str] = field(default_factory=Counter)
    refusals: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Subject:
    """A teacher with its random numbers, and what has been found about it."""

    network: RandomNetwork
    teacher: Teacher
    rng: np.random.Generator
    report: Report
    doing: str = ""

    def one_of(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def growable(self, net: Net2Net) -> list[str]:
        kinds = ("Conv", "Linear", "Parameter")
        layers = net.graph.layers
        return [n.name for n in layers if n.weights_of is None and n.op.tensors() and n.op.name.startswith(kinds)]


def imported(network: RandomNetwork) -> Teacher:
    """The network in float64 with drawn statistics, and its import, which returns what the original returns.

    Raises:
        TraceError: it cannot be imported.
        Unusable: nothing could be told from its outputs.
    """
    torch.set_num_threads(1)
    inputs = random_inputs(network.shapes, 4)
    try:
        model = sensitive(network, *random_inputs(network.shapes, 8, seed=2))
        expected = {mode: outputs(model, inputs, mode) for mode in ("eval", "train")}
    except RuntimeError as failed:  # PyTorch itself refuses, as when it writes in place into stretched memory
        raise Unusable from failed
    for tensor in (t for found in expected.values() for t in found):
        if not torch.isfinite(tensor).all() or not BLIND < float(tensor.std()) < 1 / BLIND:
            raise Unusable
    net = Net2Net.from_module(copy.deepcopy(model), random_inputs(network.shapes, 2))
    rebuilt = net.to_module()
    for mode, found in expected.items():
        # The import compared both to the bit, on inputs of its own; another batch may be summed in another order.
        assert (off := error(found, outputs(rebuilt, inputs, mode))) <= ROUNDING, f"the import is off by {off:.2g}"
    return Teacher(model, net, inputs, expected)


def widths(subject: Subject, net: Net2Net, how_many: int) -> dict[str, str]:
    """Layers and widths; seven times in eight, none whose channels are those of an output or the like."""
    layers = subject.growable(net)
    if subject.rng.random() < 7 / 8:
        labels = find_labels(net.graph)
        own = {name: labels.output_axis(name) for name in layers}
        layers = [n for n, axis in own.items() if axis is not None and not labels.is_frozen(axis).all()] or layers
    chosen = subject.rng.permutation(len(layers))[:how_many]
    return {layers[i]: subject.one_of(WIDTHS) for i in chosen.tolist()}


def options(subject: Subject) -> dict[str, Any]:
    return {"split": subject.one_of(SPLITS), "seed": int(subject.rng.integers(100))}


def attempt(subject: Subject, doing: str, grow: Callable[[], Net2Net]) -> Net2Net | None:
    """The student, or None where the growth was refused."""
    subject.doing = doing
    try:
        return grow()
    except (GrowthRefusedError, UsageError) as refused:
        subject.report.count["refused"] += 1
        subject.report.refusals.append((doing, str(refused)))
        return None


def check(subject: Subject, student: Net2Net, *, train: bool = True, tolerance: float = TOLERANCE) -> None:
    """Assert that the student returns what its teacher returns, and count whether that says something."""
    module = student.to_module(dtype=torch.float64)
    for mode in ("eval", "train") if train else ("eval",):
        found = error(subject.teacher.expected[mode], outputs(module, subject.teacher.inputs, mode))
        if found > tolerance:
            allowed = max(tolerance, 1e3 * _conditioning(subject.teacher, mode))
            assert found <= allowed, f"off by {found:.2g} in {mode} mode"
    layer = subject.one_of(subject.growable(student))
    seen = sensitivity(subject.teacher, module, layer) > BLIND
    subject.report.count["exact" if seen else "blind"] += 1


def _conditioning(teacher: Teacher, mode: str) -> float:
    """How far the last bit of weights and inputs moves the teacher's own output."""
    module = copy.deepcopy(teacher.module)
    generator = torch.Generator().manual_seed(0)

    def nudged(x: Tensor) -> Tensor:
        return x * (1 + 2e-16 * torch.randn(x.shape, generator=generator, dtype=torch.float64))

    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(nudged(tensor))
    return error(teacher.expected[mode], outputs(module, [nudged(x) for x in teacher.inputs], mode))


def widen(subject: Subject, net: Net2Net) -> Net2Net | None:
    asked = widths(subject, net, subject.one_of((1, 1, 1, 2, 3)))
    how = options(subject)
    student = attempt(subject, f"widen {asked} {how}", lambda: net.widen(asked, **how))
    if student is not None:
        for layer in asked:
            assert student.graph.by_name[layer] != net.graph.by_name[layer], f"{layer} did not grow"
    return student


def widen_all(subject: Subject, net: Net2Net) -> Net2Net | None:
    width, how = subject.one_of(WIDTHS), options(subject)
    doing = f"widen ** {width} where possible {how}"
    return attempt(subject, doing, lambda: net.widen({"**": width}, where_possible=True, **how))


def deepen(subject: Subject, net: Net2Net) -> Net2Net | None:
    layers = [n for n in subject.growable(net) if n.split(".")[-1].startswith("m")]
    if subject.rng.random() < 7 / 8:
        layers = [n for n in layers if _is_followed(net.graph, n)] or layers
    chosen = [layers[i] for i in subject.rng.permutation(len(layers))[: subject.one_of((1, 1, 2))].tolist()]
    blocks = {name.split(".")[0] for name in net.graph.by_name if re.match(r"m\d+\.", name)}
    if blocks and subject.rng.random() < 0.5:
        chosen.append(subject.one_of(sorted(blocks)))
    how: dict[str, Any] = {
        "kernel": subject.one_of((None, None, 1, 3)),
        "count": subject.one_of((1, 1, 2)),
        "batch_norm": subject.one_of(("estimate", "identity")),
    }
    return attempt(subject, f"deepen {chosen} {how}", lambda: net.deepen(chosen, **how))


def _is_followed(graph: Graph, layer: str) -> bool:
    """By an activation or a norm alone."""
    readers = [reader.op.name for reader in graph.readers[layer]]
    return len(readers) == 1 and (readers[0] in ("relu", "Dropout", *ACTIVATIONS) or "Norm" in readers[0])


def has_new_norm(net: Net2Net, student: Net2Net) -> bool:
    """New batch norms take other statistics in training."""
    new = [layer for layer in student.graph.layers if layer.name not in net.graph.by_name]
    return any("Norm" in layer.op.name for layer in new)


def check_like(subject: Subject, net: Net2Net, student: Net2Net) -> None:
    """The student's widths can be asked for as a whole."""
    how = options(subject)
    again = attempt(subject, f"like {how} after {subject.doing}", lambda: net.widen(like=student.graph, **how))
    if again is not None:
        assert _shapes(again) == _shapes(student)
        check(subject, again)


def _shapes(net: Net2Net) -> dict[str, tuple[int, ...]]:
    return {name: slot.shape for name, _, _, slot in net.graph.tensors()}


def check_files(subject: Subject, student: Net2Net) -> None:
    """Saved and read again, and as source code, the student is the same to the bit; the file is proved."""
    subject.doing += ", saved"
    here = student.to_module()
    inputs = subject.teacher.inputs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        student.save(path)
        there = Net2Net.load(path)
        assert there.graph == student.graph
        there.prove(subject.teacher.net).raise_if_different()
        loaded = there.to_module()
    namespace: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), namespace)
    written = namespace["Student"]().double()
    written.load_state_dict(here.state_dict(), strict=True)
    for mode in ("eval", "train"):
        expected = outputs(here, inputs, mode)
        for kind, other in (("file", loaded), ("source", written)):
            found = outputs(cast(nn.Module, other), inputs, mode)
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)), f"{kind} in {mode} mode"


def check_same_again(subject: Subject, student: Net2Net, again: Net2Net) -> None:
    """The same seed gives the same bytes."""
    for name, *_ in student.graph.tensors():
        assert np.array_equal(student.tensor(name), again.tensor(name)), name


def check_half(subject: Subject, network: RandomNetwork) -> None:
    """A teacher stored in half precision: what is stored sums to its own values, whatever the split."""
    dtype = subject.one_of((torch.bfloat16, torch.float16))
    low = copy.deepcopy(subject.teacher.module).to(dtype)
    try:
        net = Net2Net.from_module(low, tuple(x.to(dtype) for x in random_inputs(network.shapes, 2)))
    except TraceError as refused:  # what is rounded between two ops may differ in half precision
        subject.report.count["not imported in half precision"] += 1
        subject.report.refusals.append(("import half", str(refused)))
        return
    model = low.double().eval()
    inputs = subject.teacher.inputs
    teacher = Teacher(model, net, inputs, {mode: outputs(model, inputs, mode) for mode in ("eval", "train")})
    half = Subject(network, teacher, subject.rng, subject.report)
    asked = widths(half, net, 2)
    split: Split = subject.one_of(SPLITS)
    student = attempt(half, f"widen {dtype} {asked} {split}", lambda: net.widen(asked, split=split))
    subject.doing = half.doing
    if student is not None:
        check(half, student, tolerance=default_tolerance(torch.float64, dtype, student.exactness).value)


@contextmanager
def told(subject: Subject) -> Iterator[None]:
    """Failures name the network and what was done to it."""
    try:
        yield
    except Exception as failed:
        failed.add_note(f"{subject.doing}\n{subject.network!r}")
        raise


def run(seed: int) -> Report:
    """Import the network of that seed and grow it in every way, once or twice each.

    Raises:
        AssertionError: a student does not return what its teacher returns.
        Exception: whatever is no refusal.
    """
    return grow(random_network(seed), seed)


def grow(network: RandomNetwork, seed: int) -> Report:
    report = Report()
    if len(set(network.outputs)) == 0:
        report.count["unusable"] += 1
        return report
    try:
        teacher = imported(network)
    except Unusable:
        report.count["unusable"] += 1
        return report
    except TraceError as refused:
        report.count["not imported"] += 1
        report.refusals.append(("import", str(refused)))
        return report
    subject = Subject(network, teacher, np.random.default_rng([seed, 1]), report)
    if not subject.growable(teacher.net):
        report.count["unusable"] += 1
        return report
    with told(subject):
        _grow_every_way(subject)
    return report


def _grow_every_way(subject: Subject) -> None:
    net = subject.teacher.net
    grown: list[Net2Net] = []
    for _ in range(3):
        state = copy.deepcopy(subject.rng)
        student = widen(subject, net)
        if student is not None:
            check(subject, student)
            grown.append(student)
            again = widen(Subject(subject.network, subject.teacher, state, Report()), net)
            assert again is not None
            check_same_again(subject, student, again)
    student = widen_all(subject, net)
    if student is not None:
        check(subject, student)
        check_like(subject, net, student)
        grown.append(student)
    for before in (net, *grown[-1:]):
        subject.doing = "widened, and then"
        deeper = deepen(subject, before)
        if deeper is not None:
            plain = not has_new_norm(net, deeper)
            check(subject, deeper, train=plain, tolerance=TOLERANCE if plain else 1e-9)
            if before is net:
                wide = widen(subject, deeper)
                if wide is not None:
                    check(subject, wide, train=plain, tolerance=TOLERANCE if plain else 1e-9)
    if grown:
        second = widen(subject, subject.one_of(grown))
        if second is not None:
            check(subject, second)
            grown.append(second)
        check_files(subject, grown[-1])
    check_half(subject, subject.network)
