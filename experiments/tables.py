"""Markdown tables of the results, one for each question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from experiments.profiles import RATE, RATES
from experiments.stats import Outcome, Results, Welch, spread, welch

MISSING = "No results yet."
TOO_FEW = "Not enough results."
RULE = "|---"
"""What the second line of a table begins with."""
Pair = tuple[Outcome, Outcome]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is text and whose others are numbers; a word where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"{RULE}{'|--:' * (len(head) - 1)}|", *lines]) if lines else MISSING


def is_missing(text: str) -> bool:
    """Whether it says that results are."""
    return MISSING in text or TOO_FEW in text


def told_p(test: Welch) -> str:
    """A p as a table tells it."""
    if test.p is None:
        return "–"
    return "< 0.0001" if test.p < 1e-4 else f"{test.p:.2g}"


def pairs(results: Results, arm: str, other: str) -> list[Pair]:
    """An arm's outcomes beside those of another one, of the seeds that have both."""
    first, second = results.get(arm, {}), results.get(other, {})
    return [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def values(found: Iterable[Pair], figure: Callable[[Outcome, Outcome], float]) -> list[float]:
    """A figure of each pair."""
    return [figure(outcome, other) for outcome, other in found]


def reached(found: Sequence[Pair], *, above: bool) -> str:
    """In how many seeds an arm reached the final accuracy of another one."""
    count = sum(outcome.first(other.accuracy, above=above) is not None for outcome, other in found)
    return f"{count} of {len(found)}"


def against(results: Results, arms: Sequence[tuple[str, str]], teacher: str, scratch: str) -> str:
    """Arms beside their teacher and beside training from scratch.

    Args:
        results: of all arms.
        arms: names, and what to call them.
        teacher: the arm whose model grew.
        scratch: the arm that trained the student's architecture from nothing.
    """
    head = (
        "training",
        "seeds",
        "steps",
        "accuracy at the end, %",
        "p against scratch",
        "lowest less teacher's, %",
        "passes the teacher after steps",
        "p against scratch",
        "in seeds",
        "reaches scratch's end after steps",
        "in seeds",
        "steps, of scratch's",
        "seconds, of scratch's",
    )
    if teacher not in results or scratch not in results:
        return MISSING
    there = [(arm, title) for arm, title in arms if pairs(results, arm, scratch)]
    return table(head, [_against(results, arm, title, teacher, scratch) for arm, title in there])


def _against(results: Results, arm: str, title: str, teacher: str, scratch: str) -> list[str]:
    mine = list(results[arm].values())
    to_teacher, to_scratch = pairs(results, arm, teacher), pairs(results, arm, scratch)
    test = welch([o.accuracy for o in mine], [o.accuracy for o in results[scratch].values()])
    row = [title, str(len(mine)), str(mine[0].steps), spread([100 * o.accuracy for o in mine], ".2f")]
    row.append("" if arm == scratch else told_p(test))
    row.append("" if arm == scratch else spread(values(to_teacher, lambda o, t: 100 * (o.lowest - t.accuracy)), "+.2f"))
    row += [spread(values(to_teacher, _passing), ".0f")]
    passing = [values(found, _passing) for found in (to_teacher, pairs(results, scratch, teacher))]
    row += ["" if arm == scratch else told_p(welch(*passing)), reached(to_teacher, above=True)]
    row += [spread(values(to_scratch, lambda o, s: o.steps_to(s.accuracy)), ".0f"), reached(to_scratch, above=False)]
    row += [spread(values(to_scratch, lambda o, s: o.steps_to(s.accuracy) / s.steps_to(s.accuracy)), ".2f")]
    row += [spread(values(to_scratch, lambda o, s: o.seconds_to(s.accuracy) / s.seconds_to(s.accuracy)), ".2f")]
    return row


def _passing(outcome: Outcome, teacher: Outcome) -> float:
    return outcome.steps_to(teacher.accuracy, above=True)


def dips(results: Results, arms: Sequence[tuple[str, str]], teacher: str) -> str:
    """How far students fall after growing."""
    head = (
        "training",
        "dip, validation loss",
        "dip, training loss",
        "lowest less teacher's, %",
        "accuracy at the end, %",
    )
    rows = []
    for arm, title in arms:
        if found := pairs(results, arm, teacher):
            row = [title, spread(values(found, Outcome.dip), ".3f"), spread(values(found, Outcome.training_dip), ".3f")]
            row.append(spread(values(found, lambda o, t: 100 * (o.lowest - t.accuracy)), "+.2f"))
            rows.append([*row, spread([100 * outcome.accuracy for outcome, _ in found], ".2f")])
    return table(head, rows)


def compared(results: Results, arms: Sequence[tuple[str, str]], reference: str) -> str:
    """Arms by their loss at the end, tested against one of them."""
    if reference not in results:
        return MISSING
    head = ("training", "validation loss at the end", "p against the first", "accuracy at the end, %", "p")
    first = list(results[reference].values())
    rows = []
    for arm, title in arms:
        if arm in results:
            mine = list(results[arm].values())
            loss = welch([o.loss for o in mine], [o.loss for o in first])
            accuracy = welch([o.accuracy for o in mine], [o.accuracy for o in first])
            tested = ("", "") if arm == reference else (told_p(loss), told_p(accuracy))
            row = [title, spread([o.loss for o in mine], ".4f"), tested[0]]
            rows.append([*row, spread([100 * o.accuracy for o in mine], ".2f"), tested[1]])
    return table(head, rows)


def wider_arms() -> list[tuple[str, str]]:
    """The arms of the first setting."""
    grown = [(f"wider-grown-{rate}", f"Net2Wider, {_rate(rate)}, grown state") for rate in RATES]
    fresh = [(f"wider-fresh-{rate}", f"Net2Wider, {_rate(rate)}, fresh state") for rate in RATES]
    padded = [(f"pad-{rate}", f"random-pad, {_rate(rate)}") for rate in RATES]
    again = [(f"again-{rate}", f"not grown, {_rate(rate)}") for rate in RATES]
    return [("scratch-wider", "from scratch"), *grown, *fresh, *padded, *again]


def state_arms() -> list[tuple[str, str]]:
    """Grown state, with and without factors, and fresh state."""
    found = [(f"wider-{s}-{r}", f"{s} state, {_rate(r)}") for r in RATES for s in ("grown", "fresh")]
    again = [(f"again-{rate}", f"the teacher itself going on, {_rate(rate)}") for rate in RATES]
    return [*found, (f"wider-momenta-{RATE}", f"grown state without factors, {_rate(RATE)}"), *again]


def _rate(rate: float) -> str:
    return {0.1: "a tenth", 0.3: "0.3", 1.0: "full rate"}[rate]


def deeper_arms() -> list[tuple[str, str]]:
    """The arms of the second setting."""
    grown = [(f"deeper-grown-{rate}", f"Net2Deeper, {_rate(rate)}, grown state") for rate in RATES]
    fresh = (f"deeper-fresh-{RATE}", f"Net2Deeper, {_rate(RATE)}, fresh state")
    return [("scratch-deeper", "from scratch"), *grown, fresh]


EXPLORE = [("scratch-explore", "from scratch"), ("explore", f"wider and deeper, {RATE}, grown state")]
RESNET = [
    ("resnet-scratch", "twice as wide, from scratch"),
    ("resnet-wider", f"Net2Wider, {RATE}, grown state"),
    ("resnet-pad", f"random-pad, {RATE}"),
    ("resnet-deeper", f"a block repeated, {RATE}, grown state"),
]
BATCH_NORM = [
    (f"deeper-fresh-{RATE}", "estimated from the batch norm before (default)"),
    ("bn-data", "measured on 256 training images (`--inputs`)"),
    ("bn-identity", "mean 0, variance 1 (`--bn identity`)"),
]


def split_arms(prefix: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Ways to share, with (`dropout`) and without (`split`) dropout; the default first."""
    first = f"wider-fresh-{RATE}" if prefix == "split" else "dropout-ownership"
    others = [name for name in names if name != "ownership"]
    return [
        (first, "ownership"),
        *((f"{prefix}-{name}", name) for name in others),
        (f"{prefix}-noise", "equal + noise"),
    ]
