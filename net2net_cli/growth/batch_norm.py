"""Batch norms that start as the identity: which statistics they hold, and with which weights these cancel."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.ops import activation as act
from net2net_cli.checkpoint.safetensors_header import TensorInfo

Floats: TypeAlias = npt.NDArray[np.float64]

BatchNormStart: TypeAlias = Literal["estimate", "identity"]
"""`estimate`: statistics of what enters; `identity`: mean 0, variance 1 − eps."""

QUANTILES = 512
NEIGHBOURS = 8192
"""How many floats on each side of an estimate are tried; the best of n leaves a relative error of about 2⁻²⁵/n."""
LARGEST_MEAN = 4096
"""In standard deviations, and no less than 1 each: what is near 1 keeps half of its digits when that is subtracted."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of each channel, `(channels,)` each."""

    mean: Floats
    variance: Floats


def moments_of_pair(moments: Moments, *, across: bool) -> Moments:
    """Moments of the channels (x, −x).

    Args:
        moments: of x.
        across: whether each is taken over both halves, which a norm of another axis than the channels' does.
    """
    if across:
        return Moments(np.zeros_like(moments.mean), moments.variance + moments.mean**2)
    return Moments(np.concatenate([moments.mean, -moments.mean]), np.tile(moments.variance, 2))


def apply_activation(op: Op, x: Floats) -> Floats | None:
    """φ(x) for the activations behind which layers can be inserted, or None for others."""
    match op:
        case act.ReLU():
            return np.asarray(np.maximum(x, 0.0))
        case act.ReLU6():
            return np.clip(x, 0.0, 6.0)
        case act.Hardtanh():
            return np.clip(x, op.min_val, op.max_val)
        case act.Clamp():
            return np.clip(x, op.min, op.max)
        case act.LeakyReLU():
            return np.asarray(np.where(x > 0, x, op.negative_slope * x))
        case act.GELU():
            return np.asarray(x * np.vectorize(NormalDist().cdf)(x))
        case act.SiLU():
            return x / (1.0 + np.exp(-x))
        case act.Hardswish():
            return x * np.clip(x + 3.0, 0.0, 6.0) / 6.0
        case act.Identity():
            return x
    return np.abs(x) if op.name == "abs" else None


def moments_behind(op: Op, weight: Floats, bias: Floats) -> Moments | None:
    """Moments of φ(a) where a batch norm with this weight γ and bias β made a: about N(β, γ²) in each channel.

    Args:
        op: the activation φ.
        weight: `(channels,)`.
        bias: `(channels,)`.
    """
    levels = [NormalDist().inv_cdf((i + 0.5) / QUANTILES) for i in range(QUANTILES)]
    values = apply_activation(op, bias[:, None] + np.abs(weight)[:, None] * np.asarray(levels))
    return None if values is None else Moments(values.mean(axis=1), values.var(axis=1))


def unit_gain(variance: Floats, eps: float, dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Weights and variances, stored in `dtype`, with weight / √(variance + eps) as near 1 as that type allows.

    Neighbouring floats of the estimate are tried, because √(variance + eps) itself is seldom a float.

    Args:
        variance: `(channels,)`, an estimate.
        eps: of the batch norm.
        dtype: of the stored tensors.

    Returns:
        weight `(channels,)`, variance `(channels,)`.
    """
    steps = np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    unit = float(np.finfo(np.dtype(dtype)).eps)
    weights, variances = [], []
    for estimate in np.maximum(variance, 0.0):
        tried = np.maximum(estimate * (1.0 + steps * unit), 0.0).astype(dtype)
        root = np.sqrt(tried.astype(np.float64) + eps)
        weight = root.astype(dtype)
        best = int(np.argmin(np.abs(weight.astype(np.float64) / root - 1.0)))
        weights.append(weight[best])
        variances.append(tried[best])
    return np.array(weights, dtype=dtype), np.array(variances, dtype=dtype)


def is_identity(weight: npt.NDArray[Any], bias: Floats, mean: Floats, variance: Floats, eps: float) -> bool:
    """Whether stored tensors of a batch norm are the identity as `unit_gain` makes it, whatever the statistics are.

    The bias must be the mean, which may not be so large that what it is taken from is lost. The weight must be
    √(variance + eps), rounded to float32 or to its own type; and where the variance is not lost beside eps, the two are
    known to have been chosen so that next to nothing was rounded: the best of n = 2·NEIGHBOURS errors of up to 2⁻²⁴ is
    below 64/n of that, with a probability of 1 − e⁻⁶⁴ (1 − e⁻³² where only every second neighbour is another float).

    Args:
        weight: `(channels,)`, as it is stored.
        bias: `(channels,)`, as all others.
        mean: likewise.
        variance: likewise.
        eps: of the batch norm.
    """
    root = np.sqrt(variance.astype(np.float64) + eps)
    gain = np.abs(weight.astype(np.float64) / root - 1.0)
    rounded = (root.astype(np.float32).astype(weight.dtype) == weight) | (root.astype(weight.dtype) == weight)
    chosen = (gain <= 2.0**-24 * 64 / (2 * NEIGHBOURS)) | (variance < eps / 16)
    small = np.abs(mean.astype(np.float64)) <= LARGEST_MEAN * np.maximum(root, 1.0)
    return bool((bias == mean).all() and rounded.all() and chosen.all() and small.all())


def unit_product(scale: float, stored: str) -> tuple[float, float]:
    """Two factors, floats of the stored type, whose product with `scale` is as near 1 as that type allows.

    Args:
        scale: of a pair of activations.
        stored: the safetensors name of the type.
    """
    if scale == 1.0:
        return 1.0, 1.0
    dtype = TensorInfo(stored, ()).numpy_dtype
    unit = float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    first = (1.0 + np.arange(NEIGHBOURS) * unit).astype(dtype).astype(np.float64)
    last = (1.0 / (first * scale)).astype(dtype).astype(np.float64)
    best = int(np.argmin(np.abs(first * last * scale - 1.0)))
    return float(first[best]), float(last[best])
