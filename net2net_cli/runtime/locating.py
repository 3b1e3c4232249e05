"""Where two networks part: what every layer returns, held against what it returns in the teacher, in order.

An error that a layer inherits says nothing of it. So where something differs, the student runs a second time, and each
layer reads what its teacher's layer read: what it then gets wrong is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.shapes import concrete
from net2net_cli.runtime.build import Network, graph_of, values_of
from net2net_cli.runtime.draws import Draws, Values, shared
from net2net_cli.runtime.machine import explained, full_precision, release_memory
from net2net_cli.runtime.mapped import in_student, new_in
from net2net_cli.runtime.running import Batch, Setting, converted, samples, seeded

BUDGET = 1 << 30
"""How many bytes of the teacher's values are kept at a time; what does not fit is compared in several runs."""

Found = TypeVar("Found")

BINS = 48
"""Of a histogram."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """A layer of the student, and what it returns instead of what it should.

    Attributes:
        name: of the layer.
        teacher: the teacher's layer that returns the same.
        error: the largest difference in standard deviations of what should be there, or in hundredths of its largest
            element where that is more; infinite where a value that is no finite number stands on one side alone.
        largest: the largest difference.
        place: its index in the student's value.
        expected: what should stand there.
        found: what stands there.
        own: the error where the layer reads what the teacher's layer read; None where this was not tried, since nothing
            near it differs.
    """

    name: str
    teacher: str
    error: float
    largest: float
    place: tuple[int, ...]
    expected: float
    found: float
    own: float | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """What two networks return under one name.

    Attributes:
        name: of the output.
        edges: `(bins + 1,)`.
        teacher: `(bins,)` how many elements of the teacher's output.
        student: likewise.
        apart_edges: `(bins + 1,)` decimal logarithms.
        apart: `(bins,)` how many finite differences have their logarithm there.
        equal: how many elements are equal,
        elements: of so many.
    """

    name: str
    edges: tuple[float, ...]
    teacher: tuple[int, ...]
    student: tuple[int, ...]
    apart_edges: tuple[float, ...]
    apart: tuple[int, ...]
    equal: int
    elements: int


@dataclass(frozen=True, slots=True)
class Located:
    """What was found.

    Attributes:
        layers: all that were compared, in the order in which they run.
        histograms: of the outputs.
        tolerance: the largest error of a layer's own that counts as rounding.
        samples: how many were compared.
    """

    layers: tuple[LayerError, ...]
    histograms: tuple[Histogram, ...]
    tolerance: float
    samples: int

    @property
    def culprits(self) -> tuple[LayerError, ...]:
        """The layers that differ by themselves; the first is the first in which the networks differ."""
        return tuple(layer for layer in self.layers if layer.own is not None and not layer.own <= self.tolerance)

    @property
    def worst(self) -> LayerError | None:
        """The layer with the largest error."""
        return max(self.layers, key=lambda layer: layer.error, default=None)


def locate(
    teacher: Network, student: Network, values: Values, batch: Batch, setting: Setting, tolerance: float
) -> Located:
    """Compare what the layers of both networks return.

    One network at a time is on the device, as a copy. The teacher's values wait on the host, `BUDGET` bytes of them.

    Args:
        teacher: made by `build`.
        student: likewise.
        values: layers of the student that return what layers of the teacher return.
        batch: the arguments of `forward`, `(n, ...)`.
        setting: how to run them; in training mode they draw at random alike, where that is known, and nothing else.
        tolerance: the largest error of a layer's own that counts as rounding.

    Raises:
        MachineError: the device failed or has not enough memory.
    """
    run = _Runs(teacher, student, values, batch, setting, tolerance)
    found = [layer for window in run.windows() for layer in run.compared(window)]
    return Located(tuple(found), tuple(run.histograms), tolerance, samples(teacher, batch))


def fitting(graph: Graph, values: Values, dtype: torch.dtype) -> int:
    """How many samples can be compared in one run of each network; at least one."""
    kept = {value.name for value in values.values()}
    each = sum(math.prod(concrete(graph.shapes[name], 1)) for name in kept) * dtype.itemsize
    return max(1, BUDGET // max(each, 1))


@dataclass
class _Runs:
    """The runs of both networks, for one window of layers after the other."""

    teacher: Network
    student: Network
    values: Values
    batch: Batch
    setting: Setting
    tolerance: float

    def __post_init__(self) -> None:
        self.graph = graph_of(self.student)
        ours, train = graph_of(self.teacher).by_name, self.setting.mode == "train"
        self.order = [
            n.name
            for n in self.graph.layers
            if n.name in self.values
            and all(train or one.when == "always" for one in (n, ours[self.values[n.name].name]))
        ]
        self.outputs = {value: name for name, value in self.graph.outputs.items()}
        self.histograms: list[Histogram] = []
        self.draws = Draws(shared(self.teacher, self.student, self.values, self.setting.mode))

    def windows(self) -> Iterator[list[str]]:
        """Layers in order, as many at a time as the teacher's values may take memory."""
        count = samples(self.teacher, self.batch)
        shapes, size = graph_of(self.teacher).shapes, self.setting.dtype.itemsize
        window: list[str] = []
        taken = 0
        for name in self.order:
            here = math.prod(concrete(shapes[self.values[name].name], count)) * size
            if window and taken + here > BUDGET:
                yield window
                window, taken = [], 0
            window.append(name)
            taken += here
        if window:
            yield window

    def compared(self, window: list[str]) -> list[LayerError]:
        """The errors in a window; with the layers' own where one of them is more than rounding."""
        needed = {*window, *self._read_by(window)}
        teachers = self._with(self.teacher, self.draws.of_teacher(), lambda network: self._values(network, needed))
        return self._with(
            self.student, self.draws, lambda network: self._both_errors(network, window, teachers, needed)
        )

    def _values(self, network: Network, needed: set[str]) -> dict[str, Tensor]:
        """What the teacher has for these layers of the student, on the host."""
        wanted = {self.values[name].name for name in needed}
        kept: dict[str, Tensor] = {}

        def visit(name: str, value: Tensor) -> Tensor:
            if name in wanted:
                kept[name] = value.to("cpu", copy=True)
            return value

        self._run(network, visit)
        return kept

    def _both_errors(
        self, network: Network, window: list[str], teachers: Mapping[str, Tensor], needed: set[str]
    ) -> list[LayerError]:
        found = self._errors(network, window, teachers, needed=set())
        if all(layer.error <= self.tolerance for layer in found.values()):
            return list(found.values())
        self.draws.prepare(network)  # the same masks again
        own = self._errors(network, window, teachers, needed=needed)
        return [replace(layer, own=own[name].error) for name, layer in found.items()]

    def _read_by(self, window: list[str]) -> set[str]:
        """The nearest layers before the window's that are compared, through all that are not."""
        inside, found, seen = set(window), set[str](), set[str]()
        waiting = [value for name in window for value in self._inputs(name)]
        while waiting:
            name = waiting.pop()
            if name in seen or name in inside:
                continue
            seen.add(name)
            if name in self.values:
                found.add(name)
            else:
                waiting.extend(self._inputs(name))
        return found

    def _inputs(self, name: str) -> tuple[str, ...]:
        layer = self.graph.by_name.get(name)
        return layer.inputs if layer is not None else ()

    def _errors(
        self, network: Network, window: list[str], teachers: Mapping[str, Tensor], needed: set[str]
    ) -> dict[str, LayerError]:
        """Errors of the window's layers; the layers in `needed` then return what they should."""
        found: dict[str, LayerError] = {}
        inside = set(window)

        def visit(name: str, value: Tensor) -> Tensor:
            if name not in inside and name not in needed:
                return value
            expected, here = in_student(teachers[self.values[name].name], self.values[name]), value.cpu()
            new = new_in(self.values[name], here.shape) if here.shape == expected.shape else None
            if new is not None:
                expected = torch.where(new, here.to(expected), expected)  # nothing is expected of new channels
            if name in inside:
                found[name] = layer_error(name, self.values[name].name, expected, here)
                if name in self.outputs and not needed and here.shape == expected.shape:
                    self.histograms.append(histogram(self.outputs[name], expected, here))
            return expected.to(value, copy=True) if name in needed else value

        self._run(network, visit)
        return {name: found[name] for name in window}

    def _run(self, network: Network, visit: Callable[[str, Tensor], Tensor]) -> None:
        device, stored = self.setting.device, self.setting.stored
        arguments = [x.to(device, stored if x.is_floating_point() else x.dtype) for x in self.batch]
        with seeded(device), self.setting.arithmetic():
            for _ in values_of(network, *arguments, instead=visit):
                pass

    def _with(self, network: Network, draws: Draws, work: Callable[[Network], Found]) -> Found:
        """Work with a copy that is on the device."""
        device = self.setting.device
        with explained(device), full_precision(), torch.no_grad():
            copied = converted(network, device, self.setting.stored).train(self.setting.mode == "train")
            assert isinstance(copied, Network)
            draws.prepare(copied)
            found = work(copied)
            del copied
            release_memory(device)
        return found


def layer_error(name: str, teacher: str, expected: Tensor, found: Tensor) -> LayerError:
    """How far a value is from what it should be; both of any type, equal where both are the same infinity or NaN."""
    if expected.shape != found.shape:
        return LayerError(name, teacher, math.inf, math.inf, (), math.nan, math.nan)
    e, f = _real(expected), _real(found)
    apart = _apart(e, f)
    if not apart.numel():
        return LayerError(name, teacher, 0.0, 0.0, (), math.nan, math.nan)
    flat = int(apart.argmax())
    largest, scale = float(apart.flatten()[flat]), _scale(e)
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), e.shape))
    there, here = float(e.flatten()[flat]), float(f.flatten()[flat])
    return LayerError(name, teacher, largest / scale, largest, place, there, here)


def _real(value: Tensor) -> Tensor:
    """In float64; real and imaginary parts on an axis of their own."""
    return (torch.view_as_real(value) if value.is_complex() else value).double()


def _apart(expected: Tensor, found: Tensor) -> Tensor:
    """The differences; infinite where one side alone is no finite number."""
    apart = (expected - found).abs_()
    if apart.numel() and not apart.max().isfinite():
        apart[(expected == found) | (expected.isnan() & found.isnan())] = 0.0
        apart.nan_to_num_(nan=math.inf, posinf=math.inf)
    return apart


def _scale(expected: Tensor) -> float:
    """What differences are measured by; a value that hardly varies is rounded by its magnitude."""
    deviation, (low, high) = float(expected.std(correction=0)), expected.aminmax()
    if not math.isfinite(deviation):
        finite = expected[expected.isfinite()]
        return _scale(finite) if 0 < finite.numel() < expected.numel() else 1.0
    return max(deviation, float(high) / 100, -float(low) / 100) or 1.0


def histogram(name: str, expected: Tensor, found: Tensor) -> Histogram:
    """Histograms of an output in both networks, and of the differences, `(n, ...)` each."""
    e, f = _real(expected), _real(found)
    finite = torch.cat([x[x.isfinite()] for x in (e, f)])
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    high = high if high > low else low + 1.0
    apart = _apart(e, f)
    logs = apart[(apart > 0) & apart.isfinite()].log10()
    first, last = (math.floor(float(logs.min())), math.ceil(float(logs.max()))) if logs.numel() else (-16, 0)
    last = max(last, first + 1)
    return Histogram(
        name,
        _edges(low, high),
        _counts(e, low, high),
        _counts(f, low, high),
        _edges(first, last),
        _counts(logs, first, last),
        int((apart == 0).sum()),
        apart.numel(),
    )


def _edges(low: float, high: float) -> tuple[float, ...]:
    return tuple(low + (high - low) * i / BINS for i in range(BINS + 1))


def _counts(values: Tensor, low: float, high: float) -> tuple[int, ...]:
    return tuple(int(n) for n in torch.histc(values[values.isfinite()], BINS, low, high))
