"""What this machine can compute on.

With `--json`: `net2net`, `python`, `platform`, `numpy`; `torch` (version, null where it cannot be imported),
`torch_problem`, `cuda_build`, `driver` (version), `driver_cuda` (the newest CUDA it can run), `devices` (a list of
`device`, `name`, `bytes`), `fits` (whether PyTorch can use all that is there), `verdict` (a sentence).
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from net2net_cli.cli.tables import brief, facts
from net2net_cli.version import __version__

PATIENCE = 10
"""Seconds for a driver to answer."""


def environment_payload() -> dict[str, Any]:
    """The object that the module describes."""
    import numpy as np

    found = {
        "net2net": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        **_driver(),
        **_torch(),
    }
    fits, verdict = judge(found)
    return {**found, "fits": fits, "verdict": verdict}


def _driver() -> dict[str, Any]:
    """What `nvidia-smi` says, in words that have been the same for years."""
    try:
        text = subprocess.run(  # a fixed program without arguments
            ["nvidia-smi"], capture_output=True, text=True, timeout=PATIENCE, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {"driver": None, "driver_cuda": None}
    version, cuda = (re.search(rf"{name} Version:\s*([\d.]+)", text) for name in ("Driver", r"CUDA(?: UMD)?"))
    return {"driver": version[1] if version else None, "driver_cuda": cuda[1] if cuda else None}


def _torch() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001 # a broken installation fails in every possible way
        lines = str(error).splitlines() or [type(error).__name__]
        return {"torch": None, "torch_problem": lines[0], "cuda_build": None, "cuda_problem": None, "devices": []}
    from net2net_cli.runtime.machine import cuda_problem, mps_problem

    problem = cuda_problem()
    devices = [] if problem else [_cuda_device(torch, i) for i in range(torch.cuda.device_count())]
    if mps_problem() is None:
        devices.append({"device": "mps", "name": "Apple GPU", "bytes": None})
    return {
        "torch": torch.__version__,
        "torch_problem": None,
        "cuda_build": torch.version.cuda,
        "cuda_problem": problem,
        "devices": [*devices, {"device": "cpu", "name": f"{torch.get_num_threads()} threads", "bytes": None}],
    }


def _cuda_device(torch: Any, index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {"device": f"cuda:{index}", "name": properties.name, "bytes": properties.total_memory}


def judge(found: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether PyTorch can use all that is there, and what to do where it cannot."""
    if found["torch"] is None:
        return False, "PyTorch cannot be imported: `inspect`, `diff` and `--no-verify` growth work, the rest does not"
    if any(d["device"].startswith(("cuda", "mps")) for d in found["devices"]):
        return True, "PyTorch and the GPU fit: outputs are compared there"
    if found["driver"] is None:
        return True, "no NVIDIA driver was found: outputs are compared on the CPU, which always works"
    can, index = found["driver_cuda"], "https://pytorch.org/get-started/locally"
    if found["cuda_build"] is None:
        return False, f"this PyTorch was built without CUDA, the driver runs CUDA up to {can}: see {index}"
    if can and _number(found["cuda_build"]) > _number(can):
        return False, f"this PyTorch needs CUDA {found['cuda_build']}, the driver runs CUDA up to {can}: see {index}"
    return False, f"the driver is there, but PyTorch cannot use it: {found['cuda_problem']}"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def environment_text(payload: Mapping[str, Any]) -> str:
    """The same for people."""
    build = f"built for CUDA {payload['cuda_build']}" if payload["cuda_build"] else "built without CUDA"
    driver = f"{payload['driver']}, runs CUDA up to {payload['driver_cuda']}" if payload["driver"] else "none found"
    torch = f"{payload['torch']}, {build}" if payload["torch"] else f"none: {payload['torch_problem']}"
    rows = [
        ("net2net", payload["net2net"]),
        ("python", f"{payload['python']} on {payload['platform']}"),
        ("numpy", payload["numpy"]),
        ("torch", torch),
        ("NVIDIA driver", driver),
        *(("devices" if i == 0 else "", _device(d)) for i, d in enumerate(payload["devices"])),
        ("verdict", payload["verdict"]),
    ]
    return facts(rows)


def _device(device: Mapping[str, Any]) -> str:
    memory = f", {brief(device['bytes'])}B" if device["bytes"] else ""
    return f"{device['device']}  {device['name']}{memory}"
