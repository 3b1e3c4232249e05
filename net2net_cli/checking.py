"""How two networks are to be compared. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Exactness: TypeAlias = Literal["exact", "rounded", "scaled"]
"""How a student's stored numbers come about.

`exact`: they are its teacher's, or sum to them; `rounded`: the statistics of an inserted batch norm had to be rounded
to the type in which they are stored; `scaled`: the weights in front of a scaled stream had to be.
"""

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]

RunLevel: TypeAlias = Literal["outputs", "train"]
"""What is compared by running both networks: `outputs` in evaluation; `train` in training mode, with gradients."""


@dataclass(frozen=True, slots=True)
class Checking:
    """How a student is compared with its teacher.

    Attributes:
        device: where both run; `auto` takes CUDA if there is one.
        dtype: the type both run in, `float64` or another of torch's names; None for float64 where the device has it.
        batch: how many random inputs, where no `inputs` are given.
        inputs: a `.safetensors` or `.npz` file, or a folder of images.
        tolerance: the largest error that passes; None for the default of the type and the depth.
        level: `outputs` compares in evaluation mode; `train` with batch statistics, the same dropout masks and dropped
            branches where it is known which values correspond, and in float64 the gradients of the inputs.
        autocast: keep parameters in float32 and let `torch.autocast` choose what runs in `dtype`.
    """

    device: str = "auto"
    dtype: str | None = None
    batch: int = 8
    inputs: Path | None = None
    tolerance: float | None = None
    seed: int = 0
    level: RunLevel = "outputs"
    autocast: bool = False
