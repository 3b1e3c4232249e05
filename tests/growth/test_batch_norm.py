"""Batch norms that start as the identity: moments behind an activation, and weights that cancel."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from channels.sketch import make

from net2net_cli.architecture.ops import Op
from net2net_cli.growth.batch_norm import NEIGHBOURS, apply_activation, moments_behind, unit_gain, unit_product

BIAS = np.array([-1.5, -0.5, 0.0, 0.3, 1.0, 2.5])
WEIGHT = np.array([1.0, 0.7, 1.3, -0.9, 2.0, 0.4])


def rectified(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and variance of max(0, X), X ~ N(mean, deviation²): the closed form."""
    a = mean / deviation
    density, below = math.exp(-a * a / 2) / math.sqrt(2 * math.pi), (1 + math.erf(a / math.sqrt(2))) / 2
    first = mean * below + deviation * density
    second = (mean**2 + deviation**2) * below + mean * deviation * density
    return first, second - first**2


def test_moments_behind_relu_are_those_of_a_rectified_gaussian() -> None:
    found = moments_behind(make("ReLU"), WEIGHT, BIAS)
    assert found is not None
    for i, (weight, bias) in enumerate(zip(WEIGHT, BIAS, strict=True)):
        mean, variance = rectified(bias, abs(weight))
        assert abs(found.mean[i] - mean) <= 2e-3 * abs(weight)
        assert abs(found.variance[i] - variance) <= 1e-2 * weight**2


ACTIVATIONS: dict[str, Op] = {
    "ReLU": make("ReLU"),
    "ReLU6": make("ReLU6"),
    "Hardtanh": make("Hardtanh", -0.5, 2.0),
    "clamp": make("clamp", 0.0, None),
    "LeakyReLU": make("LeakyReLU", 0.2),
    "GELU": make("GELU", "none"),
    "SiLU": make("SiLU"),
    "Hardswish": make("Hardswish"),
    "Identity": make("Identity"),
    "abs": make("abs"),
}

FORMULAS = {
    "ReLU": lambda x: max(0.0, x),
    "ReLU6": lambda x: min(max(0.0, x), 6.0),
    "Hardtanh": lambda x: min(max(-0.5, x), 2.0),
    "clamp": lambda x: max(0.0, x),
    "LeakyReLU": lambda x: x if x > 0 else 0.2 * x,
    "GELU": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "SiLU": lambda x: x / (1 + math.exp(-x)),
    "Hardswish": lambda x: x * min(max(0.0, x + 3), 6.0) / 6,
    "Identity": lambda x: x,
    "abs": abs,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_formula(name: str) -> None:
    x = np.linspace(-8, 8, 81)
    found = apply_activation(ACTIVATIONS[name], x)
    assert found is not None
    assert np.allclose(found, [FORMULAS[name](float(v)) for v in x], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_moments_are_those_of_samples(name: str) -> None:
    rng = np.random.default_rng(0)
    samples = BIAS[:, None] + WEIGHT[:, None] * rng.standard_normal((BIAS.size, 40_000))
    values = np.vectorize(FORMULAS[name])(samples)
    found = moments_behind(ACTIVATIONS[name], WEIGHT, BIAS)
    assert found is not None
    # The standard error of a mean of 40,000 samples is 1/200 of a deviation.
    assert (np.abs(found.mean - values.mean(axis=1)) <= 0.03 * np.abs(WEIGHT)).all()
    assert (np.abs(found.variance - values.var(axis=1)) <= 0.05 * WEIGHT**2).all()


def test_the_last_digit_of_a_function_which_the_machine_decides_does_not_reach_the_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = moments_behind(make("SiLU"), WEIGHT, BIAS)
    exp = np.exp
    monkeypatch.setattr(np, "exp", lambda x: np.nextafter(exp(x), np.inf))
    there = moments_behind(make("SiLU"), WEIGHT, BIAS)
    assert here is not None
    assert there is not None
    np.testing.assert_array_equal(here.mean, there.mean)
    np.testing.assert_array_equal(here.variance, there.variance)


def test_an_unknown_activation_has_no_moments() -> None:
    assert moments_behind(make("Tanh"), WEIGHT, BIAS) is None


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-12])
def test_a_float32_gain_is_one_to_eleven_places(eps: float) -> None:
    """Rounding a root leaves up to 2⁻²⁵; the best of n neighbours about an n-th of it, or 12 times that at worst."""
    estimate = np.exp(np.random.default_rng(0).uniform(-6, 6, size=60))
    weight, variance = unit_gain(estimate, eps, np.float32)
    assert weight.dtype == variance.dtype == np.float32
    error = np.abs(weight.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps) - 1)
    one = 2**-25 / (2 * NEIGHBOURS + 1)
    assert np.median(error) <= 2 * one <= 1e-11
    assert error.max() <= 12 * one
    assert np.abs(variance / estimate - 1).max() <= 2e-3


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_a_float64_gain_is_one(eps: float) -> None:
    estimate = np.exp(np.random.default_rng(0).uniform(-6, 6, size=60))
    weight, variance = unit_gain(estimate, eps, np.float64)
    assert np.abs(weight / np.sqrt(variance + eps) - 1).max() <= np.finfo(np.float64).eps


def test_a_dead_channel_gets_a_gain_of_one_too() -> None:
    weight, variance = unit_gain(np.array([0.0, -1e-9]), 1e-5, np.float32)
    assert (variance >= 0).all()
    gain = weight.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-5)
    assert np.abs(gain - 1).max() <= 2**-24


@pytest.mark.parametrize(
    ("stored", "dtype", "allowed"),
    [("F64", np.float64, 2e-16), ("F32", np.float32, 1e-10), ("F16", np.float16, 2e-6), ("BF16", None, 5e-4)],
)
@pytest.mark.parametrize("slope", [0.01, 0.2, 1 / 3])
def test_two_factors_cancel_the_scale_of_a_pair(stored: str, dtype: type | None, allowed: float, slope: float) -> None:
    first, last = unit_product(1 + slope, stored)
    kind = np.dtype(dtype) if dtype is not None else np.dtype(ml_dtypes.bfloat16)
    assert float(np.asarray(first).astype(kind)) == first
    assert float(np.asarray(last).astype(kind)) == last
    assert abs(first * last * (1 + slope) - 1) <= allowed


def test_a_pair_of_scale_one_needs_no_factors() -> None:
    assert unit_product(1.0, "F32") == (1.0, 1.0)
