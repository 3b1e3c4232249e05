"""What the names in a state dict's pickle stand for: dtypes, storages, tensors. Nothing is imported or called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class PickleRefusedError(Exception):
    """The pickle names what no state dict needs.

    Attributes:
        name: of it, dotted; None where it cannot be told.
    """

    def __init__(self, name: str | None) -> None:
        super().__init__(name or "")
        self.name = name


class DamagedPickleError(Exception):
    """These bytes are no whole pickle."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a name stands for: a dtype, a class of storages, a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Inert:
    """An object that may stand in a checkpoint and is not looked into."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A reference to stored numbers: its key, the dtype (None where only bytes are meant), and how many.

    `shift` is where a view of it starts, in elements.
    """

    key: str
    dtype: str | None
    elements: int
    shift: int = 0


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor as the file describes it.

    Attributes:
        storage: None for one that is not dense, of which `kind` says what it is.
        dtype: torch's name without `torch.`.
        offset: of the first element in the storage.
    """

    storage: Storage | None
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kind: str = "dense"
    conjugate: bool = False
    negative: bool = False


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
_DTYPES = {
    *_STORAGES.values(),
    *("complex32", "uint16", "uint32", "uint64", "bits8", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
}
_UTILS = "torch._utils."
_CALLED_OR_MEANT = {
    *("torch.Size", "torch.device", "torch.serialization._get_layout", "torch.Tensor", "torch.nn.parameter.Parameter"),
    *("collections.OrderedDict", "collections.Counter", "collections.defaultdict", "_codecs.encode"),
    *("builtins.bytearray", "builtins.set", "builtins.complex", "builtins.dict"),
    *("__builtin__.bytearray", "__builtin__.set", "__builtin__.complex", "__builtin__.dict"),
    *("torch.per_tensor_affine", "torch.per_channel_affine", "torch.per_tensor_symmetric"),
    *("torch.per_channel_symmetric", "torch.per_channel_affine_float_qparams"),
}
_KINDS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_qtensor": "quantized",
    "_rebuild_meta_tensor_no_storage": "on the device meta",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_wrapper_subclass": "of a class of its own",
    "_rebuild_device_tensor_from_numpy": "on a device of its own",
    "_rebuild_device_tensor_from_cpu_tensor": "on a device of its own",
}
_DENSE = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_WRAPPED = ("_rebuild_parameter", "_rebuild_parameter_with_state")


def is_known(name: str) -> bool:
    """Whether a state dict may name it."""
    home, _, last = name.rpartition(".")
    if home == "torch._utils":
        return last in _KINDS or last in _DENSE or last in _WRAPPED
    if home == "torch":
        return last in _STORAGES or last in _DTYPES or name in _CALLED_OR_MEANT
    return name in _CALLED_OR_MEANT or (home == "torch.storage" and last in ("UntypedStorage", "_UntypedStorage"))


def called(name: str, arguments: tuple[Any, ...]) -> Any:
    """What a call makes, as a record; `DamagedPickleError` where the arguments cannot be."""
    last = name.removeprefix(_UTILS)
    if last in _DENSE:
        return dense(last, arguments)
    if last in _WRAPPED:
        return arguments[0]
    if last in _KINDS:
        return other_tensor(_KINDS[last], arguments)
    if name in ("collections.OrderedDict", "builtins.dict", "__builtin__.dict"):
        return {}
    if name == "torch.Size" and len(arguments) == 1:
        return arguments[0]
    if name == "torch.serialization._get_layout" and len(arguments) == 1:
        return Inert(str(arguments[0])[:60])
    return Inert(name)


def dense(name: str, arguments: tuple[Any, ...]) -> TensorRecord:
    """A tensor on a storage; versions of the function differ in what follows its first four arguments."""
    storage, offset, shape, strides, *rest = arguments
    if not isinstance(storage, Storage) or not (is_count(offset) and is_sizes(shape) and is_sizes(strides)):
        raise DamagedPickleError("a tensor has no storage, or its place in it is none")
    if len(shape) != len(strides):
        raise DamagedPickleError(f"a tensor has {len(shape)} axes and {len(strides)} strides")
    dtype, metadata = storage.dtype, rest[2] if len(rest) > 2 else None
    if name == "_rebuild_tensor_v3":
        dtype, metadata = dtype_of(rest[2]), rest[3] if len(rest) > 3 else None
    if dtype is None:
        raise DamagedPickleError("a tensor has no dtype")
    flags = metadata if isinstance(metadata, dict) else {}
    return TensorRecord(
        storage, dtype, offset, shape, strides, conjugate=flags.get("conj") is True, negative=flags.get("neg") is True
    )


def other_tensor(kind: str, arguments: tuple[Any, ...]) -> TensorRecord:
    """One whose numbers are not simply stored."""
    if kind == "sparse" and arguments and isinstance(arguments[0], Inert):
        kind = arguments[0].name.removeprefix("torch.")
    return TensorRecord(None, "", 0, (), (), kind)


def storage_of(reference: Any) -> Storage:
    """What a persistent id refers to: `("storage", class, key, location, elements[, view])`."""
    if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] not in ("storage", b"storage"):
        if isinstance(reference, tuple) and reference[:1] == ("module",):
            raise PickleRefusedError("torch.nn.Module")
        raise DamagedPickleError("it refers to something that is no storage")
    _, kind, key, _, elements, *view = reference
    if not isinstance(kind, Named) or not isinstance(key, (str, int)) or not is_count(elements):
        raise DamagedPickleError("a storage is described in no way that is known")
    last = kind.name.rpartition(".")[2]
    if last not in _STORAGES and not last.endswith("UntypedStorage"):
        raise DamagedPickleError(f"`{kind.name}` is no storage")
    shift = view[0][1] if view and isinstance(view[0], tuple) and len(view[0]) == 3 else 0
    if not is_count(shift):
        raise DamagedPickleError("a view of a storage starts nowhere")
    return Storage(str(key)[:255], _STORAGES.get(last), elements, shift)


def dtype_of(value: Any) -> str:
    """The name of a dtype."""
    name = value.name.removeprefix("torch.") if isinstance(value, Named) else ""
    if name not in _DTYPES:
        raise DamagedPickleError("a tensor has no dtype")
    return name


def is_count(value: Any) -> bool:
    """A whole number from 0 on that an offset or a size in a file can be."""
    return type(value) is int and 0 <= value < 2**63


def is_sizes(value: Any) -> bool:
    """A tuple of these."""
    return isinstance(value, tuple) and len(value) <= 32 and all(map(is_count, value))


_ITEM_SIZES = {
    **dict.fromkeys(("float64", "int64", "complex64", "uint64"), 8),
    **dict.fromkeys(("float32", "int32", "qint32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    "complex128": 16,
}


def item_size(dtype: str | None) -> int:
    """Bytes that an element of a storage takes."""
    return _ITEM_SIZES.get(dtype or "", 1)
