"""`torch.distributions` in a forward that is traced: its checks of values vanish, and its shapes are recorded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.distributions import Distribution


@contextmanager
def recorded() -> Iterator[None]:
    """Distributions made inside draw samples of their parameters' own shape, as calls that are recorded.

    The checks are assertions, which would look at values; they are those that `python -O` leaves out.
    """
    cls: Any = Distribution
    checks, extended = cls._validate_args, cls._extended_shape

    def shape(self: Any, sample_shape: Any = ()) -> Any:
        one_each = isinstance(self._batch_shape, fx.Proxy) and not sample_shape and not self._event_shape
        return self._batch_shape if one_each else extended(self, torch.Size(sample_shape))

    cls._validate_args, cls._extended_shape = False, shape
    try:
        yield
    finally:
        cls._validate_args, cls._extended_shape = checks, extended
