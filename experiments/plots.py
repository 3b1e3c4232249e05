"""Accuracy and loss against steps: the median over seeds as a line, smallest and largest as a band."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from experiments.stats import DIP_STEPS, SMOOTHED, Outcome, Results

Curve = list[tuple[float, float]]


def draw(results: Results, arms: Sequence[tuple[str, str]], path: Path, *, teacher: str, figure: str) -> bool:
    """One picture; whether there was anything to draw.

    Args:
        results: of all arms.
        arms: names, and what to call them.
        path: an SVG file.
        teacher: the arm whose end is drawn as a dashed line.
        figure: `accuracy`, `valid_loss`, or `losses`: training loss in the first steps.
    """
    there = [(results[arm], title) for arm, title in arms if arm in results]
    if not there:
        return False
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "net2net"  # the same picture from the same results
    from matplotlib import pyplot as plt

    shown, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, (outcomes, title) in enumerate(there):
        _draw_arm(axes, list(outcomes.values()), title, figure, f"C{number % 10}", "-" if number < 10 else ":")
    if teacher in results:
        axes.axhline(_end(list(results[teacher].values()), figure), color="grey", linestyle="--", label="teacher")
    axes.set_xlabel("steps")
    names = {"accuracy": "validation accuracy", "valid_loss": "validation loss", "losses": "training loss"}
    axes.set_ylabel(names[figure])
    if figure == "accuracy":
        last = [outcome.accuracy for outcomes, _ in there for outcome in outcomes.values()]
        axes.set_ylim(max(0.0, min(last) - 0.08), min(1.0, max(last) + 0.01))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.savefig(path, metadata={"Date": None})
    plt.close(shown)
    return True


def _draw_arm(axes: Any, outcomes: list[Outcome], title: str, figure: str, color: str, line: str) -> None:
    curves = [_curve(outcome, figure) for outcome in outcomes]
    steps = [step for step, _ in curves[0]]
    columns = list(zip(*([value for _, value in curve] for curve in curves), strict=True))
    axes.plot(steps, [median(column) for column in columns], color=color, linestyle=line, label=title)
    axes.fill_between(steps, [min(c) for c in columns], [max(c) for c in columns], color=color, alpha=0.12, linewidth=0)


def _curve(outcome: Outcome, figure: str) -> Curve:
    if figure != "losses":
        return [(entry["step"], entry[figure]) for entry in outcome.history]
    early = outcome.losses[:DIP_STEPS]
    return [
        (at + SMOOTHED, sum(early[at : at + SMOOTHED]) / SMOOTHED) for at in range(0, len(early) - SMOOTHED + 1, 10)
    ]


def _end(outcomes: list[Outcome], figure: str) -> float:
    if figure == "losses":
        return median(sum(o.losses[-50:]) / len(o.losses[-50:]) for o in outcomes)
    return median(o.history[-1][figure] for o in outcomes)
