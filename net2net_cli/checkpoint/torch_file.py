"""State dicts from files that people have: `.pt`, `.pth`, `.bin` (never running their code) and `.safetensors`.

torch is imported only when a PyTorch file is read.
"""

from __future__ import annotations

import errno
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from net2net_cli.checkpoint.file_kinds import HEAD_BYTES, looks_like_safetensors, recognise
from net2net_cli.checkpoint.os_errors import explain_os_error
from net2net_cli.checkpoint.safetensors_file import TensorInfo, open_checkpoint, open_regular_file
from net2net_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "state_dict_ema", "model_ema", "ema")
"""Keys under which training scripts put the state dict, the one to take first if there are several."""

_PREFIXES = ("module.", "_orig_mod.")  # DataParallel and DistributedDataParallel; torch.compile
_MAX_WRAPPERS = 2
_SAVE_HINT = "load it in Python where you trust it, and save `model.state_dict()` with `torch.save`"
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_NO_BUFFER_PROTOCOL: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}


@dataclass(frozen=True, slots=True)
class LoadedState:
    """A state dict as it was found.

    Attributes:
        tensors: read-only arrays by name, each piece of shared storage once.
        aliases: tied tensors; the name that is not in `tensors` -> the name that is.
        notes: what was unwrapped, renamed or passed over; sentences for people.
    """

    tensors: dict[str, np.ndarray]
    aliases: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_state_dict(path: Path) -> LoadedState:
    """Read the state dict in `path`, whatever the file's suffix says.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it holds no state dict, wants to run code, or is damaged.
        MachineError: it may not be read.
    """
    head = _read_head(path)
    if path.suffix == ".safetensors" or looks_like_safetensors(head):
        return _load_safetensors(path)
    kind = recognise(head)
    if not head:
        raise CheckpointError(f"`{path}` is empty", "fetch or save the file again")
    if kind is None:
        raise CheckpointError(
            f"`{path}` is neither a PyTorch nor a safetensors file", "give a file saved by `torch.save` or safetensors"
        )
    if not kind.is_torch:
        raise CheckpointError(f"`{path}` is not a PyTorch file: it is {kind.what}", kind.hint)
    return _load_torch(path, head)


def _read_head(path: Path) -> bytes:
    with open_regular_file(path) as file:
        try:
            return file.read(HEAD_BYTES)
        except OSError as error:
            raise explain_os_error(error, path, "read") from error


def _load_safetensors(path: Path) -> LoadedState:
    with open_checkpoint(path) as checkpoint:
        notes: list[str] = []
        names = _without_prefixes([*checkpoint.tensors, *checkpoint.aliases], notes)
        tensors = {names[name]: checkpoint.read(name) for name in checkpoint.tensors}
        aliases = {names[dropped]: names[kept] for dropped, kept in checkpoint.aliases.items()}
        return LoadedState(tensors, aliases, notes)


def _load_torch(path: Path, head: bytes) -> LoadedState:
    notes: list[str] = []
    found = _unwrap(path, unpickle(path, mapped=head.startswith(b"PK")), notes)
    tensors = _only_tensors(path, found, notes)
    names = _without_prefixes(list(tensors), notes)
    tensors = {names[name]: tensor for name, tensor in tensors.items()}
    aliases = _shared(tensors)
    return LoadedState(
        {name: _to_numpy(path, name, tensor) for name, tensor in tensors.items() if name not in aliases}, aliases, notes
    )


def read_torch_file(path: Path) -> object:
    """Whatever a file saved by `torch.save` holds, without running any code from it.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is no PyTorch file, wants to run code, or is damaged.
        MachineError: it may not be read.
    """
    head = _read_head(path)
    kind = recognise(head)
    if kind is None or not kind.is_torch:
        what = f": it is {kind.what}" if kind else ""
        raise CheckpointError(f"`{path}` is not a PyTorch file{what}", "give a file saved by `torch.save`")
    return unpickle(path, mapped=head.startswith(b"PK"))


def unpickle(path: Path, *, mapped: bool) -> object:
    """What `torch.load` makes of the file without running any code from it."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats; whatever matters comes as an error
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _refused_pickle(path, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle makes torch fail in every way there is, with `OSError` too
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ENOMEM):
            raise explain_os_error(error, path, "read") from error
        raise _damaged(path, error) from error


def _refused_pickle(path: Path, reason: str) -> CheckpointError:
    if found := _GLOBAL.search(reason):
        return CheckpointError(
            f"`{path}` holds whole objects or wants to run code: it names `{found[1]}`; nothing of it was executed",
            _SAVE_HINT,
        )
    return CheckpointError(
        f"`{path}` is a pickle with more in it than torch reads safely; nothing of it was executed", _SAVE_HINT
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    if "TorchScript" in str(error):
        return CheckpointError(
            f"`{path}` is a TorchScript program, a state dict is needed",
            f"in Python: `torch.save(torch.jit.load('{path}').state_dict(), 'weights.pt')`",
        )
    first_line = (str(error).splitlines() or [""])[0]
    return CheckpointError(
        f"`{path}` is cut short, damaged, or was not saved by `torch.save` ({type(error).__name__}: {first_line:.120})",
        "copy, download or save it again",
    )


def _unwrap(path: Path, found: object, notes: list[str]) -> Mapping[str, object]:
    """The innermost mapping that is reached through the keys of `_WRAPPERS`."""
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(found, Mapping):
            break
        wrappers = [key for key in _WRAPPERS if _holds_weights(found.get(key))]
        if not wrappers:
            break
        taken, *others = wrappers
        notes.append(f"the weights are those under `{taken}`")
        if others:
            notes.append(f"the file also has weights under {_quoted(others)}, which were not used")
        found = found[taken]
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"`{path}` holds a {type(found).__name__}, a mapping from names to tensors is needed", _SAVE_HINT
        )
    return found


def _holds_weights(value: object) -> bool:
    import torch

    if not isinstance(value, Mapping):
        return False
    return any(
        isinstance(item, torch.Tensor) or (key in _WRAPPERS and isinstance(item, Mapping))
        for key, item in value.items()
    )


def _only_tensors(path: Path, found: Mapping[str, object], notes: list[str]) -> dict[str, torch.Tensor]:
    """The entries that are tensors; the others (`_extra_state`, an epoch) are noted."""
    import torch

    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    others = [str(name) for name in found if name not in tensors]
    if not tensors and others:
        raise CheckpointError(
            f"`{path}` holds no tensors by name; its keys are {_quoted(others)}",
            f"save the state dict alone, or under one of {_quoted(_WRAPPERS)}",
        )
    if odd := [name for name in tensors if not isinstance(name, str)]:
        raise CheckpointError(f"`{path}` has the key {odd[0]!r}, the names of tensors must be strings", _SAVE_HINT)
    if others:
        notes.append(f"not tensors, so passed over: {_quoted(others)}")
    return tensors


def _without_prefixes(names: list[str], notes: list[str]) -> dict[str, str]:
    """Each name -> the name without the prefixes that wrappers of a whole module put before all of them."""
    stripped = ""
    while names:
        prefix = next((p for p in _PREFIXES if all(_has(name, stripped + p) for name in names)), None)
        if prefix is None:
            break
        stripped += prefix
    if stripped:
        notes.append(f"the prefix `{stripped}` was taken off every name")
    return {name: name.removeprefix(stripped) for name in names}


def _has(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name != prefix


def _shared(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Names for the same memory as an earlier one; the first in the alphabet is kept, as `save_model` does."""
    kept: dict[object, str] = {}
    aliases: dict[str, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        if not _is_plain(tensor) or tensor.numel() == 0:
            continue
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if place in kept:
            aliases[name] = kept[place]
        else:
            kept[place] = name
    return aliases


def _is_plain(tensor: torch.Tensor) -> bool:
    import torch

    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def _to_numpy(path: Path, name: str, tensor: torch.Tensor) -> np.ndarray:
    """A read-only array on the tensor's memory; copied only if it is not contiguous."""
    import torch

    if not _is_plain(tensor) or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}".removeprefix("torch.")
        raise CheckpointError(f"tensor `{name}` of `{path}` is {kind}, a dense tensor is needed", "make it dense first")
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    dtype = _NO_BUFFER_PROTOCOL.get(str(plain.dtype).removeprefix("torch."))
    try:
        if dtype is None:
            array = plain.numpy()
        else:
            array = plain.view(torch.int16 if dtype.itemsize == 2 else torch.uint8).numpy().view(dtype)
        TensorInfo.of(array)
    except (TypeError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"tensor `{name}` of `{path}` has the dtype {plain.dtype}, which safetensors cannot store",
            "convert it first",
        ) from error
    array.flags.writeable = False
    return array


def _quoted(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in names[:most]) + more
