"""Code that a spec names: trusted or not, there or not, and still the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from messages.areas.ops import MODULE, OPAQUE
from messages.areas.specs import text
from messages.example import Area, Example, teacher_of
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.spec_file import from_json_text

CUMSUM = {"name": "sums", "op": "opaque", "inputs": ["fc"], **OPAQUE}
FC = {"name": "fc", "op": "Linear", "inputs": ["x"], "in_features": 4, "out_features": 4, "bias": True}
PART = {"name": "sums", "op": "opaque", "inputs": ["fc"], **MODULE, "rebuild": "net.py:Net"}
X = [{"name": "x", "shape": ["n", 4], "dtype": "float32"}]
NET = "from torch import nn\n\n\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(4, 4)\n"
VERIFY = "net2net verify net.safetensors net.safetensors --device cpu --trust-code"


def graph_of(*layers: dict[str, Any], **more: Any) -> Graph:
    spec = {"inputs": X, "layers": list(layers), "outputs": {"out": layers[-1]["name"]}, **more}
    return from_json_text(text(**spec), where="an example")


def kept(
    row: str,
    changes: dict[str, Any] | None = None,
    *,
    layers: Any = None,
    command: str = VERIFY,
    file: str = NET,
    **more: Any,
) -> Example:
    """A network with code of this kind."""
    made = layers or (FC, {**CUMSUM, **(changes or {})})
    before = teacher_of(partial(graph_of, *made), "net.safetensors")
    return Example(command, {".net.py": file}, given=row, before=before, **more)


def part(row: str, **changes: Any) -> Example:
    """A module that is made by `net.py`."""
    return kept(row, layers=(FC, {**PART, "parameters": {"weight": [4, 4], "bias": [4]}, **changes}))


RUN = (
    kept(
        "`net.safetensors` has a layer that PyTorch's `cumsum` computes.", command=VERIFY.replace(" --trust-code", "")
    ),
    kept("The layer names a function that PyTorch has not.", {"rebuild": "torch:no_such_function"}),
    kept("The layer sums over an axis that is not there.", {"args": [{"input": 0}, 9]}, vague=r"(?<=run: ).*"),
    kept(
        "The spec has a padding that reflects more features than there are.",
        layers=(FC, {"name": "pad", "op": "pad", "inputs": ["fc"], "pad": [4, 0], "mode": "reflect"}),
        vague=r"(?<=run: ).*",
    ),
    kept("The layer names `torch.sort`, which returns two tensors.", {"rebuild": "torch:sort"}),
    part("The layer is the submodule `mixer` of the network in `net.py`, which has none.", submodule="mixer"),
    part("In `net.py`, the module has become larger.", parameters={"weight": [2, 2], "bias": [2]}),
    kept("The spec's layer is called `forward`.", layers=({**FC, "name": "forward"},), command=VERIFY),
    kept(
        "The spec's layer is called `forward`.",
        layers=({**FC, "name": "forward"},),
        command="net2net export net.safetensors --to python -o net_.py",
    ),
    kept(
        "The spec has a probability of 2.",
        layers=(FC, {"name": "drop", "op": "StochasticDepth", "inputs": ["fc"], "p": 2.0, "mode": "row"}),
        command=VERIFY,
    ),
)


def outputs(folder: Path) -> None:
    teacher_of(partial(graph_of, FC), "net.safetensors")(folder)
    teacher_of(partial(graph_of, FC, outputs={"logits": "fc"}), "other.safetensors")(folder)


COMPARED = (
    Example(
        "net2net verify net.safetensors other.safetensors --device cpu",
        given="One network's output is called `out`, the other's `logits`.",
        before=outputs,
    ),
)

EXPORT = (
    kept(
        "The layer was imported from `my-net.py`.",
        {"rebuild": "my-net.py:mix"},
        command="net2net export net.safetensors --to python --trust-code -o net_.py",
    ),
)

REFUSED = (
    kept(
        "`net.safetensors` has a layer that PyTorch's `cumsum` computes.",
        command="net2net widen net.safetensors sums=2x --no-verify -o student.safetensors",
    ),
    kept(
        "The same; `fc` is read by it.",
        command="net2net widen net.safetensors fc=2x --no-verify -o student.safetensors",
    ),
)

AREAS = (
    Area("code", "Code that a spec names", 3, "", RUN),
    Area("compared", "Networks to compare", 3, "", COMPARED),
    Area("export", "Exports", 2, "", EXPORT),
    Area("kept", "Widening: what net2net does not know", 4, "", REFUSED),
)
