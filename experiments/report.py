"""The document: tables, plots and answers, the same from the same results.

`python -m experiments.report RESULTS --document docs/EXPERIMENTS.md`; plots go beside it, into `experiments/` (the
document's name in small letters), and so do all results, compressed: the next document is made from them and from what
was run since, such as further seeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments import answers, plots, tables
from experiments.chains import arms, nodes
from experiments.errors import ExperimentError, exit_code_of
from experiments.profiles import DEFAULT, NARROW, PROFILES, RATE, Profile
from experiments.stats import SWEEP, Results, archived, read_results

INTRODUCTION = """\
# Does growing help?

The Net2Net paper's experiments (arXiv:1511.05641), with `net2net` doing the growing and `experiments/train.py` the
training. `make experiments{how}` makes this file; every figure in it, and every sentence with a figure, is computed
from the results. Do not edit it.
"""

READING = """\
Figures are medians over seeds, with the smallest and largest in brackets. *p* is Welch's test, two-sided. A student's
own steps count, not its teacher's. Tests are not corrected for being many. Where a training never reaches an accuracy,
all of its steps are counted, which flatters it; the next column says in how many seeds it did. *Lowest less teacher's*
is the lowest accuracy that a student had at any validation; *dip* is the largest loss in the first 200 steps over the
teacher's last. Learning rates are in units of the teacher's peak, and fall to 0 along a cosine. Seconds are those of
training alone, without validation: of the processor on CPUs, of the clock on GPUs.
"""


def render(results: Results, told: dict[str, object], sweep: dict[str, object] | None, folder: Path) -> str:
    """The document; plots are written into `folder`.

    Args:
        results: of all arms.
        told: `profile.json`: the profile's name, and the splits that were compared.
        sweep: `sweep.json`, if there is one.
        folder: of the plots, named as seen from the document.
    """
    name, splits = str(told["profile"]), list(told["splits"])  # type: ignore[call-overload]  # JSON
    how = "" if name == DEFAULT else f" EXPERIMENTS='PROFILE={name}'"
    parts = [INTRODUCTION.format(how=how), _setting(results, name, splits), READING]
    sections = _sections(results, splits, sweep, folder)
    missing = [title for title, body in sections if tables.RULE not in body and tables.is_missing(body)]
    for title, body in sections:
        parts += [] if title in missing else [f"## {title}\n", body]
    if missing:
        parts += ["## Not run\n", "\n".join(f"- {title}" for title in missing)]
    parts += ["## Commands\n", _commands(name)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _setting(results: Results, name: str, splits: Sequence[str]) -> str:
    profile = PROFILES[name]
    seeds = sorted({seed for outcomes in results.values() for seed in outcomes})
    complete = [seed for seed in seeds if all(seed in results.get(arm.name, {}) for arm in arms(profile, splits))]
    machines = sorted(
        {json.dumps(o.machine, sort_keys=True) for outcomes in results.values() for o in outcomes.values()}
    )
    hardware = "; ".join(
        f"{m['device']}, {m['processes']} process of {m['threads']} thread(s), torch {m['torch']}"
        for m in map(json.loads, machines)
    )
    sized = f"| how it was sized | {profile.note} |\n" if profile.note else ""
    short = "" if len(complete) >= profile.seeds else f" **The profile asks for {profile.seeds} seeds.**"
    return f"""\
| | |
|---|---|
| profile | `{name}` |
| seeds | {", ".join(map(str, seeds))}; all trainings are there for {len(complete)} of them.{short} |
| hardware | {hardware} |
| data | `{profile.data}`; images that judge are the last of the training set, never the test set |
| training | `{profile.training}`, learning rate {profile.rate:g} |
| steps | teachers {profile.teacher}, from scratch {profile.scratch}, students {profile.student} |
| networks | `{profile.inception}` at width √0.3 = {NARROW:.3f} and 1, `{profile.resnet}` |
{sized}"""


def _sections(
    results: Results, splits: list[str], sweep: dict[str, object] | None, folder: Path
) -> list[tuple[str, str]]:
    def picture(name: str, arms: Sequence[tuple[str, str]], teacher: str, figure: str = "accuracy") -> str:
        drawn = plots.draw(results, arms, folder / f"{name}.svg", teacher=teacher, figure=figure)
        return f"\n\n![{name}]({folder.name}/{name}.svg)\n" if drawn else ""

    wider, state, deeper = tables.wider_arms(), tables.state_arms(), tables.deeper_arms()
    plain, dropped = tables.split_arms("split", splits), tables.split_arms("dropout", splits)
    grown = [arm for arm in wider if "fresh" not in arm[0]]
    found = [
        (
            "Wider: the claim",
            "A student reaches its teacher's accuracy at step 0, never falls more than 1 % below it, and reaches the "
            "final accuracy of training from scratch in at most a third of the steps, with p < 0.01; random-pad does "
            f"not.\n\n{answers.claims(results)}\n\nWhy:\n\n{answers.why(results)}\n\n"
            f"{tables.against(results, wider, 'teacher', 'scratch-wider')}" + picture("wider", grown, "teacher"),
        ),
        ("The learning rate", _rates(results, sweep)),
        (
            "Optimizer state: the dip after growing",
            f"{answers.dip_answer(results)}\n\n{tables.dips(results, state, 'teacher')}"
            + picture("dip", state, "teacher", "losses"),
        ),
        (
            "How copies share",
            f"Without dropout: {answers.best(results, plain)}\n\n{tables.compared(results, plain, plain[0][0])}\n\n"
            f"With dropout: {answers.best(results, dropped)}\n\n{tables.compared(results, dropped, dropped[0][0])}"
            + picture("splits", plain, "teacher", "valid_loss"),
        ),
        (
            "Deeper",
            "The standard network's trained model gets new layers inside its modules.\n\n"
            f"{tables.against(results, deeper, 'scratch-wider', 'scratch-deeper')}"
            + picture("deeper", deeper, "scratch-wider"),
        ),
        (
            "Deeper: how new batch norms start",
            f"{answers.best(results, tables.BATCH_NORM)}\n\n"
            f"{tables.dips(results, tables.BATCH_NORM, 'scratch-wider')}\n\n"
            f"{tables.compared(results, tables.BATCH_NORM, tables.BATCH_NORM[0][0])}",
        ),
        (
            "Exploration: wider and deeper than the standard network",
            tables.against(results, tables.EXPLORE, "scratch-wider", "scratch-explore")
            + picture("explore", tables.EXPLORE, "scratch-wider"),
        ),
        (
            "A residual network",
            tables.against(results, tables.RESNET, "resnet-teacher", "resnet-scratch")
            + picture("resnet", tables.RESNET, "resnet-teacher"),
        ),
        ("Once or twice, early or late", _when(results)),
    ]
    return [(title, body) for title, body in found]


def _rates(results: Results, sweep: dict[str, object] | None) -> str:
    grid = [arm for arm in tables.state_arms() if arm[0].split("-")[1] in ("grown", "fresh")]
    parts = [answers.best(results, grid, by_loss=False), ""]
    for state in ("grown", "fresh"):
        test = answers.difference(
            results, f"wider-{state}-0.1", f"wider-{state}-1.0", f"- {state} state, a tenth less full"
        )
        parts.append(test)
    if sweep:
        parts.append(f"\nThe sweep (Optuna, grid, seed 0) picks `{json.dumps(sweep['best'])}`.")
    return "\n".join(parts)


def _when(results: Results) -> str:
    told = answers.difference(results, "twice", "once", "- Twice by √2 less once by 2, as many steps in all")
    rows = [("once", "once by 2"), ("twice", "twice by √2"), ("early", "early"), ("wider-grown-1.0", "late")]
    return f"{told}\n- {answers.growing_early(results)}\n\n{tables.compared(results, rows, 'once')}"


def _commands(name: str) -> str:
    """One of each kind, of seed 0."""
    profile: Profile = PROFILES[name]
    wanted = (
        "teacher/result.json",
        "students/teacher-widen.safetensors",
        f"wider-grown-{RATE}/result.json",
        "students/teacher-random-pad.safetensors",
        "students/scratch-wider-deepen.safetensors",
        "students/scratch-wider-deepen-reset.safetensors",
    )
    every = {str(node.target): node for node in nodes(profile, 0, Path("results"))}
    found = [every[f"results/seed0/{part}"] for part in wanted if f"results/seed0/{part}" in every]
    lines = [shlex.join(command) for node in found for command in node.commands]
    listing = (
        f"`python -m experiments.run {name} -o results --make` prints all of them as Make's rules. Some, of seed 0:"
    )
    return "\n".join([listing, "", "```console", *(f"$ {line}" for line in lines), "```"])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--document", type=Path, default=Path("docs/EXPERIMENTS.md"))
    options = parser.parse_args(argv)

    def run() -> None:
        archive = options.document.with_name(options.document.stem.lower()) / "results.json.xz"
        nothing = ExperimentError(f"`{options.results}` has no results yet", "`make experiments` makes them")
        profile = options.results / "profile.json"
        if not profile.exists():
            raise nothing
        told = json.loads(profile.read_text(encoding="utf-8"))
        setting = repr(replace(PROFILES[told["profile"]], seeds=0, note=""))
        results = read_results(options.results, archive, setting)
        if not {"teacher", "scratch-wider"} <= results.keys():
            raise nothing
        swept = options.results / SWEEP
        sweep = json.loads(swept.read_text(encoding="utf-8")) if swept.exists() else None
        archive.parent.mkdir(parents=True, exist_ok=True)
        text = render(results, told, sweep, archive.parent)
        for plot in archive.parent.glob("*.svg"):  # of questions that have no table
            if f"/{plot.name})" not in text:
                plot.unlink()
        archive.write_bytes(archived(results, setting))
        options.document.write_text(text, encoding="utf-8")

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
