"""The table of `make demo`: teachers, and what their students kept."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from net2net_cli import Net2Net

STUDENTS = {"wider": "wider", "deeper": "deeper", "random": "random-padded"}
NOTES = """\
accuracy       on 500 test images of Fashion-MNIST
as teacher     images that get the teacher's answer, right or wrong
largest error  in float64, in standard deviations of the teacher's outputs
seconds        to grow it, and to compare it with its teacher before it appears
random-padded  the paper's baseline: preserves nothing, and is not compared"""


@dataclass(frozen=True, slots=True)
class Row:
    """What is told of one network; of a teacher, only the first three.

    Attributes:
        correct: share of the images that get their label.
        same: share of the images that get the same label as the teacher gives them.
        difference: largest error in float64, in standard deviations of the teacher's output.
        seconds: that growing it took, comparison included.
    """

    name: str
    parameters: int
    correct: float
    same: float | None = None
    difference: float | None = None
    seconds: float | None = None


@torch.no_grad()
def answers(network: Net2Net, images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The class of each image, and how many parameters it took to say."""
    model = network.to_module().eval()
    found = torch.cat([model(part).argmax(1) for part in torch.split(images, 100)])
    return found, sum(parameter.numel() for parameter in model.parameters())


def rows(name: str, samples: Path, out: Path) -> Iterator[Row]:
    """A teacher, then its students."""
    images = load_file(samples / "images.safetensors")
    teacher = Net2Net.load(samples / f"{name}.safetensors")
    expected, parameters = answers(teacher, images["x"])
    yield Row(name, parameters, share(expected == images["label"]))
    for file, title in STUDENTS.items():
        path = out / name / f"{file}.safetensors"
        student = Net2Net.load(path)
        found, parameters = answers(student, images["x"])
        yield Row(
            f"  {title}",
            parameters,
            share(found == images["label"]),
            share(found == expected),
            student.verify(teacher).error,
            path.with_suffix(".ended").stat().st_mtime - path.with_suffix(".begun").stat().st_mtime,
        )


def share(matches: torch.Tensor) -> float:
    """Of True."""
    return matches.double().mean().item()


def table(networks: list[str], samples: Path, out: Path) -> Table:
    """One section for each network."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("network")
    for title in ("parameters", "accuracy", "as teacher", "largest error", "seconds"):
        made.add_column(title, justify="right")
    for name in networks:
        for row in rows(name, samples, out):
            made.add_row(*cells(row), style="bold" if row.difference is None else "")
        made.add_row()
    return made


def cells(row: Row) -> Iterator[str]:
    """A row as it is printed."""
    yield row.name
    yield f"{row.parameters:,}"
    yield f"{row.correct:.1%}"
    if row.same is not None and row.difference is not None and row.seconds is not None:
        yield f"{row.same:.1%}"
        exact = row.difference <= 1e-5
        yield f"[{'green' if exact else 'red'}]{row.difference:.1g}[/]"
        yield f"{row.seconds:.1f}"


def main() -> None:
    """Print the table of the networks that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    console = Console(highlight=False)
    with console.status("comparing on 500 images"):
        made = table(options.networks, options.samples, options.out)
    console.print()
    console.print(made)
    console.print(NOTES, style="dim")


if __name__ == "__main__":
    main()
