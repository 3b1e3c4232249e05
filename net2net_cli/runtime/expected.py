"""Why a student that was grown as it should be may differ all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from net2net_cli.architecture.graph import Mode
from net2net_cli.architecture.ops.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm

if TYPE_CHECKING:
    from net2net_cli.runtime.verifying import Model

BATCH_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm)
NEAR = 1e-2
"""How far from the identity a batch norm may be to count as one: more than bfloat16 rounds off, less than training."""


def why_different(teacher: Model, student: Model, mode: Mode) -> str | None:
    """What a user should know before looking for a mistake; None where nothing explains a difference."""
    if not student.exact:
        return "the student's lineage says that it is approximate: it was padded at random, or noise was added to it"
    new = sorted(identities(student) - identities(teacher)) if mode == "train" else []
    if not new:
        return None
    names = f"`{new[0]}`" + (f" and {len(new) - 1} more" if len(new) > 1 else "")
    return (
        f"this is expected in training mode: the inserted batch norm {names} is the identity with the statistics that "
        "it holds, and takes those of each batch in training; `--level outputs` compares what is exact"
    )


def identities(model: Model) -> set[str]:
    """Batch norms that pass everything through, with the statistics that they hold."""
    return {
        layer.name
        for layer in model.graph.layers
        if isinstance(layer.op, BATCH_NORMS)
        and layer.weights_of is None
        and layer.op.affine
        and layer.op.track_running_stats
        and _is_identity(model, layer.name, layer.op.eps)
    }


def _is_identity(model: Model, name: str, eps: float) -> bool:
    """Whether (x − mean) · weight / √(var + eps) + bias is x."""
    weight, bias, mean, var = (
        np.asarray(model.tensor(f"{name}.{part}"), dtype=np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    deviation = np.sqrt(var + eps)
    return bool(
        (np.abs(weight - deviation) <= NEAR * deviation).all() and (np.abs(bias - mean) <= NEAR * deviation).all()
    )
