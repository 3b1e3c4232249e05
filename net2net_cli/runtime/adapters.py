"""Every private or fragile name of torch, torchvision, timm and einops that tracing touches.

`tests/runtime/test_trace_adapters.py` holds that each is still there and means what it meant.
"""

from __future__ import annotations

import builtins
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import _symbolic_trace
from torch.fx.proxy import Attribute, Proxy
from torch.nn.utils import parametrize

from net2net_cli.runtime.modules import Recurrent

__all__ = ["Attribute", "Proxy"]

TRACER_HOOKS = (
    "call_module",
    "create_arg",
    "create_args_for_root",
    "create_proxy",
    "getattr",
    "iter",
    "proxy",
    "to_bool",
)
"""Methods of `torch.fx.Tracer` that tracing overrides."""

LAZY = ("torch.nn.modules.lazy.LazyModuleMixin",)
SCRIPTED = ("torch.jit.ScriptModule",)
COMPILED = ("torch._dynamo.eval_frame.OptimizedModule",)
QUANTISED = ("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic", "torch.nn.qat")
"""Class names and module prefixes that are refused."""

WEIGHT_NORM = "torch.nn.utils.parametrizations._WeightNorm"
WEIGHT_NORM_HOOK = "torch.nn.utils.weight_norm.WeightNorm"
"""The two ways of weight norm: what computes the weights, with an axis `dim` and, of the hook, the weights' `name`."""

NORM_HOOKS = {
    WEIGHT_NORM_HOOK: "torch.nn.utils.remove_weight_norm(module)",
    "torch.nn.utils.spectral_norm.SpectralNorm": "torch.nn.utils.remove_spectral_norm(module)",
}
"""Old-style reparametrisations: the class of their hook, and how to take it off."""

TRANSPARENT = (
    *("torch.nn.Identity", "torch.nn.Flatten", "torch.nn.Unflatten", "torch.nn.GLU"),
    *("torch.nn.PixelShuffle", "torch.nn.PixelUnshuffle", "torch.nn.ChannelShuffle"),
    *("torch.nn.ConstantPad1d", "torch.nn.ConstantPad2d", "torch.nn.ConstantPad3d"),
    *("torch.nn.ZeroPad1d", "torch.nn.ZeroPad2d", "torch.nn.ZeroPad3d"),
    *("torch.nn.ReflectionPad1d", "torch.nn.ReflectionPad2d", "torch.nn.ReflectionPad3d"),
    *("torch.nn.ReplicationPad1d", "torch.nn.ReplicationPad2d", "torch.nn.ReplicationPad3d"),
    *("torch.nn.CircularPad1d", "torch.nn.CircularPad2d", "torch.nn.CircularPad3d"),
)
"""Modules of torch that are one call of a function: they are traced through, and the call bears the module's name."""

CONTAINERS = ("torch.nn.modules.container", "torch.nn.utils.parametrize", "torch.nn.utils.parametrizations")
"""Modules of torch without a computation of their own are defined here."""

ASSERT = torch._assert
"""`assert` for traced code, as torchvision's transformers write it."""

BATCH_NORMS = (torch.nn.modules.batchnorm._BatchNorm,)
"""They give a new tensor like their input, and need milliseconds for it on the meta device."""

_RECURRENT_FORWARDS = (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward, Recurrent.forward)

RECURRENT = (torch.nn.modules.rnn.RNNBase,)
"""They keep a second list of their parameters, `_flat_weights`, in the order of `_flat_weights_names`; and on the meta
device they take milliseconds for every step of a sequence."""

LEAF_FUNCTIONS = {
    "einops.einops.reduce": ("einops.einops", "einops"),
    "einops.einops.einsum": ("einops.einops", "einops"),
    "torchvision.ops.stochastic_depth.stochastic_depth": ("torchvision.ops",),
    "torch.ones": ("torch",),
    "torch.zeros": ("torch",),
    "torch.full": ("torch",),
    "torch.empty": ("torch",),
    "torch.randn": ("torch",),
    "torch.rand": ("torch",),
}
"""Functions that are recorded as one call, and the modules through which they are reached: Python functions, and those
of torch that take sizes one by one, which it parses before it asks what they are.

`rearrange` and `repeat` of einops look up `reduce` in their own module when they run.
"""

EINOPS_REDUCE = "einops.einops.reduce"
EINOPS_LAYERS = {"einops.layers.torch.Rearrange": "rearrange", "einops.layers.torch.Reduce": None}
"""Module classes of einops, and their reduction; None where the module says it."""


def dotted(cls: type) -> str:
    """The name by which a class is defined."""
    return f"{cls.__module__}.{cls.__qualname__}"


def loaded(name: str) -> Any:
    """What a dotted name means, or None where that is not imported or does not exist."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is not None:
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found
    return None


def storage_of(tensor: Tensor) -> int:
    """A number that two living tensors share if and only if they share memory; meta tensors have one too."""
    return int(tensor.untyped_storage()._cdata)


def version_of(tensor: Tensor) -> int:
    """A counter that goes up with every write in place, through whichever view."""
    return int(tensor._version)


def geometry_of(tensor: Tensor) -> tuple[Any, ...]:
    """What tells two views of one storage apart."""
    return (tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()))


def hooks_of(module: nn.Module) -> list[Any]:
    """Forward hooks of a module, old-style weight and spectral norm among them."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def weight_norm_of(module: nn.Module) -> tuple[Literal["hook", "parametrization"], int] | None:
    """How a module's weights are stored as lengths and directions, and along which axis they are normalised.

    None where they are not, or where more than that is done to its tensors.
    """
    found: list[Any] = [h for h in module._forward_pre_hooks.values() if dotted(type(h)) == WEIGHT_NORM_HOOK]
    if parametrize.is_parametrized(module):
        parts: Any = module.parametrizations
        alone = not found and set(parts) == {"weight"} and len(parts["weight"]) == 1
        norm = parts["weight"][0] if alone else None
        return ("parametrization", norm.dim) if norm and dotted(type(norm)) == WEIGHT_NORM else None
    if len(found) != 1 or found[0].name != "weight" or len(hooks_of(module)) != 1:
        return None
    return "hook", found[0].dim


def other_hooks_of(module: nn.Module) -> list[Any]:
    """Forward hooks of a module, but for that of a weight norm that is read."""
    hooks = hooks_of(module)
    return [h for h in hooks if dotted(type(h)) != WEIGHT_NORM_HOOK] if weight_norm_of(module) else hooks


def unsaved_buffers(module: nn.Module) -> set[str]:
    """Names of a module's own buffers that its state dict leaves out."""
    return set(module._non_persistent_buffers_set)


FLAT_WEIGHTS = ("_flat_weights", "_flat_weight_refs")
"""Attributes in which recurrent modules hold their parameters a second time."""


def twin_of(module: nn.Module, convert: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a module whose tensors are converted ones; nothing that it does reaches the original."""
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__ = dict(module.__dict__)
    for kind in ("_parameters", "_buffers"):
        held = {name: None if t is None else convert(t) for name, t in getattr(module, kind).items()}
        twin.__dict__[kind] = held
    twin.__dict__["_modules"] = {
        name: None if child is None else twin_of(child, convert) for name, child in module._modules.items()
    }
    if isinstance(module, RECURRENT):
        twin.__dict__["_flat_weights"] = [twin._parameters[name] for name in module._flat_weights_names]
    return twin


def returns_states(module: nn.Module) -> TypeGuard[nn.RNNBase]:
    """Whether a recurrent module's results are those of PyTorch's classes, or of our own."""
    return isinstance(module, RECURRENT) and type(module).forward in _RECURRENT_FORWARDS


def results_of_recurrent(module: nn.RNNBase, x: Tensor, *states: Any, hx: Any = None) -> Any:
    """New tensors like the output and the final states that a recurrent module returns for a batch of sequences."""
    if x.ndim != 3 or x.shape[2] != module.input_size:
        raise ValueError("the input is no batch of sequences for this module")
    directions, width = 2 if module.bidirectional else 1, module.proj_size or module.hidden_size
    samples = x.shape[0 if module.batch_first else 1]
    output = x.new_empty((*x.shape[:2], directions * width))
    final, cell = (x.new_empty((directions * module.num_layers, samples, size)) for size in (width, module.hidden_size))
    if isinstance(module, Recurrent):
        kinds = 2 if module.mode == "LSTM" else 1
        steps = output.narrow(1 if module.batch_first else 0, 0, 1)
        rows = [steps] * (kinds * module.num_layers if module.states else 0)
        return torch.cat([output, *rows], 1 if module.batch_first else 0)
    return (output, (final, cell)) if module.mode == "LSTM" else (output, final)


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Attributes, training flags and buffers of every submodule, and random states, are afterwards what they were."""
    kept = [(m, _attributes(m)) for m in model.modules()]
    buffers = [(b, b.clone()) for b in model.buffers()]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user's forward may draw from it
    with torch.random.fork_rng(devices=_devices(model)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002 - as above
            for module, (attributes, held) in kept:
                module.__dict__.clear()
                module.__dict__.update(attributes)
                for name, values in held.items():
                    attributes[name].clear()
                    attributes[name].update(values)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


def _attributes(module: nn.Module) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    held = {name: dict(getattr(module, name)) for name in ("_parameters", "_buffers", "_modules")}
    return dict(module.__dict__), held


def _devices(model: nn.Module) -> list[torch.device]:
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})


def random_states() -> tuple[Any, ...]:
    """The states of the generators that a forward may draw from while it is traced."""
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - a user's forward may draw from it
    return random.getstate(), bytes(torch.get_rng_state().numpy()), (*legacy[:1], legacy[1].tobytes(), *legacy[2:])


@contextmanager
def same_random_state() -> Iterator[None]:
    """Draws inside are not seen outside."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def leaf_functions() -> dict[str, Callable[..., Any]]:
    """The functions of `LEAF_FUNCTIONS` that are imported."""
    found = {name: loaded(name) for name in LEAF_FUNCTIONS}
    return {name: function for name, function in found.items() if function is not None}


@contextmanager
def unwrapped(leaves: Iterable[Callable[..., Any]]) -> Iterator[None]:
    """`torch.fx.wrap` is without effect, but for leaves and torch's own functions.

    People make leaves of functions that compute with sizes, or return tuples of them; sizes are known here.
    """
    wraps = _symbolic_trace._wrapped_fns_to_patch
    kept, before = list(leaves), dict(wraps)
    for (frame, name), scope in before.items():
        if scope.get("__name__", "").partition(".")[0] != "torch" and scope.get(name) not in kept:
            del wraps[frame, name]
    try:
        yield
    finally:
        wraps.clear()
        wraps.update(before)


@contextmanager
def patched(function: str, instead: Callable[..., Any]) -> Iterator[None]:
    """A leaf function exchanged for another, wherever it is reached through a module."""
    name = function.rpartition(".")[2]
    homes = [sys.modules[home] for home in LEAF_FUNCTIONS[function]]
    before = [getattr(home, name) for home in homes]
    for home in homes:
        setattr(home, name, instead)
    try:
        yield
    finally:
        for home, value in zip(homes, before, strict=True):
            setattr(home, name, value)


def called_as(m: nn.Module, said: Callable[..., Any], forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A module called with another forward; its own call runs its hooks around it."""
    if not other_hooks_of(m):
        return said(*args, **kwargs)
    m.__dict__["forward"] = said
    try:
        return forward(*args, **kwargs)
    finally:
        del m.__dict__["forward"]


@contextmanager
def scripts_inlined() -> Iterator[None]:
    """Functions compiled by `torch.jit.script` run, where they are given proxies, as what they were compiled from."""
    cls: Any = torch.jit.ScriptFunction
    before = cls.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        original: Any = getattr(self, SCRIPTED_FROM, None)
        if original is None or not proxies((args, tuple(kwargs.values()))):
            return before(self, *args, **kwargs)
        return original(*args, **kwargs)

    cls.__call__ = call
    try:
        yield
    finally:
        cls.__call__ = before


SCRIPTED_FROM = "_torchdynamo_inline"
"""Where a compiled function holds the Python function that it was compiled from."""

SEED = 0x6E6574326E6574
"""Of PyTorch's generator while a forward is traced; one that nobody sets by hand."""

LEN = len
"""Python's own."""


def proxies(value: Any) -> bool:
    """Whether there are proxies in nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return any(map(proxies, value))
    return isinstance(value, Proxy)


@contextmanager
def lengths_by(length: Callable[[Any], Any]) -> Iterator[None]:
    """Python's `len` exchanged, which returns nothing but an int."""
    before = builtins.len
    builtins.len = length
    try:
        yield
    finally:
        builtins.len = before


def subclass_of(cls: type, names: Iterable[str]) -> bool:
    """Whether a class has one of the named classes among its bases."""
    wanted = set(names)
    with suppress(TypeError):
        wanted |= {dotted(found) for found in map(loaded, wanted) if found is not None}
    return any(dotted(base) in wanted for base in cls.__mro__)
