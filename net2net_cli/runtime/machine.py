"""The device: choosing it, computing on it without shortcuts, and saying what it could not do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from net2net_cli.errors import MachineError
from net2net_cli.runtime.driver import nvidia_driver

DeviceName = Literal["auto", "cpu", "cuda", "mps"]

_ON_CPU = "use `--device cpu`"


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA if there is one, else the CPU.

    Args:
        name: `auto`, or what `torch.device` reads: `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        MachineError: there is no such device here; the message says what is missing.

    """
    if name == "auto":
        return torch.device("cpu" if cuda_problem() else "cuda")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise MachineError(f"`{name}` is no device", "use `--device auto`, `cpu`, `cuda` or `mps`") from None
    problem = {"cpu": lambda: None, "cuda": cuda_problem, "mps": mps_problem}.get(
        device.type, lambda: "is not supported"
    )()
    if problem is None and device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        problem = f"there are {torch.cuda.device_count()} CUDA devices, counted from 0"
    if problem is not None:
        raise MachineError(
            f"`{name}` cannot be used: {problem}", f"{_ON_CPU}; `net2net env` shows what this machine has"
        )
    return device


def cuda_problem() -> str | None:
    """Why CUDA cannot be used here, or None where it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} was built without CUDA"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    said = [str(w.message).partition(" (Triggered")[0] for w in caught if "CUDA" in str(w.message)]
    return said[-1] if said else "no CUDA device or no driver was found"


def mps_problem() -> str | None:
    """Why Apple's GPU cannot be used here, or None where it can."""
    if not torch.backends.mps.is_built():
        return f"PyTorch {torch.__version__} was built without MPS"
    return None if torch.backends.mps.is_available() else "no Apple GPU was found"


def default_dtype(device: torch.device) -> torch.dtype:
    """The type in which outputs are compared: float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass(frozen=True, slots=True)
class Machine:
    """What computed.

    Attributes:
        device: for people: `cpu`, `cuda (NVIDIA H200)`.
        driver: version of the NVIDIA driver, where it was used and says so.
        torch: version of PyTorch, with its build: `2.9.1+cu130`.
        cuda: the CUDA that PyTorch was built for, where it was used.

    """

    device: str
    driver: str | None
    torch: str
    cuda: str | None

    def __str__(self) -> str:
        """`cuda (NVIDIA H200), driver 580.65, PyTorch 2.9.1+cu130`."""
        return f"{self.device}, {f'driver {self.driver}, ' if self.driver else ''}PyTorch {self.torch}"


def describe(device: torch.device) -> Machine:
    """The device with the driver and the build of PyTorch that use it."""
    version = str(torch.__version__)
    if device.type != "cuda":
        return Machine(str(device), None, version, None)
    name = f"{device} ({torch.cuda.get_device_name(device)})"
    return Machine(name, _driver_version(), version, torch.version.cuda)


@cache
def _driver_version() -> str | None:
    return nvidia_driver().version


def release_memory(device: torch.device) -> None:
    """Give cached memory of the device back to the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


_SWITCHES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")
"""Places below `torch.backends` that hold `fp32_precision`, since PyTorch 2.9."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 is computed as float32: no TF32, no bfloat16, no benchmarking of kernels; all restored at the end."""
    with ExitStack() as stack:
        if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            for path in _SWITCHES:
                _switch(stack, _below(torch.backends, path), "fp32_precision", "ieee")
        else:
            _switch(stack, torch.backends.cuda.matmul, "allow_tf32", False)
            _switch(stack, torch.backends.cudnn, "allow_tf32", False)
        _switch(stack, torch.backends.cudnn, "benchmark", False)
        _switch(stack, torch.backends.cudnn, "deterministic", True)
        yield


def _below(home: Any, path: str) -> Any:
    for part in path.split("."):
        home = getattr(home, part)
    return home


def _switch(stack: ExitStack, home: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack is left."""
    stack.callback(setattr, home, name, getattr(home, name))
    setattr(home, name, value)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate", "not enough memory", "alloc_failed")
_DEVICE_FAILURES = ("CUDA error", "CUDA driver", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS", "MPS", "HIP error")


def out_of_memory(error: BaseException) -> bool:
    """Whether a failure is for want of memory, of the device's or the host's."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


@contextmanager
def explained(device: torch.device) -> Iterator[None]:
    """Failures of the device, inside, become a `MachineError` with what can be done about them."""
    try:
        yield
    except (RuntimeError, MemoryError, TypeError) as error:
        text = str(error).partition("\n")[0]
        if out_of_memory(error):
            hint = "use a smaller `--batch`" if device.type == "cpu" else f"use a smaller `--batch`, or {_ON_CPU[4:]}"
            raise MachineError(f"`{device}` has not enough memory for this network", hint) from error
        if "not implemented for" in text:
            raise MachineError(
                f"`{device}` cannot run this network in this type: {text}", "use `--dtype float32`"
            ) from error
        if device.type != "cpu" and any(sign in str(error) for sign in _DEVICE_FAILURES):
            raise MachineError(f"`{device}` failed: {text}", _ON_CPU) from error
        raise


def is_of_the_device(error: BaseException) -> bool:
    """Whether it is the device that failed, and not what was asked of it; `explained` tells the rest."""
    signs = (*_OUT_OF_MEMORY, *(sign.lower() for sign in _DEVICE_FAILURES), "not implemented for")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error).lower() for sign in signs)
