"""Modules that draw random numbers. Self-contained: `net2net export --to python` copies their source."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Noise(nn.Module):
    """As many random numbers as the input has, in its type; what the input holds does not matter.

    With `training_only` it draws nothing in evaluation, and returns zeros.
    """

    def __init__(self, training_only: bool) -> None:
        super().__init__()
        self.training_only = training_only

    def forward(self, like: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if self.training_only and not self.training:
            return torch.zeros_like(like)
        return self.filled(torch.empty_like(like))

    def filled(self, empty: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The tensor, filled in place."""
        raise NotImplementedError


class Normal(Noise):
    """Random numbers of a normal distribution."""

    def __init__(self, training_only: bool = False, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(training_only)
        self.mean = mean
        self.std = std

    def filled(self, empty: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The tensor, filled in place."""
        return empty.normal_(self.mean, self.std, generator=generator)

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"mean={self.mean}, std={self.std}, training_only={self.training_only}"


class Uniform(Noise):
    """Random numbers, evenly between two bounds."""

    def __init__(self, training_only: bool = False, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(training_only)
        self.low = low
        self.high = high

    def filled(self, empty: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The tensor, filled in place."""
        return empty.uniform_(self.low, self.high, generator=generator)

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return f"low={self.low}, high={self.high}, training_only={self.training_only}"


class InTraining(nn.Module):
    """`add`, `sub` or `mul` of two tensors in training; in evaluation the first of them."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Two tensors that go together -> one of the first one's shape."""
        if not self.training:
            return x
        result: Tensor = getattr(torch, self.operator)(x, noise)
        return result

    def extra_repr(self) -> str:
        """Attributes for `print`."""
        return repr(self.operator)
