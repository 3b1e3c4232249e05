"""The user's own code: found, called, and what goes wrong in it told with its line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from net2net_cli.architecture.spec_values import nearest
from net2net_cli.errors import InputError, Net2NetError, UsageError

DEFAULT_INPUT = "3x224x224"
SAMPLES = 2


def find_callable(source: str) -> Callable[..., Any]:
    """The callable that `package.module:callable` or `file.py:callable` names.

    Raises:
        UsageError: there is none.
        InputError: importing it fails.
    """
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"`{source}` is no source", "write `package.module:callable` or `file.py:callable`")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(
                f"`{place}` has no `{part}`", nearest(part, [n for n in vars(found) if not n.startswith("_")])
            )
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"`{source}` is no callable", "name a function or class that returns a `torch.nn.Module`")
    return found  # type: ignore[no-any-return]


_LOADED: dict[tuple[Path, int, int], Any] = {}
"""Modules of files, by path, time and size: a file that has not changed is run once."""


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"there is no file `{path}`", "give the path of a Python file, as in `model.py:Model`")
    found = path.stat()
    key = (path.resolve(), found.st_mtime_ns, found.st_size)
    if key not in _LOADED:
        _LOADED[key] = _run_file(path)
    sys.modules[path.stem] = _LOADED[key]
    return _LOADED[key]


def _run_file(path: Path) -> Any:
    sys.path.insert(0, str(path.resolve().parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    return _guarded(lambda: specification.loader.exec_module(module), path.name) or module  # type: ignore[union-attr]


def _load_module(name: str) -> Any:
    sys.path.insert(0, "")  # as `python -m` does: modules in the present folder are found
    return _guarded(lambda: importlib.import_module(name), name)


def _guarded(run: Callable[[], Any], what: str) -> Any:
    """Run the user's code; what goes wrong there is the user's to see, with its line."""
    try:
        return run()
    except ModuleNotFoundError as missing:
        if missing.name is not None and (what == missing.name or what.startswith(f"{missing.name}.")):
            raise UsageError(f"there is no module `{missing.name}`", "is it installed in this environment?") from None
        raise InputError(
            f"importing `{what}` failed: {missing}", "install what it needs in this environment"
        ) from missing
    except (KeyboardInterrupt, Net2NetError):
        raise
    except Exception as wrong:
        raise InputError(
            f"`{what}` failed: {type(wrong).__name__}: {wrong}{_line(wrong)}", "run it in Python to see more"
        ) from wrong


def _line(wrong: BaseException) -> str:
    trace_back = wrong.__traceback__
    places = []
    while trace_back is not None:
        code = trace_back.tb_frame.f_code
        if "net2net_cli" not in code.co_filename and not code.co_filename.startswith("<"):
            places.append(f" ({Path(code.co_filename).name}:{trace_back.tb_lineno})")
        trace_back = trace_back.tb_next
    return places[-1] if places else ""


def make_module(factory: Callable[..., Any], source: str, kwargs: dict[str, Any], *, has_weights: bool) -> nn.Module:
    """Call it.

    Raises:
        UsageError: it takes no such argument, or returns no module.
        InputError: it fails.
    """
    if isinstance(factory, nn.Module):
        return factory
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        known = {}  # type: ignore[assignment]
    if has_weights and "init_weights" in known:
        kwargs.setdefault("init_weights", False)  # torchvision's slow draw would be overwritten
    unknown = [k for k in kwargs if k not in known]
    if unknown and known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        raise UsageError(f"`{source}` takes no argument `{unknown[0]}`", nearest(unknown[0], list(known)))
    model = _guarded(lambda: factory(**kwargs), source)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"`{source}` returned a value of type `{type(model).__name__}`, and no `torch.nn.Module`",
            "name the function that makes it",
        )
    return model


def default_input(source: str, model: nn.Module) -> str:
    """The size that torchvision's weights of a network were trained at, else 3x224x224."""
    place, _, name = source.rpartition(":")
    if not place.startswith("torchvision.models"):
        return DEFAULT_INPUT
    from torchvision import models

    try:
        transforms = models.get_model_weights(name).DEFAULT.transforms()
    except (ValueError, AttributeError):
        return DEFAULT_INPUT
    crop = getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or [224]
    sizes = [int(c) for c in (crop if isinstance(crop, (list, tuple)) else [crop])]
    frames = "16x" if type(model).__module__.startswith("torchvision.models.video") else ""
    height, width = sizes[0], sizes[-1]
    return f"3x{frames}{height}x{width}"


def example_input(text: str) -> Tensor:
    """`3x224x224` or `128:int64` as a tensor of two samples.

    Raises:
        UsageError: it is no shape.
    """
    sizes, _, kind = text.partition(":")
    dtype = getattr(torch, kind or "float32", None)
    parts = sizes.replace("×", "x").split("x") if sizes else []
    if not isinstance(dtype, torch.dtype) or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UsageError(
            f"`{text}` is no input shape", "write sizes without the batch, as in `3x224x224` or `128:int64`"
        )
    return torch.zeros((SAMPLES, *map(int, parts)), dtype=dtype)
