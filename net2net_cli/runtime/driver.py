"""The NVIDIA driver. No torch: `net2net env` asks for it where PyTorch cannot be imported."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 10
"""Seconds for a driver to answer."""

_LINUX = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Driver:
    """What a driver says of itself.

    Attributes:
        version: `580.65.06`; None where there is no driver.
        cuda: the newest CUDA that it runs, `13.0`; None where it does not say.

    """

    version: str | None
    cuda: str | None


def nvidia_driver() -> Driver:
    """What `nvidia-smi` says, in words that have been the same for years; where it is missing, what the kernel says."""
    try:
        text = subprocess.run(  # a fixed program without arguments
            ["nvidia-smi"], capture_output=True, text=True, timeout=PATIENCE, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return Driver(_kernel_module(), None)
    version, cuda = (re.search(rf"{name} Version:\s*([\d.]+)", text) for name in ("Driver", r"CUDA(?: UMD)?"))
    return Driver(version[1] if version else None, cuda[1] if cuda else None)


def _kernel_module() -> str | None:
    """`NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  …`, inside of containers too."""
    try:
        found = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", _LINUX.read_text())
    except OSError:
        return None
    return found[1] if found else None
