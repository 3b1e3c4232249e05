"""How far outputs may be apart that differ by rounding alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from net2net_cli.checking import Exactness

RUN_TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-4, torch.float16: 2e-1, torch.bfloat16: 5e-1}
"""What rounding in the forward pass may do to an output, in standard deviations of it, by the type it runs in.

At a depth of `CALIBRATED` layers. A ResNet-50 with random weights and its student with random shares, which is the
network that amplifies rounding most, differ by 1.4e-13, 7e-5, 9e-2 and 6e-1; with trained weights by 2e-14, 5e-6, 2e-2
and 3e-2.
"""

CALIBRATED = 50
"""Weighted layers on the longest path of a ResNet-50."""

SHALLOW = 10
"""Networks that are less deep are not held to less."""

MOST = 0.5
"""However deep: outputs that are further apart are not the same in any sense, even if it is rounding."""

STORED_TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-8, torch.float16: 5e-4, torch.bfloat16: 4e-3}
"""What a new batch norm, rounded to the type in which it is stored, may do to an output.

Of several behind each other each adds its own: twenty in a trained Inception-V2, ten on its longest path, were off by
6.9e-8 in float32.
"""

SCALED_TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-7, torch.float16: 4e-3, torch.bfloat16: 4e-2}
"""What the weights in front of a scaled stream may do, rounded likewise: eight units of roundoff.

Transformers with such a stream were off by up to three.
"""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest error that passes, in standard deviations of the output, and where it comes from."""

    value: float
    reason: str


def default_tolerance(
    run: torch.dtype,
    stored: torch.dtype,
    exactness: Exactness = "exact",
    depth: int | None = None,
    *,
    added: int = 1,
    back: bool = False,
) -> Tolerance:
    """The largest error at which outputs count as equal.

    Args:
        run: the type in which the networks are run.
        stored: the type in which the student's parameters are stored.
        exactness: whether storing them rounded any.
        depth: of the deeper of both networks, as `architecture.depth` counts it; None where it is not known.
        added: by how much the student is the deeper one.
        back: whether gradients are compared too, which go the same way back.

    """
    layers = CALIBRATED if depth is None else depth
    allowed = RUN_TOLERANCES.get(run, RUN_TOLERANCES[torch.bfloat16]) * _growth(2 * layers if back else layers)
    allowed = min(allowed, MOST)
    how = _name(run) if depth is None else f"{_name(run)}, {depth} layers{' there and back' if back else ' deep'}"
    if exactness == "exact":
        return Tolerance(allowed, how)
    stored_tolerances = SCALED_TOLERANCES if exactness == "scaled" else STORED_TOLERANCES
    # A ViT-B/16 with a scaled stream was off by 2.3e-7, and in the gradients of its inputs by 6.7e-7.
    times = (2 if back else 1) * (max(1, added) if exactness == "rounded" else 1)
    rounded = stored_tolerances.get(stored, stored_tolerances[torch.bfloat16]) * times
    several = f"{added} new batch norms behind each other" if added > 1 else "new batch norms"
    what = "weights that the growth multiplied" if exactness == "scaled" else several
    return (
        Tolerance(allowed, how) if allowed >= rounded else Tolerance(rounded, f"{what} are stored in {_name(stored)}")
    )


def _growth(depth: int) -> float:
    """How much more rounding there is than in `CALIBRATED` layers.

    In proportion to the layers, each of which adds its own (Higham 2002, chapter 3); in deep networks to their square,
    since what the first ones add is amplified by those behind: from ResNet-50 to ResNet-152 it became 13 times as much.
    """
    ratio = max(depth, SHALLOW) / CALIBRATED
    return max(ratio, ratio**2)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
