"""A logarithmic axis for errors, which may be zero, and which need not be finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decades:
    """A logarithmic axis; zero stands a step below it, and what is not finite at its end."""

    low: int
    high: int

    @staticmethod
    def over(errors: Sequence[float], tolerance: float) -> Decades:
        """The decades that hold all errors, and the tolerance."""
        known = [e for e in (*errors, tolerance, 10 * tolerance) if 0 < e < math.inf] or [1.0]
        return Decades(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))))

    def at(self, error: float) -> float:
        """From 0, for zero, to 1."""
        steps = self.high - self.low + 1
        if error <= 0:
            return 0.0
        return 1.0 if error == math.inf else min(max((math.log10(error) - self.low + 1) / steps, 0.0), 1.0)

    def ticks(self, most: int = 9) -> list[int]:
        """Exponents to be written."""
        step = max(1, math.ceil((self.high - self.low + 1) / most))
        return list(range(self.low, self.high + 1, step))
