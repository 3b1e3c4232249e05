"""Kill net2net with SIGKILL at moments that are uniform over its run time, and look at what is there afterwards."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.crash.killing import FOUND, Tally, kill_often
from benchmarks.crash.scenarios import on_large, on_samples

HEAD = ("kills", "running", *FOUND, "temporary", "WRONG")


def print_row(name: str, cells: list[object]) -> None:
    """One line of the table."""
    print(
        f"{name:32}" + "".join(f"{cell!s:>{max(7, len(title) + 2)}}" for cell, title in zip(cells, HEAD, strict=True))
    )


def cells(tally: Tally) -> list[object]:
    """The figures of a scenario, or of all together."""
    found = [tally.found[name] for name in FOUND]
    return [tally.kills, tally.running, *found, tally.part_files, len(tally.wrong)]


def main() -> None:
    """Kill as often as the command line asks; the exit code is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="in all (default: %(default)s)")
    parser.add_argument("--gib", type=float, default=0, help="on a checkpoint of this size instead of the samples")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--only", default="", help="scenarios whose names contain this")
    parser.add_argument(
        "--proof", action=argparse.BooleanOptionalAction, default=True, help="prove the students that kills must leave"
    )
    parser.add_argument("--folder", type=Path, default=Path("bench_output"), help="for files (default: %(default)s)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=options.folder.resolve()) as name:
        folder = Path(name)
        scenarios = on_large(folder, options.gib) if options.gib else on_samples(folder)
        scenarios = [scenario for scenario in scenarios if options.only in scenario.name]
        total = sum(scenario.share for scenario in scenarios)
        rng, sum_of_all = random.Random(options.seed), Tally("all")
        print_row("", list(HEAD))
        for scenario in scenarios:
            kills = max(1, round(options.kills * scenario.share / total))
            tally = kill_often(scenario, kills, folder, rng, jobs=options.jobs, proof=options.proof)
            print_row(f"{scenario.name} ({max(tally.seconds):.2f} s)", cells(tally))
            print(*(f"  {wrong}" for wrong in tally.wrong), sep="\n", end="\n" * bool(tally.wrong), flush=True)
            for key in ("kills", "running", "found", "part_files", "wrong"):
                setattr(sum_of_all, key, getattr(sum_of_all, key) + getattr(tally, key))
        print_row("all", cells(sum_of_all))
    sys.exit(bool(sum_of_all.wrong))


if __name__ == "__main__":
    main()
