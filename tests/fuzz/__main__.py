"""`make fuzz`: hostile files through the real commands, for a time or a number; exit code 1 if one breaks a rule."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz import guided
from fuzz.driver import Runner, Tally, campaign

READERS_SHARE = 0.2
"""Of the time, for readers by themselves."""


def main(argv: list[str] | None = None) -> int:
    """Try what the command line asks for."""
    given = _parser().parse_args(argv)
    with TemporaryDirectory(prefix="net2net-fuzz-") as folder:
        runner = Runner(Path(folder), every=not given.few)
        if given.only is not None:
            return _only(runner, given.seed, given.only, given.keep)
        total, commit = Tally(), _commit()
        began = time.monotonic()
        share = 1.0 if given.no_readers else 1 - READERS_SHARE
        until = began + 60 * given.minutes * share if given.minutes else float("inf")
        tried = campaign(runner, given.seed, inputs=given.inputs, until=until, workers=given.workers, first=given.first)
        with suppress(KeyboardInterrupt), closing(tried):
            for some in tried:
                for finding in some.found.keys() - total.found.keys():
                    print(f"\n{finding} (--only {some.found[finding][0]})\n{some.said[finding]}", file=sys.stderr)
                total.add(some)
                _progress(total, time.monotonic() - began)
    print(f"\n{account(total, time.monotonic() - began, given.seed, commit)}", flush=True)
    broken = bool(total.found)
    if given.minutes and not given.no_readers:
        broken |= bool(guided.main(["--minutes", str(given.minutes * READERS_SHARE)]))
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    more = parser.add_argument
    more("--minutes", type=float, help="begin nothing new after so many minutes")
    more("--inputs", type=int, help="try so many inputs")
    more("--first", type=int, default=0, metavar="NUMBER", help="number of the first input (default: %(default)s)")
    more("--seed", type=int, default=0, help="of all inputs (default: %(default)s)")
    more("--workers", type=int, default=2, help="processes (default: %(default)s)")
    more("--no-readers", action="store_true", help="no coverage-guided fuzzing of single readers at the end")
    more("--few", action="store_true", help="start from a few networks instead of all")
    more("--only", type=int, metavar="NUMBER", help="run this one input, and tell all about it")
    more("--keep", type=Path, metavar="FOLDER", help="with --only: where its files go")
    return parser


def _only(runner: Runner, seed: int, number: int, keep: Path | None) -> int:
    """One input, with all that is known about it."""
    runner.keep = keep
    tally = runner.try_some(seed, [number])
    print(tally.tried)
    print("\n".join(f"{finding}\n{told}" for finding, told in tally.said.items()) or "no rule was broken")
    return 1 if tally.found else 0


def _progress(total: Tally, seconds: float) -> None:
    tried = sum(total.tried.values())
    rate = tried / seconds
    print(f"\r{tried} inputs, {rate:.0f} a second, {len(total.found)} findings", end="", file=sys.stderr, flush=True)


def account(total: Tally, seconds: float, seed: int, commit: str) -> str:
    """What was tried on which commit, and what was found."""
    kinds = Counter[str]()
    for (kind, _), number in total.tried.items():
        kinds[kind] += number
    lines = [f"{sum(kinds.values())} inputs in {seconds:.0f} s, seed {seed}, commit {commit}"]
    for kind, number in sorted(kinds.items()):
        codes = ", ".join(f"{n} × {code}" for (k, code), n in sorted(total.tried.items()) if k == kind)
        lines.append(f"  {kind:<12} {number:>6}   exit codes: {codes}")
    lines.append(f"{len(total.found)} findings")
    for finding, numbers in sorted(total.found.items(), key=lambda item: -len(item[1])):
        lines.append(f"\n{len(numbers)} × {finding}\n  --only {numbers[0]}\n{total.said[finding]}")
    return "\n".join(lines)


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
