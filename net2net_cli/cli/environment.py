"""What this machine can compute on, and whether this PyTorch fits its driver and its GPUs.

With `--json`: `net2net`, `python`, `platform`, `numpy`; `torch` (version, null where it cannot be imported),
`torch_problem`, `cuda_build`, `rocm_build`, `cuda_problem`, `architectures` (GPU code in this build, as PyTorch names
it), `driver` (version), `driver_cuda` (the newest CUDA it can run), `devices` (a list of `device`, `name`, `bytes`,
`capability`), `fits` (whether PyTorch can use all that is there), `verdict` (a sentence), `advice` (which build would
fit, null where this one does).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from net2net_cli.cli.tables import brief, facts
from net2net_cli.version import __version__

WHEELS = "https://download.pytorch.org/whl/"


def environment_payload() -> dict[str, Any]:
    """The object that the module describes."""
    import numpy as np

    from net2net_cli.runtime.driver import nvidia_driver

    driver = nvidia_driver()
    found = {
        "net2net": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        "driver": driver.version,
        "driver_cuda": driver.cuda,
        **_torch(),
    }
    fits, verdict, advice = judge(found)
    return {**found, "fits": fits, "verdict": verdict, "advice": advice}


def _torch() -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("torch", "torch_problem", "cuda_build", "rocm_build", "cuda_problem"))
    found |= {"architectures": [], "devices": []}
    try:
        import torch
    except Exception as error:  # noqa: BLE001 # a broken installation fails in every possible way
        lines = str(error).splitlines() or [type(error).__name__]
        return {**found, "torch_problem": lines[0]}
    from net2net_cli.runtime.machine import cuda_problem, mps_problem

    problem = cuda_problem()
    devices = [] if problem else [_cuda_device(torch, i) for i in range(torch.cuda.device_count())]
    if mps_problem() is None:
        devices.append(_device_of("mps", "Apple GPU"))
    return {
        **found,
        "torch": torch.__version__,
        "cuda_build": torch.version.cuda,
        "rocm_build": torch.version.hip,
        "cuda_problem": problem,
        "architectures": [] if problem else torch.cuda.get_arch_list(),
        "devices": [*devices, _device_of("cpu", f"{torch.get_num_threads()} threads")],
    }


def _device_of(device: str, name: str, size: int | None = None, capability: str | None = None) -> dict[str, Any]:
    return {"device": device, "name": name, "bytes": size, "capability": capability}


def _cuda_device(torch: Any, index: int) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(index)
    return _device_of(f"cuda:{index}", found.name, found.total_memory, f"{found.major}.{found.minor}")


def judge(found: Mapping[str, Any]) -> tuple[bool, str, str | None]:
    """Whether PyTorch can use all that is there, what that means, and which build would fit where this one does not."""
    if found["torch"] is None:
        said = "PyTorch cannot be imported: `inspect`, `diff` and `--no-verify` growth work, the rest does not"
        return False, said, _build_for(found["driver_cuda"])
    gpus = [d for d in found["devices"] if d["device"].startswith(("cuda", "mps"))]
    for gpu in gpus:
        if (unfit := _unfit(gpu, found)) is not None:
            return False, *unfit
    if gpus:
        return True, "PyTorch and the GPU fit: outputs are compared there", None
    if found["driver"] is None:
        return True, "no NVIDIA driver was found: outputs are compared on the CPU, which always works", None
    return False, _unused(found), _build_for(found["driver_cuda"])


def _unused(found: Mapping[str, Any]) -> str:
    """Why PyTorch does not use the GPU whose driver is there."""
    build, can = found["cuda_build"], found["driver_cuda"]
    if found["rocm_build"]:
        return f"this PyTorch was built for AMD's ROCm {found['rocm_build']}, and the driver is NVIDIA's"
    if build is None:
        return f"this PyTorch was built without CUDA, and the driver runs {_up_to(can)}"
    if can and _number(build)[0] > _number(can)[0]:  # within one major version, newer builds run on older drivers
        return f"this PyTorch needs CUDA {build}, and the driver runs {_up_to(can)}: it is too old for this build"
    return f"the driver is there, but PyTorch cannot use it: {found['cuda_problem']}"


def _up_to(cuda: str | None) -> str:
    return f"CUDA up to {cuda}" if cuda else "a CUDA that it does not name"


def _build_for(cuda: str | None) -> str | None:
    """The build that a driver is sure to run; which ones there are is for the index to say."""
    if cuda is None:
        return None
    name = "cu" + "".join(str(part) for part in _number(cuda)[:2])
    return (
        f"a build for CUDA {cuda} or older fits: `pip install torch torchvision --index-url {WHEELS}{name}`, or the "
        f"next smaller number that {WHEELS} lists; or update the driver"
    )


def _unfit(gpu: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, str] | None:
    """What to say of a GPU that this build has no code for, or None where it has, or does not tell."""
    code = [(kind, (int(number) // 10, int(number) % 10)) for kind, number in _architectures(found["architectures"])]
    if not gpu.get("capability") or not code:
        return None
    own = _number(gpu["capability"])
    if any(made <= own and (kind == "compute" or made[0] == own[0]) for kind, made in code):
        return None
    least, most = min(made for _, made in code), max(made for _, made in code)
    verdict = (
        f"this PyTorch has no code for the {gpu['name']}, of compute capability {gpu['capability']}: it was built for "
        f"{least[0]}.{least[1]} to {most[0]}.{most[1]}"
    )
    if own > most:
        return verdict, "a newer PyTorch, built for a newer CUDA, fits: `pip install --upgrade torch torchvision`"
    older = f"{WHEELS} lists builds for older CUDA, and older PyTorch has code for older GPUs; or use `--device cpu`"
    return verdict, older


def _architectures(names: Sequence[str]) -> list[tuple[str, str]]:
    """`sm_90a` -> (`sm`, `90`): binary code for one major version; `compute_90`: code for all later GPUs."""
    return [(m[1], m[2]) for name in names if (m := re.fullmatch(r"(sm|compute)_(\d{2,3})[a-z]?", name))]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def environment_text(payload: Mapping[str, Any]) -> str:
    """The same for people."""
    build = f"built for CUDA {payload['cuda_build']}" if payload["cuda_build"] else "built without CUDA"
    build = f"built for ROCm {payload['rocm_build']}" if payload["rocm_build"] else build
    driver = f"{payload['driver']}, runs {_up_to(payload['driver_cuda'])}" if payload["driver"] else "none found"
    torch = f"{payload['torch']}, {build}" if payload["torch"] else f"none: {payload['torch_problem']}"
    rows = [
        ("net2net", payload["net2net"]),
        ("python", f"{payload['python']} on {payload['platform']}"),
        ("numpy", payload["numpy"]),
        ("torch", torch),
        ("NVIDIA driver", driver),
        *(("devices" if i == 0 else "", _device(d)) for i, d in enumerate(payload["devices"])),
        ("verdict", payload["verdict"]),
        ("advice", payload["advice"] or ""),
    ]
    return facts(rows)


def _device(device: Mapping[str, Any]) -> str:
    memory = f", {brief(device['bytes'])}B" if device["bytes"] else ""
    capability = f", compute capability {device['capability']}" if device["capability"] else ""
    return f"{device['device']}  {device['name']}{memory}{capability}"
