"""What is typed: commands, options, layers and widths, and the places of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from channels.sketch import conv, layer, make, network

from messages.example import Area, Example, api, teacher_of


def _file(name: str, text: str = "mine") -> dict[str, str]:
    return {f".{name}": text}


def _folder(name: str) -> Callable[[Path], None]:
    return lambda here: (here / name).mkdir()


COMMAND_LINE = (
    Example("net2net widn teacher.safetensors conv1=2x"),
    Example("net2net widen teacher.safetensors conv1=2x --forse"),
    Example("net2net widen"),
    Example("net2net export teacher.safetensors --to onnx -o net.onnx"),
    Example("net2net widen teacher.safetensors conv1=2x --noise inf -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=2x --split fresh --noise 0.1 -o student.safetensors"),
    Example("net2net import model.py:Net --kwarg width -o teacher.safetensors"),
    Example("net2net inspect teacher.json --spec other.json"),
    Example("net2net verify teacher.safetensors student.safetensors --level proof --device cuda"),
    Example("net2net verify teacher.safetensors teacher.safetensors --autocast"),
    Example("net2net verify teacher.safetensors teacher.safetensors --float64 --dtype float32"),
    Example("net2net deepen teacher.safetensors conv1 --count 1000 -o student.safetensors"),
)

LAYERS = (
    Example("net2net deepen teacher.safetensors block.conv -o student.safetensors"),
    Example("net2net widen teacher.safetensors -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1 -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=2y -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=3 -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=99999999 -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=6 conv1=8 -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=6 block.conv3=8 -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=6 --like big.json -o student.safetensors"),
    Example("net2net widen teacher.safetensors 'conv[z-a]=2x' -o student.safetensors"),
    Example("net2net widen teacher.safetensors 'layer*=2x' -o student.safetensors"),
    Example("net2net widen teacher.safetensors 'block.*:heads=8' -o student.safetensors"),
    Example("net2net widen teacher.safetensors 'relu*=2x' -o student.safetensors"),
    Example("net2net widen teacher.safetensors conv1:heads=8 -o student.safetensors"),
    Example("net2net widen teacher.safetensors bn1=8 -o student.safetensors"),
    Example("net2net deepen teacher.safetensors conv1 --kernel 4 -o student.safetensors"),
    Example("net2net deepen teacher.safetensors 'relu*' -o student.safetensors"),
    Example("net2net inspect teacher.safetensors block.add"),
)

OUTPUTS = (
    Example("net2net widen teacher.safetensors conv1=2x"),
    Example("net2net import model.py:Net"),
    Example("net2net export teacher.safetensors --to torch"),
    Example(
        "net2net widen teacher.safetensors conv1=2x -o student.safetensors",
        given="Something of that name is there.",
        files=_file("student.safetensors"),
    ),
    Example(
        "net2net widen teacher.safetensors conv1=2x -o students",
        given="`students` is a folder.",
        before=_folder("students"),
    ),
    Example("net2net widen teacher.safetensors conv1=2x -o student.pt"),
    Example(
        "net2net widen teacher.safetensors conv1=2x -o notes/student.safetensors",
        given="`notes` is a file.",
        files=_file("notes"),
    ),
    Example("net2net widen teacher.safetensors conv1=2x -o students/student.safetensors"),
    Example("net2net widen teacher.safetensors conv1=2x -o teacher.safetensors --force"),
    Example(
        "net2net widen teacher.safetensors conv1=2x -o student.safetensors",
        given="`student.json` is a folder.",
        before=_folder("student.json"),
    ),
    Example(
        "net2net widen teacher.safetensors conv1=2x -o student.safetensors",
        given="`student.json` is something else, an experiment's configuration.",
        files=_file("student.json", "{}"),
    ),
    Example("net2net export teacher.safetensors --to torch -o teacher.safetensors --force"),
    Example("net2net export teacher.json --to torch -o teacher.pt"),
    Example("net2net export teacher.safetensors --to python -o net.py --class-name 3d-net"),
    Example(
        f"net2net widen teacher.safetensors conv1=2x --no-verify -o student_{'long' * 70}.safetensors",
        given="The name has 300 characters.",
        vague="(?:long){70}",
    ),
    Example("net2net verify teacher.safetensors teacher.safetensors --report report.pdf"),
    Example(
        "net2net verify teacher.safetensors notes.html --report notes.html",
        given="`notes.html` is there.",
        files=_file("notes.html"),
    ),
    Example(
        "net2net verify teacher.safetensors teacher.safetensors --report notes.html",
        given="`notes.html` is something else.",
        files=_file("notes.html"),
    ),
)


def _bare(folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, dtype=np.float32)}, folder / "bare.safetensors")


def _loop(folder: Path) -> None:
    (folder / "a.safetensors").symlink_to("b.safetensors")
    (folder / "b.safetensors").symlink_to("a.safetensors")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.safetensors")


READ = (
    Example("net2net inspect no-such.safetensors"),
    Example("net2net inspect models", given="`models` is a folder.", before=_folder("models")),
    Example("net2net inspect models.json", given="`models.json` is a folder.", before=_folder("models.json")),
    Example("net2net inspect pipe.safetensors", given="`pipe.safetensors` is a named pipe.", before=_pipe),
    Example(
        "net2net inspect a.safetensors",
        given="`a.safetensors` and `b.safetensors` are links to each other.",
        before=_loop,
    ),
    Example(
        "net2net inspect bare.safetensors",
        given="`bare.safetensors` was written by something else, and `bare.json` is not there.",
        before=_bare,
    ),
    Example(
        "net2net widen teacher.safetensors --like bare.safetensors -o student.safetensors",
        given="`bare.safetensors` was written by something else.",
        before=_bare,
    ),
    Example("net2net grow teacher.safetensors --like big.json --kwarg width=8 -o student.safetensors"),
    Example(
        "net2net apply teacher.safetensors recipe.toml -o student.safetensors",
        {"recipe.toml": '[[operation]]\nname = "grow"\nlike = "big.json"\n'},
        given="`big.json` is a folder.",
        before=_folder("big.json"),
    ),
)

WITHOUT = Example(
    "net2net widen net.safetensors relu=2x -o student.safetensors",
    given="In `net.safetensors`, `relu` acts on the input.",
    before=teacher_of(
        lambda: network((3, 6, 6), layer("relu", make("ReLU"), "x"), layer("out", conv(3, 2), "relu")),
        "net.safetensors",
    ),
)

PYTHON = (
    api("teacher.widen({})"),
    api("teacher.deepen([])"),
    api('teacher.deepen(["conv1"], count=0)'),
    api('teacher.verify(teacher, batch=0, device="cpu")'),
    api('teacher.verify(teacher, dtype="int8", device="cpu")'),
    api('teacher.verify(teacher, level="proof")'),
)

AREAS = (
    Area("command-line", "The command line", 2, "", COMMAND_LINE),
    Area("layers", "Layers and widths", 2, "", (*LAYERS, WITHOUT)),
    Area("outputs", "Files that would be written", 2, "", OUTPUTS),
    Area("read", "Files that are read", 2, "", READ),
    Area(
        "python",
        "The Python API",
        2,
        "The command line checks these before; Python code meets them as exceptions.",
        PYTHON,
    ),
)
