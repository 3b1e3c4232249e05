"""The shipped samples are what `sample_checkpoints/README.md` says they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from net2net_cli.networks import inception_v2, lenet5, small_resnet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

SAMPLES = Path(__file__).parents[1] / "sample_checkpoints"
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "lenet5": lambda: lenet5(),
    "resnet": lambda: small_resnet(),
    "inception_v2": lambda: inception_v2(width=0.25, num_classes=10, in_channels=1, stem="small"),
}


def stated() -> dict[str, list[str]]:
    """The README's table: cells behind the file's name, by the file's name."""
    lines = (SAMPLES / "README.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return {row[0].strip("`").removesuffix(".safetensors"): row[1:] for row in rows}


def load(name: str) -> nn.Module:
    model = BUILDERS[name]()
    model.load_state_dict(load_file(SAMPLES / f"{name}.safetensors"), strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> dict[str, Tensor]:
    return load_file(SAMPLES / "images.safetensors")


def test_the_readme_has_a_row_for_every_sample() -> None:
    assert list(stated()) == list(BUILDERS)


@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_a_sample_gets_as_many_shipped_images_right_as_stated(name: str, images: dict[str, Tensor]) -> None:
    model = load(name)
    correct = int((model(images["x"]).argmax(1) == images["label"]).sum())
    assert f"{correct} of 500" == stated()[name][4]


@pytest.mark.parametrize("name", BUILDERS)
def test_a_sample_has_the_stated_parameters_and_size(name: str) -> None:
    parameters = sum(parameter.numel() for parameter in load(name).parameters())
    size = (SAMPLES / f"{name}.safetensors").stat().st_size
    assert stated()[name][1] == f"{parameters:,}"
    assert float(stated()[name][5].removesuffix(" MB")) == pytest.approx(size / 1e6, rel=0.05)


def test_the_images_are_fifty_of_each_class_normalised(images: dict[str, Tensor]) -> None:
    x, label = images["x"], images["label"]
    assert (x.shape, x.dtype) == ((500, 1, 28, 28), torch.float32)
    assert (label.shape, label.dtype) == ((500,), torch.int64)
    assert torch.equal(label.bincount(), torch.full((10,), 50))
    pixels = (x * 0.3530 + 0.2860) * 255
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
    assert (pixels.round().min().item(), pixels.round().max().item()) == (0, 255)


def test_the_samples_stay_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.glob("*.safetensors")) < 15e6
