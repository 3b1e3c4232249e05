"""Inputs to compare networks on: random, from arrays, or from a folder of images."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.indices import lookup_limit, rows, tables
from net2net_cli.architecture.shapes import Batch, concrete, show
from net2net_cli.checkpoint.safetensors_file import open_checkpoint
from net2net_cli.errors import InputError, UsageError
from net2net_cli.runtime.arrays import to_tensor

LABELS = ("label", "labels", "target", "targets", "y")
"""Arrays of these names are what the samples show, and no input, unless the network says otherwise."""

INTEGERS = 10
"""Integers below this are drawn for inputs that are looked up in no table."""

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's images, per colour channel, as torchvision's weights expect them."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Samples for a network.

    Attributes:
        batches: each a tuple of the arguments of `forward`.
        labels: one for each sample, where the file has them.
        note: what was done to them, as a sentence; empty where nothing was.

    """

    batches: list[tuple[Tensor, ...]]
    labels: Tensor | None = None
    note: str = ""


def random_inputs(graph: Graph, batch: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """One batch of standard normal numbers, the same for every dtype and device.

    Integers that are looked up in an embedding are any of its rows, others 0 … 9.
    """
    generator = torch.Generator().manual_seed(seed)
    limits = [lookup_limit(graph, given.name, INTEGERS) for given in graph.inputs]
    return tuple(_random(given, batch, n, generator, dtype) for given, n in zip(graph.inputs, limits, strict=True))


def _random(given: NetworkInput, batch: int, limit: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    kind: torch.dtype = getattr(torch, given.dtype)
    shape = concrete(given.shape, batch)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0, 2 if kind == torch.bool else limit, shape, generator=generator).to(kind)


def load_inputs(path: Path, graph: Graph, limit: int | None = None, *, batch: int = 32) -> Inputs:
    """Samples from a `.safetensors` or `.npz` file, or from a folder of images.

    Args:
        path: the file or folder.
        graph: says how many inputs there are, and their shapes.
        limit: at most so many samples are read, the first ones.
        batch: samples in a batch.

    Raises:
        UsageError: there is no such file, or it cannot be matched to the network's inputs.
        InputError: it is damaged, or its arrays do not fit.

    """
    if path.is_dir():
        samples, note = _read_images(path, graph, limit)
        return Inputs(_batches((samples,), graph.inputs, batch), None, note)
    if not path.exists():
        raise UsageError(f"there is no `{path}`", "give a .safetensors or .npz file, or a folder of images")
    if path.suffix not in (".safetensors", ".npz"):
        raise UsageError(f"`{path}` is no file of inputs", "give a .safetensors or .npz file, or a folder of images")
    arrays = _read_arrays(path)
    chosen = _match(path, graph, arrays)
    tensors = tuple(
        _fit(path, name, arrays[name], given, limit) for name, given in zip(chosen, graph.inputs, strict=True)
    )
    for name, given, tensor in zip(chosen, graph.inputs, tensors, strict=True):
        _check_rows(path, name, tensor, tables(graph).get(given.name))
    count = _count(path, tensors, graph.inputs)
    labels = next((arrays[name] for name in arrays if name in LABELS and name not in chosen), None)
    if labels is not None and (labels.ndim == 0 or len(labels) < count):
        raise InputError(f"`{path}` holds {count} samples and {labels.size} labels", "give a label for each sample")
    return Inputs(_batches(tensors, graph.inputs, batch), None if labels is None else to_tensor(labels[:count]))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        with open_checkpoint(path) as checkpoint:
            return {name: checkpoint.read(name) for name in checkpoint.tensors}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        kind = type(error).__name__
        raise InputError(f"`{path}` is no readable .npz file ({kind})", "write it with `numpy.savez`") from error


def _match(path: Path, graph: Graph, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The array for each input: by name, or the only one that can be meant."""
    names = [given.name for given in graph.inputs]
    if all(name in arrays for name in names):
        return names
    candidates = [name for name in arrays if name not in LABELS]
    if len(names) == len(candidates) == 1:
        return candidates
    found, needed = (", ".join(f"`{n}`" for n in each) or "none" for each in (arrays, names))
    raise UsageError(
        f"`{path}` has the arrays {found}; the network's inputs are {needed}", "name the arrays like the inputs"
    )


def _fit(path: Path, name: str, array: np.ndarray, given: NetworkInput, limit: int | None) -> Tensor:
    """The first samples of an array as a tensor, checked against the input that it is for."""
    wanted = given.shape
    fits = array.ndim == len(wanted) and all(
        isinstance(w, Batch) or w == have for w, have in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        found = "×".join(map(str, array.shape))
        raise InputError(
            f"`{name}` in `{path}` has the shape {found}; input `{given.name}` needs {show(wanted)}",
            "the first axis counts the samples; import the network again for another image size",
        )
    tensor = to_tensor(array if limit is None else array[: limit * _times(given)])
    if tensor.is_floating_point() != getattr(torch, given.dtype).is_floating_point:
        raise InputError(
            f"`{name}` in `{path}` holds {array.dtype}; input `{given.name}` needs {given.dtype}",
            "convert it as it was done for training",
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise InputError(f"`{name}` in `{path}` holds values that are no finite numbers", "leave those samples out")
    return tensor if tensor.is_floating_point() else tensor.to(getattr(torch, given.dtype))


def _check_rows(path: Path, name: str, tensor: Tensor, table: Layer | None) -> None:
    """Raise InputError where a number is looked up that a table does not have."""
    if table is None or not tensor.numel():
        return
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= rows(table):
        raise InputError(
            f"`{name}` in `{path}` holds {low if low < 0 else high}; `{table.name}` has the rows 0 … {rows(table) - 1}",
            "prepare it as it was done for training",
        )


def _times(given: NetworkInput) -> int:
    first = given.shape[0] if given.shape else 1
    return first.times if isinstance(first, Batch) else 1


def _count(path: Path, tensors: tuple[Tensor, ...], inputs: tuple[NetworkInput, ...]) -> int:
    """How many samples there are in all inputs."""
    counts = {len(x) // _times(given) for x, given in zip(tensors, inputs, strict=True)}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"the arrays in `{path}` hold {' and '.join(map(str, sorted(counts)))} samples; "
            "equally many, and one at least, are needed",
            "the first axis counts the samples",
        )
    return counts.pop()


def _batches(tensors: tuple[Tensor, ...], inputs: tuple[NetworkInput, ...], batch: int) -> list[tuple[Tensor, ...]]:
    pieces = [torch.split(x, batch * _times(given)) for x, given in zip(tensors, inputs, strict=True)]
    return list(zip(*pieces, strict=True))


def _read_images(folder: Path, graph: Graph, limit: int | None) -> tuple[Tensor, str]:
    """All images below a folder, in the order of their names: `(samples, channels, h, w)`, and what was done."""
    shape = graph.inputs[0].shape
    if len(graph.inputs) != 1 or len(shape) != 4 or shape[1] not in (1, 3):
        shapes = ", ".join(show(given.shape) for given in graph.inputs)
        raise UsageError(
            f"`{folder}` is a folder of images; the network's input is {shapes}", "give a .safetensors or .npz file"
        )
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES)[:limit]
    if not files:
        raise UsageError(f"`{folder}` holds no images", f"known are {', '.join(IMAGES)}")
    _, channels, height, width = concrete(shape, 1)
    note = f"{len(files)} images, scaled to cover {height}×{width} and cropped in the middle"
    note += ", less ImageNet's mean over its standard deviation" if channels == 3 else ", grey, 0 … 1"
    return torch.stack([_read_image(file, channels, height, width) for file in files]), note


def _read_image(file: Path, channels: int, height: int, width: int) -> Tensor:
    """One image, `(channels, height, width)`: colours normalised, grey 0 … 1."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"`{file}` is no readable image: {error}", "remove it from the folder") from error
    pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    if channels == 1:
        return pixels[None]
    return (pixels.permute(2, 0, 1) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
