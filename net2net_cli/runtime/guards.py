"""What is refused before tracing: modules whose state dict or forward is not what their class says."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from net2net_cli.errors import TraceError
from net2net_cli.runtime import adapters
from net2net_cli.runtime.readings import Readings


def check_module(model: nn.Module) -> None:
    """Raise TraceError where a submodule cannot be traced, naming it."""
    readings = Readings()
    for path, module in model.named_modules():
        where = f"module `{path}`" if path else "the network"
        _check_class(module, where)
        if not path or not _has_known_weight_norm(module, readings):
            _check_reparametrised(module, where, path)
    if "forward" in model.__dict__ or adapters.hooks_of(model):
        raise TraceError(
            "the network's `forward` was replaced or has hooks, which tracing would not see",
            "put what they do into the class",
        )


def _check_class(module: nn.Module, where: str) -> None:
    cls, name = type(module), adapters.dotted(type(module))
    if adapters.subclass_of(cls, adapters.COMPILED):
        raise TraceError(f"{where} is compiled", "trace the module itself: `model._orig_mod`")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TraceError(f"{where} is wrapped in `{cls.__name__}`", "trace the module itself: `model.module`")
    if adapters.subclass_of(cls, adapters.SCRIPTED):
        raise TraceError(f"{where} is a TorchScript module", "import the Python class that it was made from")
    if adapters.subclass_of(cls, adapters.LAZY):
        raise TraceError(f"{where} is a lazy `{name}` without shapes", "run one batch through the network first")
    if name.startswith(adapters.QUANTISED):
        raise TraceError(f"{where} is a quantised `{name}`", "import the network as it was before quantisation")


def _has_known_weight_norm(module: nn.Module, readings: Readings) -> bool:
    cls = readings.base_of(module) if adapters.weight_norm_of(module) else None
    if cls is None:
        return False
    try:
        readings.read(module, cls)
    except ValueError:
        return False
    return True


def _check_reparametrised(module: nn.Module, where: str, path: str) -> None:
    found = f'model.get_submodule("{path}")' if path else "model"
    if parametrize.is_parametrized(module):
        tensor = next(iter(module.parametrizations))  # type: ignore[arg-type]
        raise TraceError(
            f"{where} computes its `{tensor}` from other tensors (a parametrization that no spec can say)",
            f'bake it in: `torch.nn.utils.parametrize.remove_parametrizations({found}, "{tensor}")`',
        )
    for hook in adapters.hooks_of(module):
        name = adapters.dotted(type(hook))
        if name in adapters.NORM_HOOKS:
            raise TraceError(
                f"{where} computes its weight from other tensors (`{name.rpartition('.')[2]}`)",
                f"bake it in: `{adapters.NORM_HOOKS[name].replace('module', found)}`",
            )
