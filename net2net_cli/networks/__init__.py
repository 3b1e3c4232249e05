"""Networks to grow: LeNet-5, a small ResNet, and the Inception-V2 that the Net2Net paper grew.

Each name is a function that returns a `torch.nn.Module`, so that `net2net import net2net_cli.networks:lenet5` works.
They are imported when first asked for: naming this package costs no torch. No file here bears the name of such a
function, because importing a submodule would put the module where the function was.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from net2net_cli.networks.inception import inception_v2
    from net2net_cli.networks.lenet import lenet5
    from net2net_cli.networks.resnet import small_resnet

__all__ = ["inception_v2", "lenet5", "small_resnet"]

_FILES = {"inception_v2": "inception", "lenet5": "lenet", "small_resnet": "resnet"}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
