"""Runs a profile's chains in this process, where data and imports are shared, or prints them as Make's rules.

    python -m experiments.run quick --out results --processes 2
    python -m experiments.run full --out results --make > results/rules.mk

What is there already is not made again. Processes share the work by locking what they make; one that was killed lets go
of its lock, and its training goes on from its last state.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from experiments import inputs, models, train
from experiments.chains import Command, Node, nodes, rules
from experiments.errors import ExperimentError, exit_code_of
from experiments.profiles import PROFILES, Profile
from net2net_cli.growth.plan import SPLITS

MODULES = {"experiments.train": train.main, "experiments.models": models.main, "experiments.inputs": inputs.main}


def with_words(profile: Profile, words: str) -> Profile:
    """A profile with more arguments for every training; of two that are the same, the later one counts."""
    return replace(profile, data=f"{profile.data} {words}".strip(), training=f"{profile.training} {words}".strip())


def run_command(command: Command) -> None:
    """Run one command in this process.

    Raises:
        ExperimentError: it failed.
    """
    code = _net2net(command[1:]) if command[0] == "net2net" else MODULES[command[2]](command[3:])
    if code:
        raise ExperimentError(f"exit code {code} from: {shlex.join(command)}", "run it by itself to see why")


def _net2net(arguments: Sequence[str]) -> int:
    import typer

    from net2net_cli.cli.main import app

    return int(typer.main.get_command(app).main(list(arguments), standalone_mode=False) or 0)


def make_all(found: Sequence[Node]) -> None:
    """Make what is missing; what another process is making is left to it, and so is all that needs what failed.

    Raises:
        ExperimentError: the first failure, once all else is made.
    """
    todo = [node for node in found if not node.target.exists()]
    failed: dict[Path, ExperimentError] = {}
    while todo:
        left = []
        for node in todo:
            if any(need in failed for need in node.needs):
                failed[node.target] = next(failed[need] for need in node.needs if need in failed)
                continue
            try:
                done = _attempt(node)
            except ExperimentError as error:
                sys.stderr.write(f"{time.strftime('%H:%M:%S')} {node.target} failed: {error}\n")
                failed[node.target] = error
            else:
                left += [] if done else [node]
        if len(left) == len(todo):
            time.sleep(1)
        todo = left
    if failed:
        raise next(iter(failed.values()))


def interleaved(found: Sequence[Sequence[Node]]) -> list[Node]:
    """The first of each seed, then the second, and so on: a run that is cut off has as many seeds of each arm."""
    return [node for together in zip(*found, strict=True) for node in together]


def _attempt(node: Node) -> bool:
    """Whether the node is made now."""
    if node.target.exists():
        return True
    if not all(need.exists() for need in node.needs):
        return False
    node.target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(node.target) as mine:
        if mine and not node.target.exists():
            for command in node.commands:
                run_command(command)
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {node.target}\n")
    return mine


@contextmanager
def _locked(target: Path) -> Iterator[bool]:
    """A lock that ends with the process that holds it."""
    with (target.parent / f".{target.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.run", description=__doc__)
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", help="default: as many as the profile says")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--splits", nargs="*", default=SPLITS)
    parser.add_argument("--train", default="", help="more arguments of every training: '--devices 4 --strategy ddp'")
    parser.add_argument("--make", action="store_true", help="print Make's rules, run nothing")
    given = sys.argv[1:] if argv is None else list(argv)
    options = parser.parse_args(given)
    profile = with_words(PROFILES[options.profile], options.train)
    seeds = range(profile.seeds) if options.seeds is None else options.seeds
    found = interleaved([nodes(profile, seed, options.out, options.splits) for seed in seeds])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "profile.json").write_text(json.dumps({"profile": options.profile, "splits": list(options.splits)}))
    if options.make:
        sys.stdout.write(rules(found, options.out))
        return 0
    others = [_another(given) for _ in range(options.processes - 1)]
    code = exit_code_of(lambda: make_all(found))
    return max([code, *(other.wait() for other in others)])


def _another(given: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "experiments.run", *given, "--processes", "1"])


if __name__ == "__main__":
    sys.exit(main())
