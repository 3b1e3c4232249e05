"""What this machine cannot do, and outputs that differ."""

from __future__ import annotations

import errno
import os
import pkgutil
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from messages.example import Area, Example, api
from net2net_cli import Net2Net

WIDEN = "net2net widen teacher.safetensors conv1=2x --no-verify -o student.safetensors"
CHECKED = "net2net widen teacher.safetensors conv1=2x --device cpu -o student.safetensors"
VERIFY = "net2net verify teacher.safetensors teacher.safetensors --device "


def fails(number: int, name: str = "os.open", only: str = ".part") -> Callable[[], AbstractContextManager[Any]]:
    """The system refuses to open files of this kind, with this number."""
    original: Any = pkgutil.resolve_name(name)

    def refuse(path: Any, *rest: Any, **more: Any) -> Any:
        if str(path).endswith(only):
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *rest, **more)

    return partial(patch, name, refuse)


def _no_room() -> AbstractContextManager[Any]:
    return patch("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))


def _read_only_folder() -> AbstractContextManager[Any]:
    return patch("os.access", lambda _, mode, **__: mode == os.R_OK)


@contextmanager
def _without_torch() -> Iterator[None]:
    with patch.dict(sys.modules, {"torch": None}):
        yield


def _without_cuda() -> AbstractContextManager[Any]:
    return patch("torch.cuda.is_available", lambda: False)


def torch_fails(wrong: BaseException, device: str = "cpu") -> Callable[[], AbstractContextManager[Any]]:
    """Running a convolution on this device fails so."""

    @contextmanager
    def fault() -> Iterator[None]:
        import torch

        from net2net_cli.runtime import machine, running

        def fail(*_: Any, **__: Any) -> Any:
            raise wrong

        def told(_: Any) -> Any:
            return machine.explained(torch.device(device))

        with patch("torch.nn.Conv2d.forward", fail), patch.object(running, "explained", told):
            yield

    return fault


def training_fails() -> AbstractContextManager[Any]:
    """Memory suffices for evaluation alone."""
    import torch

    real = torch.nn.Conv2d.forward

    def forward(self: Any, x: Any) -> Any:
        if self.training:
            raise MemoryError
        return real(self, x)

    return patch("torch.nn.Conv2d.forward", forward)


def raises(name: str, wrong: BaseException) -> Callable[[], AbstractContextManager[Any]]:
    def fail(*_: Any, **__: Any) -> Any:
        raise wrong

    return partial(patch, name, fail)


@contextmanager
def _builds(*, cuda: bool = False, mps: bool | None = None) -> Iterator[None]:
    """PyTorch was built with or without these, and there is no such device."""
    import torch

    with (
        patch.object(torch.version, "cuda", "12.4" if cuda else None),
        patch.object(torch.version, "hip", None),
        patch("torch.cuda.is_available", lambda: False),
        patch("torch.backends.mps.is_built", lambda: bool(mps)),
        patch("torch.backends.mps.is_available", lambda: False),
    ):
        yield


def device(name: str, given: str, **builds: bool) -> Example:
    """A device that is not there."""
    return Example(VERIFY + name, given=given, fault=partial(_builds, **builds), vague=r"(?<=PyTorch )\d\S*")


FILES = (
    Example(WIDEN, given="The disk is full.", fault=_no_room),
    Example(WIDEN, given="All that this user may write on the disk is written.", fault=fails(errno.EDQUOT)),
    Example(
        WIDEN,
        given="Something holds a lock on the folder, and does not let go.",
        fault=partial(patch, "net2net_cli.checkpoint.parts._within", lambda *_: False),
    ),
    Example(WIDEN, given="The folder may not be written.", fault=_read_only_folder),
    Example(
        "net2net inspect teacher.json",
        given="`teacher.json` may not be read.",
        fault=fails(errno.EACCES, "pathlib.Path.open", "teacher.json"),
    ),
    Example(WIDEN, given="The disk was mounted read-only.", fault=fails(errno.EROFS)),
    Example(WIDEN, given="`ulimit -f` is smaller than the student.", fault=fails(errno.EFBIG)),
    Example(WIDEN, given="The disk is damaged.", fault=fails(errno.EIO)),
    Example(
        WIDEN,
        given="The disk hangs behind a network, which fails.",
        fault=fails(errno.ENXIO),
        vague=r"(?<=gone \().*(?=\)\n)",
    ),
    Example(WIDEN, given="The disk is busy.", fault=fails(errno.EBUSY), vague=r"(?<=s`: ).*"),
    Example(
        "net2net inspect teacher.safetensors > layers.txt",
        given="The disk is full.",
        fault=raises("net2net_cli.cli.printing.Printer.data", OSError(errno.ENOSPC, "No space left on device")),
    ),
)

TORCH = (
    Example(VERIFY + "cpu", given="PyTorch is not installed.", fault=_without_torch, vague=r"(?<=PyTorch: ).*"),
    Example("net2net env", given="PyTorch is not installed.", fault=_without_torch, vague=r"(?<=PyTorch: ).*"),
    Example(CHECKED.replace("--device cpu", "--device cuda"), given="There is no CUDA device.", fault=_without_cuda),
    device("cuda", "PyTorch was built without CUDA."),
    device("mps", "PyTorch was built without MPS."),
    device("mps", "There is no Apple GPU.", mps=True),
    Example(VERIFY + "cpu", given="Memory does not suffice.", fault=torch_fails(MemoryError())),
    Example(VERIFY + "cpu --level train", given="Memory does not suffice for training.", fault=training_fails),
    Example(
        VERIFY + "cpu --dtype float16",
        given="The device has no kernel for this type.",
        fault=torch_fails(RuntimeError("\"slow_conv2d\" not implemented for 'Half'"), "cpu"),
    ),
    Example(
        VERIFY + "auto",
        given="The GPU fails.",
        fault=torch_fails(RuntimeError("CUDA error: an illegal memory access was encountered"), "cuda"),
    ),
    Example(
        "net2net inspect teacher.safetensors",
        given="Memory does not suffice.",
        fault=raises("net2net_cli.model.Net2Net.load", MemoryError()),
    ),
    api('teacher.verify(teacher, device="gpu")'),
)


def _other(folder: Path, value: float = 0.01) -> None:
    model = Net2Net.load(folder / "teacher.safetensors")
    tensors = {name: model.tensor(name).copy() for name, *_ in model.graph.tensors()}
    tensors["block.conv2.weight"][2, 1, 1, 1] += value
    Net2Net.from_tensors(model.graph, tensors).save(folder / "other.safetensors")


DIFFER = (
    Example(
        "net2net verify teacher.safetensors other.safetensors --device cpu",
        given="One number of `other.safetensors` was changed by 0.01.",
        before=_other,
        vague=r"(?<=differ by )\S+|(?<=teacher )[-.\d]+|(?<=student )[-.\d]+|(?<=--tolerance )[^`]+",
    ),
    Example(
        "net2net verify teacher.safetensors other.safetensors --device cpu --allow-nan",
        given="One number of `other.safetensors` is NaN.",
        before=partial(_other, value=float("nan")),
    ),
)

AREAS = (
    Area("files", "Disks and permissions", 5, "", FILES),
    Area("torch", "PyTorch, devices and memory", 5, "", TORCH),
    Area("differ", "Outputs that differ", 1, "", DIFFER),
)
