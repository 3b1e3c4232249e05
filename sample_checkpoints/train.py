"""Trains the sample teachers on Fashion-MNIST and writes them, the test images and the table of the README.

`make samples` runs it: about 20 minutes on two CPU cores. Same seed, same machine, same number of threads: same files.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from net2net_cli import Net2Net
from net2net_cli.networks import inception_v2, lenet5, small_resnet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CACHE = Path.home() / ".cache" / "net2net"
MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images, scaled to 0…1
BATCH = 128
IMAGES_PER_CLASS = 50
TABLE_START, TABLE_END = "<!-- table: written by train.py -->", "<!-- end of table -->"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one sample is built and trained."""

    build: Callable[[], nn.Module]
    function: str
    description: str
    epochs: int
    peak_rate: float


RECIPES = {
    "lenet5": Recipe(lenet5, "lenet5", "`lenet5()`", epochs=15, peak_rate=5e-3),
    "resnet": Recipe(small_resnet, "small_resnet", "`small_resnet()`: ResNet-14", epochs=5, peak_rate=1e-2),
    "inception_v2": Recipe(
        lambda: inception_v2(width=0.25, num_classes=10, in_channels=1, stem="small"),
        "inception_v2",
        '`inception_v2(width=0.25, num_classes=10, in_channels=1, stem="small")`',
        epochs=3,
        peak_rate=5e-3,
    ),
}


class Split(NamedTuple):
    """Images `(n, 1, 28, 28)` float32, normalised, and their labels `(n,)` int64."""

    x: Tensor
    label: Tensor


def read_idx(path: Path, offset: int) -> Tensor:
    """The bytes of an idx file behind its header, flat."""
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=offset).copy())


def read_split(folder: Path, prefix: str) -> Split:
    """One of `train` and `t10k`, normalised as `(pixel / 255 − MEAN) / STD`."""
    pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", offset=16).view(-1, 1, 28, 28)
    label = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", offset=8).long()
    return Split((pixels.float() / 255 - MEAN) / STD, label)


def find_data(folder: Path) -> Path:
    """`folder` if it holds Fashion-MNIST, else a folder to which torchvision has downloaded it."""
    if (folder / "train-images-idx3-ubyte.gz").exists():
        return folder
    from torchvision.datasets import FashionMNIST  # imported late: seconds, and seldom needed

    print(f"no Fashion-MNIST in {folder}: downloading it to {CACHE}", file=sys.stderr)
    try:
        FashionMNIST(str(CACHE), download=True)
    except (OSError, RuntimeError) as error:
        sys.exit(
            f"error: cannot download Fashion-MNIST: {str(error).strip()}\n\n"
            "hint: `apt install dataset-fashion-mnist` (Debian, Ubuntu), or pass the folder of its four .gz files as "
            "`--data DIR`; they are at https://github.com/zalandoresearch/fashion-mnist"
        )
    return CACHE / "FashionMNIST" / "raw"


def batches(data: Split, generator: torch.Generator) -> Iterator[Split]:
    """One epoch in random order; each image is mirrored with probability one half."""
    for chosen in torch.split(torch.randperm(len(data.label), generator=generator), BATCH):
        x = data.x[chosen]
        mirrored = torch.rand(len(chosen), 1, 1, 1, generator=generator) < 0.5
        yield Split(torch.where(mirrored, x.flip(3), x), data.label[chosen])


def train(recipe: Recipe, data: Split, seed: int) -> nn.Module:
    """A model trained with AdamW and a one-cycle learning rate, in eval mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = recipe.build().to(memory_format=torch.channels_last)  # twice as fast on CPUs
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = recipe.epochs * -(-len(data.label) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        for x, label in batches(data, generator):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), label)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch + 1} of {recipe.epochs}: last loss {loss.item():.3f}", flush=True)
    return model.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def count_correct(model: nn.Module, data: Split) -> int:
    """How many images of `data` get their label."""
    parts = zip(torch.split(data.x, 500), torch.split(data.label, 500), strict=True)
    return sum(int((model(x).argmax(1) == label).sum()) for x, label in parts)


def choose_images(test: Split) -> Split:
    """The first `IMAGES_PER_CLASS` test images of each class, in the order of the test set."""
    per_class = [(test.label == label).nonzero()[:IMAGES_PER_CLASS, 0] for label in range(10)]
    chosen = torch.cat(per_class).sort().values
    return Split(test.x[chosen], test.label[chosen])


@torch.no_grad()
def write_sample(name: str, model: nn.Module, example_input: Tensor) -> Path:
    """Write a sample with its spec, and check that what was written computes what `model` computes."""
    path = HERE / f"{name}.safetensors"
    source = f"net2net_cli.networks:{RECIPES[name].function}"
    Net2Net.from_module(model, example_input, name=name, source=source).save(path, force=True)
    again = Net2Net.load(path).to_module().eval()
    torch.testing.assert_close(again(example_input), model(example_input), rtol=0, atol=0)
    return path


def table_row(name: str, model: nn.Module, path: Path, test: Split, images: Split) -> str:
    """One Markdown row of the README's table."""
    recipe = RECIPES[name]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    accuracy = f"{100 * count_correct(model, test) / len(test.label):.2f} %"
    shipped = f"{count_correct(model, images)} of {len(images.label)}"
    size = f"{path.stat().st_size / 1e6:.2f} MB"
    cells = f"`{path.name}`", recipe.description, f"{parameters:,}", str(recipe.epochs), accuracy, shipped, size
    return f"| {' | '.join(cells)} |"


def update_readme(rows: dict[str, str]) -> None:
    """Put the rows in place of those of the same files in the README's table."""
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(TABLE_START)
    table, after = rest.split(TABLE_END)
    head, rule, *old = table.strip().splitlines()
    by_name = {line.split("`")[1].removesuffix(".safetensors"): line for line in old} | rows
    body = "\n".join([head, rule, *(by_name[name] for name in RECIPES if name in by_name)])
    readme.write_text(f"{before}{TABLE_START}\n{body}\n{TABLE_END}{after}")


def main() -> None:
    """Train, measure and write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"samples to train: {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder of the four .gz files (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and mirroring (%(default)s)")
    options = parser.parse_args()
    names: list[str] = options.names or list(RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"no such sample: {', '.join(unknown)}")
    torch.set_num_threads(options.threads)

    folder = find_data(options.data)
    data, test = read_split(folder, "train"), read_split(folder, "t10k")
    images = choose_images(test)
    save_file(images._asdict(), HERE / "images.safetensors")
    rows = {}
    for name in names:
        print(f"{name}: {RECIPES[name].description}", flush=True)
        model = train(RECIPES[name], data, options.seed)
        path = write_sample(name, model, images.x[:2])
        rows[name] = table_row(name, model, path, test, images)
        print(f"  {rows[name]}", flush=True)
        update_readme(rows)


if __name__ == "__main__":
    main()
