"""Figures of one output of two networks: how far apart, where, and how much of it would be noticed.

Outputs can be large (a segmentation map has tens of millions of elements), so they are read piece by piece; only the
differences are kept as a whole, for their quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from net2net_cli.runtime.classes import Agreement, agreement

QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""Shares of the elements for which the largest difference among them is given."""

PIECE = 1 << 20
"""Elements that are converted to float64 at a time."""

Floats = npt.NDArray[np.float64]
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NotFinite:
    """Elements that are NaN or infinite in either network.

    Attributes:
        alike: how many are the same in both: both NaN, or the same infinity. They count as equal.
        unlike: how many are not. Each is an infinite difference.
        first: index of the first of all; with `unlike`, of the first that differs.

    """

    alike: int
    unlike: int
    first: Place


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of both networks. Differences |Δ| are those of single elements.

    Attributes:
        name: of the output.
        largest: the largest |Δ|; infinite where only one network gives NaN or an infinity, or the shapes differ.
        scale: what it is measured by: the standard deviation of the teacher's output, or where that is constant its
            largest magnitude, or 1 where it is zero. Of its finite elements.
        relative: the root mean square of the differences, over that of the teacher's output.
        place: index of the largest difference; the first axis counts through all samples.
        teacher_value: the teacher's element there.
        student_value: the student's element there.
        mean: of |Δ|.
        quantiles: for each of `QUANTILES` the smallest value that this share of all |Δ| does not exceed.
        cosine: of the angle between both outputs, each taken as one vector; None where one is zero.
        classes: whether they mean the same class; None for what is no scores of classes.
        not_finite: None where both networks gave finite numbers alone.
        warnings: what makes this comparison weak or impossible, as sentences.

    """

    name: str
    largest: float
    scale: float = 1.0
    relative: float = math.inf
    place: Place = ()
    teacher_value: float = math.nan
    student_value: float = math.nan
    mean: float = math.inf
    quantiles: tuple[float, ...] = (math.inf,) * len(QUANTILES)
    cosine: float | None = None
    classes: Agreement | None = None
    not_finite: NotFinite | None = None
    warnings: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The largest difference in units of `scale`: the smallest tolerance at which this output passes."""
        return self.largest / self.scale if math.isfinite(self.largest) else math.inf

    @property
    def same_top(self) -> float | None:
        """Share of samples, or of places in them, with the same top class."""
        return self.classes.top if self.classes else None


def difference(name: str, teacher: Tensor, student: Tensor, *, class_axis: int | None = 1) -> OutputDifference:
    """Compare one output of all samples.

    Args:
        name: of the output, for people.
        teacher: `(samples, ...)`, on the host.
        student: likewise.
        class_axis: along which classes have their scores, where the output has that axis; None where it has none.

    """
    if teacher.shape != student.shape:
        shapes = f"{list(teacher.shape)} in the teacher, {list(student.shape)} in the student"
        return OutputDifference(name, math.inf, warnings=(f"output `{name}` has the shape {shapes}",))
    if teacher.is_complex() and student.is_complex():
        return difference(name, torch.view_as_real(teacher), torch.view_as_real(student), class_axis=None)
    if teacher.numel() == 0:
        empty = (f"output `{name}` is empty",)
        return OutputDifference(name, 0.0, relative=0.0, mean=0.0, quantiles=(0.0,) * len(QUANTILES), warnings=empty)
    sums = _Sums()
    apart = np.empty(teacher.numel())
    for start, t, s in _pieces(teacher, student):
        apart[start : start + len(t)] = sums.add(start, t, s)
    return _figures(name, teacher, student, sums, apart, class_axis)


def _figures(
    name: str, teacher: Tensor, student: Tensor, sums: _Sums, apart: Floats, class_axis: int | None
) -> OutputDifference:
    not_finite = sums.not_finite(teacher.shape)
    if sums.count == 0 and not sums.unlike:
        nothing = f"no element of output `{name}` is a finite number, in both networks: there is nothing to compare"
        return OutputDifference(name, math.inf, not_finite=not_finite, warnings=(nothing,))
    flat = int(apart.argmax())
    place = _place(flat, teacher.shape)
    scale, warnings = _scale(name, teacher, sums)
    return OutputDifference(
        name,
        float(apart[flat]),
        scale,
        sums.relative(),
        place,
        float(teacher[place]),
        float(student[place]),
        float(apart.mean()),
        _quantiles(apart),
        sums.cosine(),
        agreement(teacher, student, class_axis),
        not_finite,
        (*_not_finite_warnings(name, not_finite), *warnings),
    )


def _pieces(teacher: Tensor, student: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Both as float64, piece by piece, with where each piece begins."""
    t, s = teacher.flatten(), student.flatten()
    for start in range(0, len(t), PIECE):
        yield start, t[start : start + PIECE].double(), s[start : start + PIECE].double()


def _place(flat: int, shape: torch.Size) -> Place:
    return tuple(int(i) for i in np.unravel_index(flat, tuple(shape)))


def _quantiles(apart: Floats) -> tuple[float, ...]:
    """Of all differences, by the nearest rank; `apart` is reordered."""
    ranks = [max(math.ceil(share * len(apart)) - 1, 0) for share in QUANTILES]
    apart.partition(sorted(set(ranks)))
    return tuple(float(apart[rank]) for rank in ranks)


class _Sums:
    """What is added up over the pieces; moments are those of elements that are finite."""

    def __init__(self) -> None:
        self.alike = self.unlike = 0
        self.first_alike = self.first_unlike = 0
        self.count = 0
        self.mean = self.spread = self.largest = 0.0
        self.teacher = self.student = self.both = self.apart = 0.0

    def add(self, start: int, t: Tensor, s: Tensor) -> Floats:
        """One piece, `(n,)` float64 each; returns |Δ|, in which NaN and infinities count as equal or infinitely far."""
        apart = (t - s).abs()
        if not bool(torch.isfinite(apart).all()):
            finite = t.isfinite() & s.isfinite()
            alike = ~finite & ((t == s) | (t.isnan() & s.isnan()))
            self._note(start, alike, ~finite & ~alike)
            apart = torch.where(finite, apart, torch.where(alike, 0.0, math.inf))
            self._moments(t[t.isfinite()])
            t, s = t[finite], s[finite]
        else:
            self._moments(t)
        self.teacher += float(t @ t)
        self.student += float(s @ s)
        self.both += float(t @ s)
        self.apart += float((t - s).square().sum())
        found: Floats = apart.numpy()
        return found

    def _note(self, start: int, alike: Tensor, unlike: Tensor) -> None:
        if not self.alike and bool(alike.any()):
            self.first_alike = start + int(alike.int().argmax())
        if not self.unlike and bool(unlike.any()):
            self.first_unlike = start + int(unlike.int().argmax())
        self.alike += int(alike.sum())
        self.unlike += int(unlike.sum())

    def _moments(self, t: Tensor) -> None:
        """Mean and sum of squared deviations so far (Chan, Golub & LeVeque 1983)."""
        if not len(t):
            return
        mean, count = float(t.mean()), self.count + len(t)
        step = mean - self.mean
        self.spread += float((t - mean).square().sum()) + step * step * (self.count * len(t) / count)
        self.mean += step * len(t) / count
        self.count = count
        self.largest = max(self.largest, float(t.abs().max()))

    def deviation(self) -> float:
        """Standard deviation of the teacher's output."""
        return math.sqrt(self.spread / self.count) if self.count else 0.0

    def relative(self) -> float:
        """‖Δ‖ / ‖teacher‖."""
        if self.unlike:
            return math.inf
        return math.sqrt(self.apart) / max(math.sqrt(self.teacher), float(np.finfo(np.float64).tiny))

    def cosine(self) -> float | None:
        """⟨teacher, student⟩ / (‖teacher‖ ‖student‖)."""
        norms = math.sqrt(self.teacher) * math.sqrt(self.student)
        return min(1.0, max(-1.0, self.both / norms)) if 0 < norms < math.inf else None

    def not_finite(self, shape: torch.Size) -> NotFinite | None:
        """What was met that is no finite number."""
        if not (self.alike or self.unlike):
            return None
        first = self.first_unlike if self.unlike else self.first_alike
        return NotFinite(self.alike, self.unlike, _place(first, shape))


def _not_finite_warnings(name: str, found: NotFinite | None) -> tuple[str, ...]:
    if found is None:
        return ()
    said = "in one network alone" if found.unlike else "in both networks alike"
    number = found.unlike or found.alike
    many = "1 element is" if number == 1 else f"{number:,} elements are"
    return (f"NaN or infinite {said}: {many} so in output `{name}`, the first at {list(found.first)}",)


def _scale(name: str, teacher: Tensor, sums: _Sums) -> tuple[float, tuple[str, ...]]:
    """What differences are measured by, and what is to be said about it."""
    deviation = sums.deviation()
    if not math.isfinite(deviation):
        return sums.largest, (f"output `{name}` is too large for its deviation to be computed",)
    eps = torch.finfo(teacher.dtype).eps if teacher.is_floating_point() else 0.0
    if deviation <= 4 * eps * sums.largest:
        said = f"the teacher's output `{name}` is constant: differences are measured by its magnitude"
        return sums.largest or 1.0, (said,)
    if len(teacher) > 1 and all(torch.equal(sample, teacher[0]) for sample in teacher[1:]):
        return deviation, (f"the teacher's output `{name}` is the same for every input: agreement says little",)
    return deviation, ()
