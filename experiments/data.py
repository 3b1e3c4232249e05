"""Labelled images: digits, Fashion-MNIST, CIFAR-10, or folders of images as ImageNet has them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision import datasets
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from experiments.errors import ExperimentError

DATASETS = ("digits", "fashion-mnist", "cifar10", "imagefolder")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
FASHION_VALIDATION = 10_000
"""The last images of the training set judge; the test set is for whoever wants a figure that nothing was chosen by."""

MEAN_STD: dict[str, tuple[list[float], list[float]]] = {
    "digits": ([0.3053], [0.3764]),
    "fashion-mnist": ([0.2860], [0.3530]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "imagefolder": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
Place = tuple[int, int]
"""An image's number, and the seed of the draws of the batch that it is in."""


@dataclass(frozen=True)
class Source:
    """Which images, and how they are prepared.

    Attributes:
        size: height and width in pixels; None leaves small images as they are, and gives folders 224.
        augment: `none`, `flip` (mirrored at random) or `crop` (cropped at random as well).
        train_images: how many of them are trained on, drawn by a seed of their own; None is all.
        valid_images: how many judge.
        download: whether torchvision may fetch what is not there.
    """

    name: str
    folder: Path | None = None
    size: int | None = None
    augment: str = "none"
    train_images: int | None = None
    valid_images: int | None = None
    download: bool = False


class Labelled(Protocol):
    """A set of images that hands out whole batches."""

    def __len__(self) -> int: ...

    def __getitems__(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]: ...


Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Of a batch of images, drawing from a generator on the CPU."""


class Images(Dataset[Any]):
    """Images in memory, of the host or of a device.

    Args:
        pixels: `(n, channels, height, width)`, uint8.
        labels: `(n,)`, int64.
        prepare: uint8 images `(n, …)` -> float32 images, normalised.
        augment: of the images that are trained on.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        prepare: Callable[[Tensor], Tensor],
        augment: Augment | None = None,
    ) -> None:
        self.pixels, self.labels, self.prepare, self.augment = pixels, labels, prepare, augment

    def __len__(self) -> int:
        return len(self.labels)

    def on(self, device: torch.device) -> Images:
        """The same images in the device's memory, where batches are then made."""
        return Images(self.pixels.to(device), self.labels.to(device), self.prepare, self.augment)

    def __getitems__(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        """`(n, channels, height, width)` float32 and `(n,)` int64; the same places give the same batch."""
        numbers = torch.tensor([number for number, _ in places], device=self.pixels.device)
        pixels = self.pixels[numbers]
        if self.augment is not None:
            pixels = self.augment(pixels, torch.Generator().manual_seed(places[0][1]))
        return self.prepare(pixels), self.labels[numbers]


def flipped(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Each image of a batch mirrored, or not."""
    chosen = torch.rand(len(pixels), 1, 1, 1, generator=draw) < 0.5
    return torch.where(chosen.to(pixels.device), functional.horizontal_flip(pixels), pixels)


def cropped(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Each image of a batch mirrored or not, and moved by at most an eighth of its width; what comes in is black.

    As torchvision's `RandomHorizontalFlip` and `RandomCrop` do with one image; those draw once for a whole batch.
    """
    count, _, height, width = pixels.shape
    most = max(1, width // 8)
    padded = functional.pad(flipped(pixels, draw), [most])
    top, left = torch.randint(2 * most + 1, (2, count, 1), generator=draw)
    rows, columns = (top + torch.arange(height)).to(pixels.device), (left + torch.arange(width)).to(pixels.device)
    batch = torch.arange(count, device=pixels.device)
    found: Tensor = padded[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return found.movedim(-1, 1)


class Folders(Dataset[Any]):
    """Images on disk, one folder a class, decoded when they are asked for."""

    def __init__(self, folder: Path, chosen: Sequence[int], transform: Callable[[Any], Tensor]) -> None:
        self.images = datasets.ImageFolder(str(folder), transform=transform)
        self.chosen = chosen or range(len(self.images))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitems__(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        """As those of `Images`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(places[0][1])
            found = [self.images[self.chosen[number]] for number, _ in places]
        return torch.stack([image for image, _ in found]), torch.tensor([label for _, label in found])


@dataclass(frozen=True)
class Data:
    """What trains, what judges, and how many classes there are."""

    train: Labelled
    valid: Labelled
    classes: int

    def on(self, device: torch.device) -> Data:
        """The same; images that are in memory at all are then in the device's."""
        train, valid = (part.on(device) if isinstance(part, Images) else part for part in (self.train, self.valid))
        return Data(train, valid, self.classes)


class Steps(Sampler[list[Place]]):
    """The batches of one process, for all steps that are left: shuffled anew in each epoch, the last part left out.

    What a step sees depends on the seed and its number alone, so that a run that was killed goes on as if it had not
    been.

    Args:
        images: how many there are.
        batch: images a step, over all processes.
        first, last: steps from `first` up to, not including, `last`.
        seed: of the order.
        rank, world: which of the processes this is, of how many.
    """

    def __init__(
        self, images: int, batch: int, first: int, last: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.images, self.batch, self.first, self.last = images, batch, first, last
        self.seed, self.rank, self.world = seed, rank, world

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[Place]]:
        an_epoch = self.images // self.batch
        order, epoch = torch.empty(0), -1
        for step in range(self.first, self.last):
            if epoch != step // an_epoch:
                epoch = step // an_epoch
                order = torch.randperm(self.images, generator=torch.Generator().manual_seed(mixed(self.seed, epoch)))
            at = step % an_epoch * self.batch
            mine = order[at : at + self.batch][self.rank :: self.world].tolist()
            drawn = mixed(self.seed, step, self.rank)
            yield [(number, drawn) for number in mine]


def mixed(*numbers: int) -> int:
    """A seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def as_it_is(batch: Any) -> Any:
    """The collate function of data sets that hand out whole batches."""
    return batch


@lru_cache(maxsize=2)
def load(source: Source) -> Data:
    """Read what is in memory at once; the same source is read only once.

    Raises:
        ExperimentError: the data is not there; says how to get it.
    """
    if source.name == "imagefolder":
        return _folders(source)
    train, valid = {"digits": _digits, "fashion-mnist": _fashion_mnist, "cifar10": _cifar10}[source.name](source)
    train, valid = _some(*train, source.train_images), _some(*valid, source.valid_images)
    size = source.size or train[0].shape[-1]
    shrink = v2.Resize(size, antialias=True)
    mean, std = MEAN_STD[source.name]
    prepare = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    augment = {"none": None, "flip": flipped, "crop": cropped}[source.augment]
    classes = int(train[1].max()) + 1
    return Data(
        Images(shrink(train[0]), train[1], prepare, augment), Images(shrink(valid[0]), valid[1], prepare), classes
    )


def _some(pixels: Tensor, labels: Tensor, count: int | None) -> tuple[Tensor, Tensor]:
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:count]
    return pixels[chosen], labels[chosen]


Split = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def _digits(source: Source) -> Split:
    """1,797 images of 8×8 that scikit-learn ships; a fifth of them judges."""
    del source
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(found.images * (255 / 16)).round().to(torch.uint8)[:, None][order]
    labels = torch.from_numpy(found.target).long()[order]
    fifth = len(order) // 5
    return (pixels[fifth:], labels[fifth:]), (pixels[:fifth], labels[:fifth])


def _fashion_mnist(source: Source) -> Split:
    """60,000 images of 28×28, from its four .gz files or as torchvision keeps it."""
    folder = source.folder or DEBIAN_FOLDER
    if all((folder / name).exists() for name in FASHION_FILES):
        pixels, labels = _read_idx(folder / FASHION_FILES[0], 16), _read_idx(folder / FASHION_FILES[1], 8)
    else:
        found = _fetched(datasets.FashionMNIST, source, "Fashion-MNIST", "apt install dataset-fashion-mnist")
        pixels, labels = found.data, found.targets
    pixels, labels = pixels.view(-1, 1, 28, 28), labels.long()
    kept = len(labels) - FASHION_VALIDATION
    return (pixels[:kept], labels[:kept]), (pixels[kept:], labels[kept:])


def _read_idx(path: Path, offset: int) -> Tensor:
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=offset).copy())


def _cifar10(source: Source) -> Split:
    """50,000 colour images of 32×32; the last 10,000 judge."""
    found = _fetched(datasets.CIFAR10, source, "CIFAR-10", None)
    pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(found.targets)
    return (pixels[:-10_000], labels[:-10_000]), (pixels[-10_000:], labels[-10_000:])


def _fetched(read: Callable[..., Any], source: Source, title: str, package: str | None) -> Any:
    folder = source.folder or Path.home() / ".cache" / "net2net"
    try:
        return read(str(folder), download=source.download)
    except (OSError, RuntimeError) as error:
        why = f"cannot be downloaded: {str(error).strip()}" if source.download else f"is not in `{folder}`"
        way = f"`{package}` (Debian, Ubuntu); or " if package else ""
        raise ExperimentError(
            f"{title} {why}",
            f"{way}`--download` lets torchvision fetch it; `--data-dir DIR` says where it is; "
            "`--data digits` needs no download",
        ) from error


def _folders(source: Source) -> Data:
    """`train` and `val` with one folder a class in each, as torchvision's `ImageFolder` reads them."""
    folder, size = source.folder or Path("imagenet"), source.size or 224
    for part in ("train", "val"):
        if not any(path.is_dir() for path in (folder / part).glob("*")):
            raise ExperimentError(
                f"`{folder / part}` has no folder of images for each class",
                "`--data-dir DIR` names a folder with `train/CLASS/*.jpg` and `val/CLASS/*.jpg`; ImageNet's are at "
                "https://image-net.org/download.php",
            )
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*MEAN_STD["imagefolder"])]
    crop = {
        "none": [v2.Resize(size * 8 // 7), v2.CenterCrop(size)],
        "flip": [v2.Resize(size * 8 // 7), v2.CenterCrop(size), v2.RandomHorizontalFlip()],
        "crop": [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()],
    }
    train = Folders(folder / "train", [], v2.Compose([*crop[source.augment], *last]))
    valid = Folders(folder / "val", [], v2.Compose([*crop["none"], *last]))
    for images, count in ((train, source.train_images), (valid, source.valid_images)):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
        images.chosen = order.tolist()
    return Data(train, valid, len(train.images.classes))
