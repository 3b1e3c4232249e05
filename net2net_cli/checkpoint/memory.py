"""Tensors in memory, where others come from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from net2net_cli.checkpoint.safetensors_header import TensorInfo


class MemoryTensors:
    """Tensors by name, with tied ones under their other names too.

    Args:
        tensors: by the name in the state dict.
        aliases: a name without a tensor of its own -> the name whose tensor it shares.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], aliases: Mapping[str, str]) -> None:
        self._tensors = tensors
        self._aliases = aliases

    def info(self, name: str) -> TensorInfo:
        """Type and shape."""
        return TensorInfo.of(self.read(name))

    def read(self, name: str) -> np.ndarray:
        """The tensor."""
        return self._tensors[self._aliases.get(name, name)]

    def sha256(self) -> str:
        """A digest of names, types, shapes and values."""
        digest = hashlib.sha256()
        for name in sorted(self._tensors):
            array = np.ascontiguousarray(self._tensors[name])
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()
