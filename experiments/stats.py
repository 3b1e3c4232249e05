"""Figures of results: how good, how soon, how deep the dip, and what Welch's test says of differences."""

from __future__ import annotations

import json
import lzma
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

SWEEP = "sweep.json"
"""Where a run's folder keeps what the search for a learning rate found."""

DIP_STEPS = 200
"""How long after growing a loss counts as its consequence."""

SMOOTHED = 10
"""Steps over which training losses are averaged before the largest is taken."""


@dataclass(frozen=True)
class Outcome:
    """One training of one seed.

    Attributes:
        history: what was judged, in order of steps: `step`, `accuracy`, `valid_loss`, `seconds`, `cpu_seconds`.
        losses: training loss of each step.
        parameters: of the network.
        machine: what it ran on.
    """

    history: tuple[dict[str, float], ...]
    losses: tuple[float, ...]
    parameters: int
    machine: dict[str, Any]

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return int(self.history[-1]["step"])

    @property
    def accuracy(self) -> float:
        """At the end."""
        return self.history[-1]["accuracy"]

    @property
    def loss(self) -> float:
        """On the validation images, at the end."""
        return self.history[-1]["valid_loss"]

    @property
    def lowest(self) -> float:
        """The lowest accuracy that was met."""
        return min(entry["accuracy"] for entry in self.history)

    def first(self, accuracy: float, *, above: bool = False) -> dict[str, float] | None:
        """When an accuracy was first reached, or first exceeded; None if it never was."""
        reached = (e for e in self.history if e["accuracy"] > accuracy or (not above and e["accuracy"] == accuracy))
        return next(reached, None)

    def steps_to(self, accuracy: float, *, above: bool = False) -> int:
        """Steps until then; all steps of the training if it never was."""
        entry = self.first(accuracy, above=above)
        return self.steps if entry is None else int(entry["step"])

    @property
    def clock(self) -> str:
        """On CPUs the processor's seconds, since other programs do not count there; else the clock's."""
        return "cpu_seconds" if "cores" in self.machine["device"] else "seconds"

    def seconds_to(self, accuracy: float, *, above: bool = False) -> float:
        """Seconds of training until then; of the whole training if it never was."""
        return (self.first(accuracy, above=above) or self.history[-1])[self.clock]

    def dip(self, teacher: Outcome) -> float:
        """Largest validation loss within `DIP_STEPS`, over the teacher's last."""
        return max(entry["valid_loss"] for entry in self.history if entry["step"] <= DIP_STEPS) / teacher.loss

    def training_dip(self, teacher: Outcome) -> float:
        """The same of training losses, in means of `SMOOTHED` steps; the teacher's last 50 are what it is over."""
        early = self.losses[:DIP_STEPS]
        means = [sum(early[at : at + SMOOTHED]) / SMOOTHED for at in range(len(early) - SMOOTHED + 1)]
        last = teacher.losses[-50:]
        return max(means) / (sum(last) / len(last))


Results = dict[str, dict[int, Outcome]]
"""Arm -> seed -> outcome."""


def read_results(folder: Path, archive: Path | None = None, setting: str = "") -> Results:
    """All results that are there.

    Args:
        folder: of a run.
        archive: of earlier runs, which those of the folder replace.
        setting: how they were made; results that were made otherwise are left out of the archive.
    """
    found: Results = {}
    if archive is not None and archive.exists():
        held = json.loads(lzma.decompress(archive.read_bytes()))
        for told in held["results"] if held["setting"] == setting else []:
            found.setdefault(told["arm"], {})[told["seed"]] = _outcome(told)
    for path in sorted(folder.glob("seed*/*/result.json")):
        seed = int(path.parent.parent.name.removeprefix("seed"))
        found.setdefault(path.parent.name, {})[seed] = _outcome(json.loads(path.read_text(encoding="utf-8")))
    return {arm: dict(sorted(found[arm].items())) for arm in sorted(found)}


def _outcome(told: dict[str, Any]) -> Outcome:
    return Outcome(tuple(told["history"]), tuple(told["losses"]), told["parameters"], told["machine"])


def archived(results: Results, setting: str = "") -> bytes:
    """All results, compressed: so that other seeds can be run elsewhere, and later."""
    told = [
        {"arm": arm, "seed": seed, **{key: getattr(outcome, key) for key in _KEPT}}
        for arm, outcomes in results.items()
        for seed, outcome in outcomes.items()
    ]
    return lzma.compress(json.dumps({"setting": setting, "results": told}).encode("utf-8"), preset=9)


_KEPT = ("history", "losses", "parameters", "machine")


ROUNDING = 1e-12
"""Figures that are closer than this are the same."""


@dataclass(frozen=True)
class Welch:
    """Welch's test of two samples: the difference of their means, first less second, and its two-sided p."""

    difference: float
    p: float | None

    def below(self, level: float) -> bool:
        """Whether p is known and smaller."""
        return self.p is not None and self.p < level


def welch(first: Sequence[float], second: Sequence[float]) -> Welch:
    """Student's t without equal variances (Welch, Biometrika 34, 1947).

    p is None with fewer than two values on a side; where neither side varies it is 0 for different means, else 1.
    """
    difference = sum(first) / len(first) - sum(second) / len(second)
    if min(len(first), len(second)) < 2:
        return Welch(difference, None)
    if all(max(values) - min(values) < ROUNDING for values in (first, second)):
        return Welch(difference, 0.0 if abs(difference) > ROUNDING else 1.0)
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one side whose values are all the same, which is no trouble here
        return Welch(difference, float(ttest_ind(first, second, equal_var=False).pvalue))


def spread(values: Sequence[float], form: str) -> str:
    """Median, and smallest and largest."""
    low, middle, high = (format(value, form) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}…{high})"
