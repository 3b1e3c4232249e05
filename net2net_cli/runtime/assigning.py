"""What is recorded of an assignment to a part of a tensor."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def assign(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """`tensor[index] = value`, and the tensor: what is recorded of the statement."""
    tensor[index] = value
    return tensor
