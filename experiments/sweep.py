"""The learning rate of students: a seeded grid search by Optuna over rates, with grown and with fresh state.

`python -m experiments.sweep quick -o results` makes what is missing, judges each point by its median accuracy at the
end, and writes `results/sweep.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import optuna

from experiments.chains import Node, arms, nodes, result_of
from experiments.errors import exit_code_of
from experiments.profiles import PROFILES, RATES, Profile
from experiments.run import make_all, with_words
from experiments.stats import SWEEP

STATES = ("grown", "fresh")


def sweep(profile: Profile, seeds: Sequence[int], folder: Path) -> dict[str, object]:
    """All points of the grid; the best one, and what each came to."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    there = {arm.name for arm in arms(profile)}
    rates = [rate for rate in RATES if all(f"wider-{state}-{rate}" in there for state in STATES)]
    grid = {"rate": rates, "state": list(STATES)}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(grid, seed=0))

    def accuracy(trial: optuna.Trial) -> float:
        rate, state = trial.suggest_categorical("rate", rates), trial.suggest_categorical("state", STATES)
        found = []
        for seed in seeds:
            target = result_of(folder, seed, f"wider-{state}-{rate}")
            make_all(needed(profile, seed, folder, target))
            found.append(json.loads(target.read_text(encoding="utf-8"))["history"][-1]["accuracy"])
        return float(median(found))

    study.optimize(accuracy, n_trials=len(rates) * len(STATES))
    trials = [{**trial.params, "accuracy": trial.value} for trial in study.trials]
    return {"best": study.best_params, "accuracy": study.best_value, "trials": trials, "seeds": list(seeds)}


def needed(profile: Profile, seed: int, folder: Path, target: Path) -> list[Node]:
    """The nodes that a target is made from, and its own."""
    every = {node.target: node for node in nodes(profile, seed, folder)}
    wanted = {target}
    for node in reversed(every.values()):
        if node.target in wanted:
            wanted |= set(node.needs)
    return [node for node in every.values() if node.target in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sweep", description=__doc__)
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", help="default: as many as the profile says")
    parser.add_argument("--train", default="", help="as for `experiments.run`")
    options = parser.parse_args(argv)
    profile = with_words(PROFILES[options.profile], options.train)
    seeds = list(range(profile.seeds)) if options.seeds is None else options.seeds

    def run() -> None:
        told = json.dumps(sweep(profile, seeds, options.out))
        (options.out / SWEEP).write_text(told + "\n", encoding="utf-8")

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
