"""Measure everything and print a table. The exit code tells whether it ran, not whether targets were met."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks import commands, large
from benchmarks.timing import Row

PARTS = ("help", "widen", "groups", "large")


def rows(parts: list[str], folder: Path, gib: float, rounds: int) -> Iterator[Row]:
    """All that was asked for, in order."""
    if "help" in parts:
        yield from commands.measure_help(folder, 2 * rounds)
    if "widen" in parts:
        yield from commands.measure_widen(_resnet50(folder), folder, rounds)
    if "groups" in parts:
        from benchmarks.coupling import measure_coupling

        yield from measure_coupling(rounds)
    if "large" in parts:
        yield from large.measure_large(folder, gib, max(3, rounds // 2))


def _resnet50(folder: Path) -> Path:
    """A ResNet-50 as `net2net import` would write it."""
    import torch
    import torchvision

    from net2net_cli.model import Net2Net

    path = folder / "resnet50.safetensors"
    model = torchvision.models.resnet50()
    Net2Net.from_module(model, torch.zeros(1, 3, 224, 224), name="resnet50").save(path, force=True)
    return path


def print_rows(measured: Iterator[Row], console: Console) -> None:
    """Each row as soon as it is there."""
    console.print(f"{'what':30} {'ours':>8}  {'beside':25} {'ratio':>5}  target", style="bold")
    for row in measured:
        beside = "" if row.reference is None else f"{figure(row.reference, row.unit)} {row.against}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        target = "" if row.target is None else f"≤ {row.target:<3g} "
        verdict = {None: "", True: "[green]✓[/]", False: "[red]✗[/]"}[row.met]
        console.print(f"{row.what:30} {figure(row.ours, row.unit):>8}  {beside:25} {ratio:>5}  {target}{verdict}")


def figure(value: float | None, unit: str) -> str:
    """A number with its unit, in three digits."""
    if value is None:
        return ""
    if unit == "s" and value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--gib", type=float, default=1.0, help="size of the large teacher (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each; the median counts (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("bench_output"), help="for files (default: %(default)s)")
    options = parser.parse_args(argv)
    parts: list[str] = options.parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    parent = options.folder.resolve()
    parent.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores; medians of interleaved runs\n")
    with TemporaryDirectory(dir=parent) as folder:
        print_rows(rows(parts, Path(folder), options.gib, options.rounds), console)


if __name__ == "__main__":
    main()
