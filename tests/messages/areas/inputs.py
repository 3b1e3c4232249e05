"""Recipes, and inputs to compare networks on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from channels.sketch import layer, linear, make

from messages.areas.sketches import network_of
from messages.example import Area, Example, both, teacher_of


def recipe(toml: str) -> Example:
    """A growth by this recipe."""
    command = "net2net apply teacher.safetensors recipe.toml --no-verify -o student.safetensors"
    return Example(command, {"recipe.toml": toml})


def no_text(name: str) -> Callable[[Path], Any]:
    """A file that is not UTF-8."""
    return lambda folder: (folder / name).write_bytes(b"\xff\xfe")


RECIPES = (
    recipe("[[operation]]\nname = widen\n"),
    recipe('[[step]]\nname = "widen"\n'),
    recipe('[[operation]]\nname = "prune"\n'),
    recipe('[[operation]]\nname = "widen"\nwidth = 8\n'),
    recipe('[[operation]]\nname = "widen"\nlayers = ["conv1"]\n'),
    recipe('[[operation]]\nname = "widen"\nseed = 1\n'),
    Example(
        "net2net apply teacher.safetensors recipe.toml --no-verify -o student.safetensors",
        given="`recipe.toml` is no text.",
        before=no_text("recipe.toml"),
    ),
    Example("net2net inspect net.json", given="`net.json` is no text.", before=no_text("net.json")),
    Example("net2net apply teacher.safetensors /dev/zero --no-verify -o student.safetensors"),
    recipe('[[operation]]\nname = "grow"\nlike = "net.py:Net"\n'),
)

VERIFY = "net2net verify teacher.safetensors teacher.safetensors --device cpu --inputs "
NORM = make("BatchNorm1d", 4, 1e-5, 0.1, True, True)
NET = "net.safetensors"
WORDS = "net2net verify tokens.safetensors tokens.safetensors --device cpu --inputs "


def arrays(**made: Any) -> Callable[[Path], None]:
    """`x.npz` with these arrays."""
    return lambda folder: np.savez(folder / "x.npz", allow_pickle=False, **{k: np.asarray(v) for k, v in made.items()})


def images(*names: str) -> Callable[[Path], None]:
    """A folder of files that are no images, whatever they are called."""

    def write(folder: Path) -> None:
        (folder / "images").mkdir()
        for name in names:
            (folder / "images" / name).write_text("no pixels")

    return write


def ones(*shape: int, dtype: str = "float32") -> Any:
    """Samples."""
    return np.ones(shape, dtype=dtype)


def words(folder: Path) -> None:
    """A network that embeds ten different words."""
    embed = layer("embed", make("Embedding", 10, 8, None, False, False), "x")
    graph = partial(network_of, (6,), embed, layer("fc", linear(8, 4), "embed"), integers=True)
    teacher_of(graph, "tokens.safetensors")(folder)


INPUT_FILES = (
    Example(VERIFY + "x.npz"),
    Example(VERIFY + "x.csv", {".x.csv": "1,2"}),
    Example(
        VERIFY + "x.npz",
        given="`x.npz` has the arrays `a` and `b`, and the network has one input, `x`.",
        before=arrays(a=[1], b=[2]),
    ),
    Example(VERIFY + "images", given="`images` is an empty folder.", before=images()),
    Example(
        VERIFY.replace("teacher", "net").replace("--inputs ", "--level train --batch 1"),
        given="In `net.safetensors`, a batch norm stands behind a linear layer.",
        before=teacher_of(partial(network_of, (6,), layer("fc", linear(6, 4), "x"), layer("bn", NORM, "fc")), NET),
    ),
    Example(
        WORDS + "images", given="The input of `tokens.safetensors` is no image.", before=both(words, images("a.png"))
    ),
)

INPUTS = (
    Example(VERIFY + "x.npz", {".x.npz": "no archive"}, given="`x.npz` is something else."),
    Example(VERIFY + "x.npz", given="`x` in `x.npz` holds images of 5 × 5.", before=arrays(x=ones(2, 3, 5, 5))),
    Example(
        VERIFY + "x.npz",
        given="`x` in `x.npz` holds bytes, 0 … 255.",
        before=arrays(x=ones(2, 3, 6, 6, dtype="uint8")),
    ),
    Example(VERIFY + "x.npz", given="A pixel is NaN.", before=arrays(x=ones(2, 3, 6, 6) * np.nan)),
    Example(
        VERIFY + "x.npz",
        given="There are labels for one sample of two.",
        before=arrays(x=ones(2, 3, 6, 6), labels=[1]),
    ),
    Example(VERIFY + "x.npz", given="There are no samples.", before=arrays(x=ones(0, 3, 6, 6))),
    Example(
        WORDS + "x.npz",
        given="The network embeds 10 different words, numbered from 0.",
        before=both(words, arrays(x=10 * ones(2, 6, dtype="int64"))),
    ),
    Example(VERIFY + "images", given="`images/a.png` is no image.", before=images("a.png"), vague=r"(?<=image: ).*"),
    Example("net2net verify teacher.safetensors tokens.safetensors --device cpu", before=words),
)

AREAS = (
    Area("recipes", "Recipes", 3, "", RECIPES),
    Area("input-files", "Inputs to compare on", 2, "", INPUT_FILES),
    Area("inputs", "Inputs that do not fit", 3, "", INPUTS),
)
