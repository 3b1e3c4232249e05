"""Grow every layer of torchvision's networks, compare each student with the original, and write what came out."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.coverage import networks
from benchmarks.coverage.document import refusals, render
from benchmarks.coverage.network import Options
from benchmarks.coverage.progress import Bar
from benchmarks.coverage.records import CRASHED, WRONG, Attempt, Record, Results, append, archived, code_state, read
from benchmarks.coverage.survey import GROWTHS
from benchmarks.coverage.workers import sweep


def main(argv: list[str] | None = None) -> int:
    """Sweep what the command line asks for; 1 where a student is wrong."""
    given = _parser().parse_args(argv)
    chosen = networks.matching(given.networks)
    if not chosen:
        print(f"error: no network matches {' '.join(given.networks)}", file=sys.stderr)
        return 2
    archive = given.document.with_suffix(".jsonl.xz")
    results = Results() if given.only_refusals else read(given.results, archive)
    if not given.render:
        _run(chosen, given, results)
    if given.only_refusals:
        print(refusals(results))
        return 0
    given.document.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(archived(results))
    given.document.write_text(render(results, networks.names(), code_state()), encoding="utf-8")
    print(f"{given.document}: {len(results.attempts)} attempts at {len(results.networks)} networks")
    bad = [one for one in results.attempts.values() if one.outcome in (WRONG, CRASHED)]
    for one in bad:
        print(_said(one), file=sys.stderr)
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make coverage-sweep", description=__doc__)
    more = parser.add_argument
    more("--networks", nargs="+", default=["*"], metavar="GLOB", help="which networks (default: all 95)")
    more("--layers", nargs="+", default=["*"], metavar="GLOB", help="which layers and blocks (default: all)")
    more("--growths", nargs="+", default=list(GROWTHS), choices=GROWTHS, help="which kinds of growth (default: all)")
    more("--sample", type=int, metavar="N", help="at most N attempts a network, drawn at random")
    more("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    more("--minutes", type=float, metavar="M", help="begin nothing new after M minutes; run it again to go on")
    more("--workers", type=int, default=1, metavar="N", help="networks at once, one core each (default: %(default)s)")
    more("--reuse", action="store_true", help="keep results of other versions of the tool instead of replacing them")
    more("--again", action="store_true", help="make attempts that were made before once more")
    more("--alone", action="store_true", help="a student for each growth, instead of one for many that do not touch")
    more("--only-refusals", action="store_true", help="make no student; print what is refused, and keep nothing")
    more("--render", action="store_true", help="grow nothing: write the document from what is there")
    more("--results", type=Path, default=Path("coverage_output/results.jsonl"), help="default: %(default)s")
    more(
        "--document",
        type=Path,
        default=Path("docs/COVERAGE.md"),
        help="beside it all results, compressed, to go on from (default: %(default)s)",
    )
    return parser


def _run(chosen: list[str], given: argparse.Namespace, results: Results) -> None:
    """Sweep, and keep each result as soon as it is there."""
    deadline = float("inf") if given.minutes is None else time.time() + 60 * given.minutes
    options = Options(
        *(tuple(given.layers), tuple(given.growths), given.sample, given.seed, deadline),
        *(given.reuse, given.again, given.only_refusals, given.alone),
    )
    bar = Bar({name: networks.millions(name) for name in chosen}, given.workers)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=given.results.parent.resolve()) as folder, bar.progress, _stoppable():
        records = sweep(chosen, options, results, Path(folder), given.workers, bar)
        with closing(records):
            _keep(records, None if given.only_refusals else given.results, results, bar)


def _keep(records: Iterable[Record], path: Path | None, results: Results, bar: Bar) -> None:
    """Each record as soon as it is there."""
    for record in records:
        if path is not None:
            append(path, [record])
        results.add(record)
        bar.record(record)
        if isinstance(record, Attempt) and record.outcome in (WRONG, CRASHED):
            bar.progress.console.print(_said(record), markup=False)


def _said(bad: Attempt) -> str:
    return f"{bad.outcome}: {bad.network} {bad.layer} {bad.growth}: {bad.cause or bad.error}"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a sweep like a deadline: the document is written from what was found."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
