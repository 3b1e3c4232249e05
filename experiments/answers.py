"""What the results say, in sentences made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from experiments.profiles import RATE, RATES
from experiments.stats import Outcome, Results, welch
from experiments.tables import MISSING, TOO_FEW, pairs, told_p

LEVEL = 0.01
TOLERATED = 0.01
"""How far a student may fall below its teacher's accuracy in the claim."""


@dataclass(frozen=True)
class Claim:
    """The claim about one way of training the wider student, part by part.

    Attributes:
        starts: it begins at the teacher's accuracy.
        holds: it never falls more than `TOLERATED` below it.
        soon: in each seed it reaches the end of training from scratch within a third of the steps.
        tested: Welch's test of the steps that both take to get there is below `LEVEL`.
        sentence: the figures.
    """

    starts: bool
    holds: bool
    soon: bool
    tested: bool
    sentence: str

    @property
    def all(self) -> bool:
        """Whether the whole of it holds."""
        return self.starts and self.holds and self.soon and self.tested


def claim(results: Results, arm: str, *, teacher: str = "teacher", scratch: str = "scratch-wider") -> Claim | None:
    """What becomes of it with one arm; None where results are missing."""
    ours, theirs = pairs(results, arm, teacher), pairs(results, arm, scratch)
    if not ours or not theirs:
        return None
    start = max(abs(o.history[0]["accuracy"] - t.accuracy) for o, t in ours)
    lowest = min(o.lowest - t.accuracy for o, t in ours)
    thirds = [o.first(s.accuracy) is not None and o.steps_to(s.accuracy) <= s.steps / 3 for o, s in theirs]
    # Where it is not reached, as many steps count as training from scratch has: never in the student's favour.
    taken = [o.steps_to(s.accuracy) if o.first(s.accuracy) else s.steps for o, s in theirs]
    test = welch(taken, [s.steps_to(s.accuracy) for _, s in theirs])
    before = sum(o.history[0]["accuracy"] >= s.accuracy for o, s in theirs)
    at_once = f", in {before} of them before its first step," if before else ""
    sentence = (
        f"starts at most {100 * start:.2f} % from the teacher's accuracy, falls to {100 * lowest:+.2f} % at worst, "
        f"reaches the end of training from scratch within a third of its steps in {sum(thirds)} of {len(thirds)} seeds"
        f"{at_once} ({test.difference:+.0f} steps on average, p {told_p(test)})"
    )
    return Claim(start < 1e-9, lowest >= -TOLERATED, all(thirds), test.below(LEVEL) and test.difference < 0, sentence)


PADDED = "random-pad"
WAYS = (("grown state", "wider-grown"), ("fresh state", "wider-fresh"), (PADDED, "pad"))
"""What a student is trained with, and how the names of its arms begin."""


def claims(results: Results) -> str:
    """The claim on wider students, for each learning rate and state."""
    arms = [(f"{title}, {rate} of the teacher's rate", f"{prefix}-{rate}") for title, prefix in WAYS for rate in RATES]
    lines = []
    held = []
    for title, arm in arms:
        if found := claim(results, arm):
            parts = {"starts": found.starts, "never falls": found.holds, "soon": found.soon, "p": found.tested}
            missed = [name for name, true in parts.items() if not true]
            verdict = "**all of it holds**" if found.all else f"fails: {', '.join(missed)}"
            lines.append(f"- {title}: {found.sentence}: {verdict}.")
            held += [title] if found.all else []
    if not lines:
        return MISSING
    students = [title for title in held if not title.startswith(PADDED)]
    first = f"It holds with {' and with '.join(students)}" if students else "**It does not hold as a whole**"
    second = f"{PADDED} meets it too" if len(students) < len(held) else f"{PADDED} does not meet it"
    return "\n".join([f"{first}; {second}.", "", *lines])


def why(results: Results) -> str:
    """What stands in the way of the claim, or helps it: the room above the teacher, and what going on alone brings."""
    lines = [difference(results, "scratch-wider", "teacher", "- From scratch less the teacher, at their ends")]
    padded = pairs(results, "pad-0.1", "teacher")
    if padded:
        start = median(100 * (o.history[0]["accuracy"] - t.accuracy) for o, t in padded)
        lines.append(f"- {PADDED} starts {start:+.2f} % from the teacher's accuracy (median).")
    lines += [_going_on(results, rate) for rate in RATES]
    return "\n".join(line for line in lines if line)


def _going_on(results: Results, rate: float) -> str:
    """What the teacher gains by going on without growing, beside its student."""
    alone = f"again-{rate}"
    going, grown = pairs(results, alone, "teacher"), pairs(results, f"wider-grown-{rate}", alone)
    if not going or not grown:
        return ""
    gain = median(100 * (o.accuracy - t.accuracy) for o, t in going)
    lowest = min(100 * (o.lowest - t.accuracy) for o, t in going)
    test = welch([o.accuracy for o, _ in grown], [o.accuracy for _, o in grown])
    return (
        f"- At {rate} of its rate the teacher itself, going on without growing, ends {gain:+.2f} % from where it was "
        f"(median) and falls to {lowest:+.2f} % at worst; the student with grown state ends "
        f"{100 * test.difference:+.2f} % from that (mean, p {told_p(test)})."
    )


def best(results: Results, arms: Sequence[tuple[str, str]], *, by_loss: bool = True) -> str:
    """Which arm ends best, and whether it can be told from the others."""
    there = {arm: title for arm, title in arms if arm in results}
    if len(there) < 2:
        return TOO_FEW

    def figure(outcome: Outcome) -> float:
        return outcome.loss if by_loss else -outcome.accuracy

    middle = {arm: median(figure(o) for o in results[arm].values()) for arm in there}
    winner = min(middle, key=lambda arm: middle[arm])
    mine = [figure(o) for o in results[winner].values()]
    tests = {a: welch(mine, [figure(o) for o in results[a].values()]) for a in there if a != winner}
    told = ", ".join(f"{there[arm]} (p {told_p(test)})" for arm, test in tests.items())
    surely = [there[arm] for arm, test in tests.items() if test.below(0.05) and test.difference < 0]
    what = "loss" if by_loss else "accuracy"
    first = f"**{there[winner]}** ends with the best median {what}; against {told}"
    return f"{first}. Below p = 0.05: {', '.join(surely) or 'none'}."


def difference(results: Results, arm: str, other: str, what: str) -> str:
    """One arm's accuracy at the end less another's."""
    if arm not in results or other not in results:
        return f"{what}: no results."
    mine, theirs = ([o.accuracy for o in results[name].values()] for name in (arm, other))
    test = welch(mine, theirs)
    return f"{what}: {100 * test.difference:+.2f} % accuracy on average (p {told_p(test)})."


def dip_answer(results: Results) -> str:
    """Grown against fresh state, at each learning rate."""
    lines = []
    for rate in RATES:
        grown, fresh = (pairs(results, f"wider-{state}-{rate}", "teacher") for state in ("grown", "fresh"))
        if grown and fresh:
            mine, theirs = [o.dip(t) for o, t in grown], [o.dip(t) for o, t in fresh]
            test = told_p(welch(mine, theirs))
            again = [o.dip(t) for o, t in pairs(results, f"again-{rate}", "teacher")]
            control = f"; {median(again):.3f} times if the teacher itself goes on at that rate" if again else ""
            lines.append(
                f"- at {rate} of the teacher's rate the largest validation loss is {median(mine):.3f} times the "
                f"teacher's with the grown state and {median(theirs):.3f} times with fresh state (p {test}){control}."
            )
    momenta = pairs(results, f"wider-momenta-{RATE}", "teacher")
    if momenta:
        lines.append(f"- without the factors, at {RATE}: {median([o.dip(t) for o, t in momenta]):.3f}.")
    return "\n".join(lines)


def growing_early(results: Results) -> str:
    """Early against late, with as many steps in all: accuracy and seconds."""
    late = f"wider-grown-{RATES[-1]}"
    if "early" not in results or late not in results:
        return TOO_FEW
    seconds = []
    for seed, outcome in results["early"].items():
        if seed in results[late] and seed in results["teacher"]:
            early = outcome.history[-1][outcome.clock] + _all_seconds(results, "early-teacher", seed)
            seconds.append(early / (_all_seconds(results, late, seed) + _all_seconds(results, "teacher", seed)))
    told = difference(results, "early", late, "Early less late, as many steps in all, both at the full rate")
    return f"{told} Early takes {median(seconds):.2f} of the seconds, since more of the steps are the wide network's."


def _all_seconds(results: Results, arm: str, seed: int) -> float:
    outcome = results[arm][seed]
    return outcome.history[-1][outcome.clock]
