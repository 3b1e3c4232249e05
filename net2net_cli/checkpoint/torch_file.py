"""State dicts from files that people have: `.pt`, `.pth`, `.bin` (never running their code) and `.safetensors`.

None of them needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from net2net_cli.checkpoint.file_kinds import HEAD_BYTES, looks_like_safetensors, recognise
from net2net_cli.checkpoint.os_errors import explain_os_error
from net2net_cli.checkpoint.safetensors_file import open_checkpoint, open_regular_file
from net2net_cli.checkpoint.torch_archive import Archive, TorchScriptError, read_archive
from net2net_cli.checkpoint.torch_records import DamagedPickleError, PickleRefusedError, TensorRecord
from net2net_cli.checkpoint.torch_tensors import DenseTensors
from net2net_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "state_dict_ema", "model_ema", "ema")
"""Keys under which training scripts put the state dict, the one to take first if there are several."""

_PREFIXES = ("module.", "_orig_mod.")  # DataParallel and DistributedDataParallel; torch.compile
_MAX_WRAPPERS = 2
_SAVE_HINT = "load it in Python where you trust it, and save `model.state_dict()` with `torch.save`"


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
    if path.suffix == ".json":
        from net2net_cli.checkpoint.sharded import read_index

        return _without_prefixes(_sharded(path, read_index(path)))
    return _without_prefixes(_as_stored(path))


def _as_stored(path: Path) -> LoadedState:
    """The state dict of one file, under the names that it has there."""
    head = _read_head(path)
    if path.suffix == ".safetensors" or looks_like_safetensors(head):
        with open_checkpoint(path) as checkpoint:
            return LoadedState({name: checkpoint.read(name) for name in checkpoint.tensors}, checkpoint.aliases)
    kind = recognise(head)
    if not head:
        raise CheckpointError(f"`{path}` is empty", "fetch or save the file again")
    if kind is None:
        raise CheckpointError(
            f"`{path}` is neither a PyTorch nor a safetensors file", "give a file saved by `torch.save` or safetensors"
        )
    if not kind.is_torch:
        raise CheckpointError(f"`{path}` is not a PyTorch file: it is {kind.what}", kind.hint)
    return _load_torch(path)


def _sharded(path: Path, index: Mapping[str, Path]) -> LoadedState:
    """The tensors of several files, each from the one that the index names.

    Args:
        path: of the index.
        index: tensor -> the file that holds it.
    """
    whole = LoadedState({})
    for shard in dict.fromkeys(index.values()):
        part = _as_stored(shard)
        names = [name for name, place in index.items() if place == shard]
        missing = [name for name in names if name not in part.tensors and name not in part.aliases]
        if missing:
            raise CheckpointError(
                f"`{shard}` has no tensor `{missing[0]}`, which `{path}` says is there", "fetch both files again"
            )
        for name in names:
            kept = part.aliases.get(name, name)
            stored = whole.tensors.setdefault(kept, part.tensors[kept])
            if stored is not part.tensors[kept]:
                raise CheckpointError(f"two shards of `{path}` hold the tensor `{kept}`", "fetch all files again")
            if kept != name:
                whole.aliases[name] = kept
        whole.notes.extend(note for note in part.notes if note not in whole.notes)
    return whole


def _read_head(path: Path) -> bytes:
    with open_regular_file(path) as file:
        try:
            return file.read(HEAD_BYTES)
        except OSError as error:
            raise explain_os_error(error, path, "read") from error


def _load_torch(path: Path) -> LoadedState:
    archive = _read(path)
    notes: list[str] = []
    tensors = _only_tensors(path, _unwrap(path, archive.content, notes), notes)
    aliases = _shared(tensors)
    dense = DenseTensors(path, archive)
    return LoadedState(
        {name: dense.array(name, tensor) for name, tensor in tensors.items() if name not in aliases}, aliases, notes
    )


def read_document(path: Path) -> Any:
    """All that a PyTorch file holds: mappings, lists, numbers, texts, and arrays in the place of tensors.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is no PyTorch file, is damaged, or holds something else.
        MachineError: it may not be read.
    """
    kind = recognise(_read_head(path))
    if kind is None or not kind.is_torch:
        what = f": it is {kind.what}" if kind else ""
        raise CheckpointError(f"`{path}` is not a PyTorch file{what}", "give a file saved by `torch.save`")
    archive = _read(path)
    return _with_arrays(archive.content, DenseTensors(path, archive), path, "")


def _with_arrays(value: Any, dense: DenseTensors, path: Path, place: str) -> Any:
    if isinstance(value, TensorRecord):
        return dense.array(place, value)
    if isinstance(value, Mapping):
        return {key: _with_arrays(part, dense, path, _below(place, key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_arrays(part, dense, path, _below(place, i)) for i, part in enumerate(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"`{path}` holds more than tensors, numbers and texts: `{place}` is {value!r:.60}", "save it without that"
    )


def _below(place: str, key: object) -> str:
    return f"{place}.{_shown(key)}" if place else _shown(key)


def _read(path: Path) -> Archive:
    """What the file holds; nothing of it is run."""
    try:
        return read_archive(path)
    except PickleRefusedError as refused:
        raise _refused_pickle(path, refused.name) from refused
    except TorchScriptError as error:
        raise CheckpointError(
            f"`{path}` is a TorchScript program, a state dict is needed",
            f"in Python: `torch.save(torch.jit.load('{path}').state_dict(), 'weights.pt')`",
        ) from error
    except DamagedPickleError as error:
        raise CheckpointError(
            f"`{path}` is cut short, damaged, or was not saved by `torch.save` ({error!s:.120})",
            "copy, download or save it again",
        ) from error
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def _refused_pickle(path: Path, name: str | None) -> CheckpointError:
    if name:
        return CheckpointError(
            f"`{path}` holds whole objects or wants to run code: it names `{name:.120}`; nothing of it was executed",
            _SAVE_HINT,
        )
    return CheckpointError(
        f"`{path}` is a pickle with more in it than a state dict has; nothing of it was executed", _SAVE_HINT
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
        kind = "Tensor" if isinstance(found, TensorRecord) else type(found).__name__
        raise CheckpointError(f"`{path}` holds a {kind}, a mapping from names to tensors is needed", _SAVE_HINT)
    return found


def _holds_weights(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(
        isinstance(item, TensorRecord) or (key in _WRAPPERS and isinstance(item, Mapping))
        for key, item in value.items()
    )


def _only_tensors(path: Path, found: Mapping[Any, object], notes: list[str]) -> dict[str, TensorRecord]:
    """The entries that are tensors; the others (`_extra_state`, an epoch) are noted."""
    tensors = {name: value for name, value in found.items() if isinstance(value, TensorRecord)}
    others = [_shown(name) for name in found if name not in tensors]
    if not tensors and others:
        raise CheckpointError(
            f"`{path}` holds no tensors by name; its keys are {_quoted(others)}",
            f"save the state dict alone, or under one of {_quoted(_WRAPPERS)}",
        )
    if odd := [name for name in tensors if not isinstance(name, str)]:
        raise CheckpointError(
            f"`{path}` has the key {_shown(odd[0])}, the names of tensors must be strings", _SAVE_HINT
        )
    if others:
        notes.append(f"not tensors, so passed over: {_quoted(others)}")
    return tensors


def _shown(key: object) -> str:
    """A key of a dictionary, for people."""
    if isinstance(key, str):
        return f"{key:.80}"
    small = isinstance(key, (float, bool, type(None))) or (isinstance(key, int) and abs(key) < 2**64)
    return repr(key) if small else f"a {type(key).__name__.lstrip('_').lower()}"


def _without_prefixes(state: LoadedState) -> LoadedState:
    """The same without the prefixes that wrappers of a whole module put before all names."""
    names, stripped = [*state.tensors, *state.aliases], ""
    while names:
        prefix = next((p for p in _PREFIXES if all(_has(name, stripped + p) for name in names)), None)
        if prefix is None:
            break
        stripped += prefix
    if not stripped:
        return state
    short = {name: name.removeprefix(stripped) for name in names}
    return LoadedState(
        {short[name]: array for name, array in state.tensors.items()},
        {short[gone]: short[kept] for gone, kept in state.aliases.items()},
        [*state.notes, f"the prefix `{stripped}` was taken off every name"],
    )


def _has(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name != prefix


def _shared(tensors: Mapping[str, TensorRecord]) -> dict[str, str]:
    """Names for the same memory as an earlier one; the first in the alphabet is kept, as `save_model` does."""
    kept: dict[TensorRecord, str] = {}
    aliases: dict[str, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.storage is None or 0 in tensor.shape:
            continue
        if tensor in kept:
            aliases[name] = kept[tensor]
        else:
            kept[tensor] = name
    return aliases


def _quoted(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in names[:most]) + more
