from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from experiments.data import (
    FASHION_FILES,
    FASHION_VALIDATION,
    Images,
    Source,
    Steps,
    as_it_is,
    cropped,
    flipped,
    load,
    mixed,
)
from experiments.errors import ExperimentError


def test_a_step_sees_the_same_images_wherever_a_run_begins() -> None:
    whole = list(Steps(images=50, batch=8, first=0, last=20, seed=3))
    assert list(Steps(images=50, batch=8, first=13, last=20, seed=3)) == whole[13:]


def test_an_epoch_sees_no_image_twice_and_the_next_one_sees_them_in_another_order() -> None:
    steps = list(Steps(images=48, batch=8, first=0, last=12, seed=0))
    first, second = ([number for batch in part for number, _ in batch] for part in (steps[:6], steps[6:]))
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second


def test_processes_part_a_batch_between_them_and_draw_apart() -> None:
    [whole] = Steps(images=50, batch=8, first=4, last=5, seed=3)
    parts = [next(iter(Steps(50, 8, 4, 5, 3, rank=rank, world=2))) for rank in (0, 1)]
    assert sorted(n for part in parts for n, _ in part) == sorted(n for n, _ in whole)
    assert parts[0][0][1] != parts[1][0][1]


def test_a_batch_is_augmented_by_its_own_seed_and_leaves_the_generator_alone() -> None:
    pixels = torch.arange(20 * 16, dtype=torch.uint8).view(20, 1, 4, 4)
    images = Images(pixels, torch.zeros(20), lambda x: x, flipped)
    places = [(number, mixed(1, 2)) for number in range(20)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, _ = images.__getitems__(places)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(images.__getitems__(places)[0], first)
    mirrored = [torch.equal(found, image.flip(-1)) for found, image in zip(first, pixels, strict=True)]
    assert any(mirrored)
    assert not all(mirrored)


@pytest.mark.parametrize("size", [8, 7, 24])
def test_each_image_of_a_batch_is_cropped_at_a_place_of_its_own_as_torchvision_would(size: int) -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (200, 2, size, size), dtype=torch.uint8, generator=draw)
    most = max(1, size // 8)
    padded = tv.pad(pixels, [most])
    seen = set()
    for image, around, given in zip(cropped(pixels, draw), padded, pixels, strict=True):
        places = [
            (mirrored, top, left)
            for mirrored, source in ((False, around), (True, tv.horizontal_flip(around)))
            for top in range(2 * most + 1)
            for left in range(2 * most + 1)
            if torch.equal(tv.crop(source, top, left, size, size), image)
        ]
        assert len(places) == 1, given
        seen.update(places)
    possible = 2 * (2 * most + 1) ** 2
    assert len(seen) > 0.9 * possible * (1 - (1 - 1 / possible) ** 200)  # as many as 200 draws are expected to meet


def test_batches_made_on_a_device_are_those_made_on_the_host() -> None:
    pixels = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8)
    images = Images(pixels, torch.arange(20), lambda x: x.float(), cropped)
    moved = images.on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    places = [(number, 5) for number in (3, 9, 1)]
    for mine, theirs in zip(images.__getitems__(places), moved.__getitems__(places), strict=True):
        assert torch.equal(mine, theirs.cpu())


def test_a_batch_that_was_made_whole_is_not_collated() -> None:
    batch = torch.zeros(2), torch.ones(2)
    assert as_it_is(batch) is batch


@pytest.mark.parametrize(
    ("source", "missing", "way"),
    [
        (Source("fashion-mnist"), "Fashion-MNIST is not in", "apt install dataset-fashion-mnist"),
        (Source("cifar10"), "CIFAR-10 is not in", "--download"),
        (Source("imagefolder"), "no folder of images for each class", "train/CLASS/*.jpg"),
    ],
)
def test_data_that_is_not_there_says_how_to_get_it(tmp_path: Path, source: Source, missing: str, way: str) -> None:
    with pytest.raises(ExperimentError, match=missing) as caught:
        load(Source(source.name, tmp_path / "nothing"))
    assert way in caught.value.hint


def test_fashion_mnist_is_read_from_its_four_files_and_its_last_images_judge(tmp_path: Path) -> None:
    count = FASHION_VALIDATION + 30
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for name, array, header in ((FASHION_FILES[0], pixels, 16), (FASHION_FILES[1], labels, 8)):
        with gzip.open(tmp_path / name, "wb", compresslevel=0) as file:
            file.write(bytes(header) + array.tobytes())
    data = load(Source("fashion-mnist", tmp_path))
    assert (len(data.train), len(data.valid), data.classes) == (30, FASHION_VALIDATION, 10)
    x, label = data.train.__getitems__([(number, 0) for number in range(30)])
    assert sorted(label.tolist()) == sorted((np.arange(30) % 10).tolist())
    found = (x * 0.3530 + 0.2860) * 255  # normalised as sample_checkpoints/train.py does it
    first = next(n for n in range(30) if np.allclose(found[0, 0].numpy(), pixels[n], atol=1e-2))
    assert label[0] == first % 10


def test_folders_of_images_are_classes_and_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    make_folders(tmp_path)
    data = load(Source("imagefolder", tmp_path, size=16, augment="crop", train_images=5))
    x, label = data.train.__getitems__([(0, 7), (1, 7)])
    assert x.shape == (2, 3, 16, 16)
    assert (len(data.train), data.classes) == (5, 2)
    assert set(label.tolist()) <= {0, 1}
    assert torch.equal(x, data.train.__getitems__([(0, 7), (1, 7)])[0])


def make_folders(folder: Path, images: int = 4) -> None:
    """Two classes, `train` and `val`."""
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(images):
                Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(place / f"{number}.jpg")
