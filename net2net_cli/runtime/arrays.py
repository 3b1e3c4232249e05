"""numpy arrays as torch tensors, with the types that numpy has from `ml_dtypes`."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

_BY_BITS: dict[np.dtype[np.generic], tuple[type[np.generic], torch.dtype]] = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
}
"""numpy dtype -> the one its bits travel in, and torch's name for it."""


def to_tensor(array: np.ndarray, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Tensor:
    """A tensor with the array's values, in memory of its own.

    Args:
        array: any shape; may be read-only, unaligned, or of a type of `ml_dtypes`.
        device: where the tensor goes.
        dtype: floating-point arrays are converted to it; None keeps the array's.

    """
    own = np.array(array, order="C", copy=True)
    if own.dtype in _BY_BITS:
        carrier, target = _BY_BITS[own.dtype]
        tensor = torch.from_numpy(own.view(carrier)).view(target)
    else:
        tensor = torch.from_numpy(own)
    return tensor.to(device=device, dtype=dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor's values on the host, with a type of `ml_dtypes` where numpy has none; may share its memory."""
    host = tensor.detach().cpu().contiguous()
    for numpy_type, (_, torch_type) in _BY_BITS.items():
        if host.dtype == torch_type:
            carrier = torch.int16 if host.element_size() == 2 else torch.uint8
            bits: np.ndarray = host.view(carrier).numpy()
            return bits.view(numpy_type)
    found: np.ndarray = host.numpy()
    return found
