"""Sources: found, called, and their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages.areas.checkpoints import saved
from messages.example import Area, Example, python

NET = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(6, width)

    def forward(self, x):
        return self.fc(x)
"""


def source(text: str, name: str = "net.py:Net", **more: Any) -> Example:
    """A file of the user's."""
    return Example(f"net2net import {name} --input 6 -o net.safetensors", {".net.py": text}, **more)


def weights(row: str, make: Callable[[Any], Any], text: str = NET) -> Example:
    """Weights for the small network."""
    return Example(
        "net2net import net.py:Net --input 6 --weights net.pt -o net.safetensors",
        {".net.py": text},
        given=row,
        before=saved(make),
    )


def state(torch: Any, **changes: Any) -> dict[str, Any]:
    """Of the small network."""
    sound = {"fc.weight": torch.zeros(4, 6), "fc.bias": torch.zeros(4)}
    return {
        k: v
        for k, v in {**sound, **{name.replace("_", "."): v for name, v in changes.items()}}.items()
        if v is not None
    }


GATE = """from torch import nn


class Gate(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.fc = nn.Linear(size, size)

    def forward(self, x):
        return self.fc(x) if x.mean() > 0 else x
"""

TIED = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head.weight = self.fc.weight

    def forward(self, x):
        return self.head(self.fc(x))
"""

SOURCES = (
    Example("net2net import resnet18 -o net.safetensors"),
    Example("net2net import net.py:Net -o net.safetensors"),
    Example("net2net import no.such.module:Net -o net.safetensors"),
    source(NET, "net.py:Nett", given="`net.py` defines `Net`."),
    source("Net = 3\n", given="In `net.py`, `Net` is a number."),
    source("def Net():\n    return 3\n", given="In `net.py`, `Net` is a function that returns a number."),
    Example(
        "net2net import net.py:Net --kwarg wdth=8 --input 6 -o net.safetensors",
        {".net.py": NET},
        given="`Net` takes the argument `width`.",
    ),
    Example("net2net import net.py:Net --input 6,4 -o net.safetensors", {".net.py": NET}),
    Example(
        "net2net import net.py:Net --input 6 --leaf head -o net.safetensors",
        {".net.py": NET},
        given="The network has no module `head`.",
    ),
)

CALLED = (
    source("import no_such_package\n", given="`net.py` imports a package that is not installed."),
    source("Net = 1 / 0\n", given="`net.py` fails when it is imported."),
    source("import sys\n\nsys.exit(2)\n", given="`net.py` is a script that ends the process."),
    Example("net2net import net2net_cli.networks:lenet5 --kwarg image_size=64 -o net.safetensors"),
    Example("net2net import net2net_cli.networks:inception_v2 --kwarg stem=large -o net.safetensors"),
    weights(
        "`net.pt` has `head.weight` in place of `fc.weight`.",
        lambda torch: state(torch, fc_weight=None, head_weight=torch.zeros(4, 6)),
    ),
    weights("`fc.weight` has five rows in `net.pt`.", lambda torch: state(torch, fc_weight=torch.zeros(5, 6))),
    weights("`net.pt` has `head.weight` beside the others.", lambda torch: state(torch, head_weight=torch.zeros(4, 6))),
    weights(
        "`fc.weight` holds infinities in `net.pt`.", lambda torch: state(torch, fc_weight=torch.full((4, 6), torch.inf))
    ),
    weights(
        "In `net.py`, `head.weight` is `fc.weight`.",
        lambda torch: {
            "fc.weight": torch.zeros(6, 6),
            "fc.bias": torch.zeros(6),
            "head.weight": torch.ones(6, 6),
            "head.bias": torch.zeros(6),
        },
        TIED,
    ),
)

HEADER = "import sys\n\nimport torch\nfrom torch import nn\n\nfrom net2net_cli import Net2Net\n\n"

FROM_MODULE = (
    python(HEADER.replace("import sys\n\n", "") + "Net2Net.from_module(nn.Linear(2, 2), torch.tensor(1.0))"),
    python(
        HEADER
        + 'sys.path.insert(0, ".")\nfrom net import Gate\n\n'
        + 'Net2Net.from_module(nn.Sequential(Gate(6)), torch.randn(2, 6), leaves=["0"])',
        files={"net.py": GATE},
    ),
    python(
        HEADER.replace("import sys\n\n", "")
        + "\n"
        + GATE.partition("\n\n\n")[2]
        + '\n\nNet2Net.from_module(nn.Sequential(Gate(6)), torch.randn(2, 6), leaves=["0"])',
    ),
)

AREAS = (
    Area("from-module", "Networks that Python hands over", 3, "", FROM_MODULE),
    Area("sources", "Sources of `net2net import`", 2, "", SOURCES),
    Area("called", "Sources and weights of `net2net import`", 3, "", CALLED),
)
