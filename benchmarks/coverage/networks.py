"""torchvision's classification, segmentation and video networks, with the smallest inputs that show all they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from unittest import mock

import torch
from torch import nn
from torchvision import models
from torchvision.models.video import mvit

CLASSES = 10

SLIM = (48, 32, CLASSES)
"""Widths of the linear layers of AlexNet and VGG, whose first ones hold nearly all their weights."""

SLIMMED = ("alexnet", "vgg*")


@dataclass(frozen=True, slots=True)
class Setting:
    """How networks whose names match are made.

    Attributes:
        shape: of one input.
        arguments: of the constructor, beside the number of classes.
        why: this shape rather than 3 × 64 × 64.
    """

    pattern: str
    shape: tuple[int, ...] = (3, 64, 64)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


# The first that matches counts.
SETTINGS = (
    Setting("googlenet", arguments={"init_weights": True}),
    Setting("inception_v3", (3, 299, 299), {"init_weights": True}, "its auxiliary head takes no less"),
    Setting("maxvit_t", (3, 224, 224), why="every stage must divide into windows of 7"),
    Setting("vit_h_14", (3, 56, 56), {"image_size": 56}, "whole patches of 14"),
    Setting("vit_*", (3, 64, 64), {"image_size": 64}),
    Setting("mvit_*", (3, 4, 64, 64), why="video"),
    Setting("s3d", (3, 13, 209, 209), why="the least that its last pooling takes"),
    Setting("swin3d_*", (3, 4, 64, 64), why="video"),
    Setting("*3d_18", (3, 4, 32, 32), why="video"),
    Setting("mc3_18", (3, 4, 32, 32), why="video"),
    Setting("r2plus1d_18", (3, 4, 32, 32), why="video"),
    Setting("lraspp_*", arguments={"weights_backbone": None}),
    Setting("fcn_*", arguments={"weights_backbone": None, "aux_loss": True}),
    Setting("deeplabv3_*", arguments={"weights_backbone": None, "aux_loss": True}),
    Setting("*"),
)


def names() -> list[str]:
    """All networks, small ones first."""
    families = (models, models.segmentation, models.video)
    return sorted((name for family in families for name in models.list_models(module=family)), key=millions)


def matching(patterns: Sequence[str]) -> list[str]:
    """The networks that match any of the patterns, small ones first."""
    return [name for name in names() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def setting(name: str) -> Setting:
    """How a network is made."""
    return next(one for one in SETTINGS if fnmatchcase(name, one.pattern))


def millions(name: str) -> float:
    """Millions of parameters, as torchvision states them for its weights, or as its slim form has them."""
    stated = next(iter(models.get_model_weights(name))).meta["num_params"] / 1e6
    return stated / 8 if is_slim(name) else float(stated)


def is_slim(name: str) -> bool:
    """Whether its linear layers are made small."""
    return any(fnmatchcase(name, pattern) for pattern in SLIMMED)


def make(name: str, *, seed: int = 0) -> nn.Module:
    """The network with random weights; the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with _small_videos(setting(name).shape) if name.startswith("mvit") else nullcontext():
            model: nn.Module = models.get_model(name, weights=None, num_classes=CLASSES, **setting(name).arguments)
        return slim(model) if is_slim(name) else model


@contextmanager
def _small_videos(shape: tuple[int, ...]) -> Iterator[None]:
    """MViT for videos of this size: its position tables depend on it, and its builders leave no choice."""
    builder = mvit._mvit

    def build(*given: Any, **options: Any) -> nn.Module:
        made: nn.Module = builder(*given, **options | {"spatial_size": shape[2:], "temporal_size": shape[1]})
        return made

    with mock.patch.object(mvit, "_mvit", build):
        yield


def slim(model: nn.Module) -> nn.Module:
    """AlexNet or VGG with small linear layers, in place."""
    classifier = model.classifier
    assert isinstance(classifier, nn.Sequential)
    places = [i for i, module in enumerate(classifier) if isinstance(module, nn.Linear)]
    first = classifier[places[0]]
    assert isinstance(first, nn.Linear)
    for place, inner, outer in zip(places, [first.in_features, *SLIM], SLIM, strict=False):
        classifier[place] = nn.Linear(inner, outer)
    return model
