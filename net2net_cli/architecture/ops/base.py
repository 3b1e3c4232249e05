"""What every op tells about itself. Adding an op adds one entry in one file of this folder.

An op is a frozen dataclass; its fields are the attributes that the spec writes. It also knows, without torch, the
shapes of its tensors and of its output, how channels pass through it, from which PyTorch modules and functions it is
read, and by which PyTorch call it is run. Dotted names are resolved only in `net2net_cli.runtime`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, cast, dataclass_transform

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.shapes import Shape

REGISTRY: dict[str, type[Op]] = {}
"""All ops by the name that the spec gives them."""

Factors: TypeAlias = "npt.NDArray[np.float64]"
"""One factor for each slice of a tensor's first axis."""


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """A tensor that an op owns.

    Attributes:
        shape: of the teacher's tensor.
        kind: `parameter` (trained) or `buffer` (kept).
        integer: it counts and is never scaled (`num_batches_tracked`).
        default: what PyTorch fills a fresh one with; a number, `normal`, or `kaiming` for its usual uniform draw.
        fan_in: what that draw goes by, where it is not the size of a row of `weight`.

    """

    shape: tuple[int, ...]
    kind: str = "parameter"
    integer: bool = False
    default: float | str = "kaiming"
    values: npt.NDArray[Any] | None = field(default=None, compare=False, repr=False)
    fan_in: int | None = None


@dataclass(frozen=True, slots=True)
class SizeOf:
    """The size of an axis of another value, known only when the network runs: `{"size_of": "x", "axis": 2}`."""

    value: str
    axis: int


@dataclass(frozen=True, slots=True)
class Input:
    """In the arguments of a `Call`: the op's i-th input tensor."""

    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """A PyTorch call, as data: a dotted name and arguments, in which `Input`, `SizeOf` and other calls may stand."""

    target: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class Op:
    """Base class of all ops; subclasses are decorated with `op`."""

    name: ClassVar[str]
    module: ClassVar[str | None] = None
    """Dotted name of the PyTorch module that runs this op, or None where `call` does."""
    reads_modules: ClassVar[tuple[str, ...]] = ()
    """Dotted names of module classes that are read as this op by `from_module` (exactly these classes)."""
    functions: ClassVar[Mapping[str, str]] = {}
    """Functions that are read as this op by `from_call`: dotted name (`Tensor.add` for methods) -> parameter names,
    tensors included, separated by spaces; a trailing `*` gathers the rest of the positional arguments."""
    arity: ClassVar[int | None] = 1
    """How many input tensors; None for any number from one up."""
    signature: ClassVar[str] = ""
    """Parameter names of the module's `forward`, inputs first, where it takes more than its inputs."""
    linear: ClassVar[bool] = False
    """Whether a mean over channels that comes in is the mean over the channels that go out: it adds inputs up, passes
    them on, or multiplies them by what is the same for all channels. Streams with a tail pass only through such ops."""
    folds: ClassVar[bool] = False
    """Whether slices that are folded into the batch axis may have copies: it does the same to each sample, in both
    modes, and its flow treats the batch axis as any other that is not acted on."""
    required: ClassVar[int] = 1
    """How many inputs a call of the module has at least, where `arity` is None."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Parameters of the module's `forward` that are further inputs, in this order, where tensors are given for them."""
    silent: ClassVar[tuple[str, ...]] = ("weight", "bias")
    """Parameters whose being zero makes the output zero."""
    borrows: ClassVar[bool] = False
    """Whether its tensors always belong to another layer."""

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        said = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({said})"

    @property
    def is_module(self) -> bool:
        """Whether a module runs it, rather than `call`."""
        return self.module is not None

    @classmethod
    def from_module(cls, module: Any) -> Self:
        """The op that a PyTorch module performs, read off its attributes."""
        return cls(**{f.name: cls.read_attribute(module, f.name) for f in dataclasses.fields(cls)})  # type: ignore[arg-type]

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        """One attribute as the spec writes it."""
        value = getattr(module, attribute)
        return tuple(value) if isinstance(value, list) else value

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        """The op that a function call performs.

        Args:
            arguments: the call's non-tensor arguments by the names in `functions`; missing ones were not given.
            shapes: of its input tensors.

        Raises:
            ValueError: the call means something that this op cannot say; the text completes "because …".

        """
        names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items() if k in names})

    def called_with(self, arguments: Mapping[str, Any]) -> Self:
        """The op of a module that is called with these arguments beside its inputs, by the names in `signature`.

        Raises:
            ValueError: the call means something that this op cannot say; the text completes "because …".
        """
        if arguments:
            raise ValueError(f"it is called with `{next(iter(arguments))}`")
        return self

    def in_evaluation(self) -> Self:
        """What it does in evaluation, where one op does something else there."""
        return self

    def tensors(self) -> dict[str, TensorSlot]:
        """The tensors it owns, by the last part of their name."""
        return {}

    def check(self) -> None:
        """Whether the attributes go together, as far as their types do not tell.

        Raises:
            ValueError: they do not; the text says which.

        """

    def shape(self, *inputs: Shape) -> Shape:
        """The output's shape.

        Raises:
            ValueError: the inputs do not fit; the text says what was found and what was needed.

        """
        raise NotImplementedError(self.name)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        """How channels pass; returns the axes of the output."""
        raise NotImplementedError(self.name)

    def adopting(self, target: Op) -> tuple[Op, Mapping[str, Factors]]:
        """The op with the constants that the target's class derives from its width, where weights can make up for them.

        Args:
            target: the op of the same name and widths in another network.

        Returns:
            the op, and by tensor the factors on its slices with which it computes what it did.
        """
        return self, {}

    def module_arguments(self) -> dict[str, Any]:
        """Keyword arguments that build `module`."""
        return attributes(self)

    @property
    def around(self) -> Call | None:
        """The PyTorch call that turns a fresh `module`, its first argument, into the one that runs the op."""
        return None

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        """The PyTorch call that runs the op, where it is no module."""
        raise NotImplementedError(self.name)

    def references(self) -> tuple[str, ...]:
        """Values beside the inputs whose sizes the op reads."""
        return ()


_as_data = dataclass(frozen=True, eq=False, repr=False)
"""What makes a class an op. Equality and text are written once above: to have them made for each would be felt."""

_as_data(Op)  # a dataclass without fields, which subclasses need not know


def _values(op: Any) -> tuple[Any, ...]:
    return tuple(getattr(op, f.name) for f in dataclasses.fields(op) if f.compare)


def attributes(op: Op) -> dict[str, Any]:
    """Its attributes by name, shallow."""
    return {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}  # type: ignore[arg-type]


OpClass = TypeVar("OpClass", bound=type[Op])


@dataclass_transform(frozen_default=True)
def op(name: str, *, module: str | None = None) -> Callable[[OpClass], OpClass]:
    """Register a class as the op of that name and make it a frozen dataclass."""

    def register(cls: OpClass) -> OpClass:
        # An op without attributes of its own is the dataclass that its base is: to make it one again would cost time
        # in every start of the program.
        made = cast(OpClass, _as_data(cls)) if _adds_attributes(cls) or len(cls.__bases__) > 1 else cls
        # A dataclass between `Op` and this one would compare its own fields alone.
        for method in ("__eq__", "__hash__", "__repr__"):
            if method not in cls.__dict__:
                setattr(made, method, getattr(Op, method))
        made.name = name
        if module is not None:
            made.module = module
            if "reads_modules" not in cls.__dict__:
                made.reads_modules = (module,)
        assert name not in REGISTRY, name
        REGISTRY[name] = made
        return made

    return register


def _adds_attributes(cls: type[Op]) -> bool:
    return not all(str(annotation).startswith("ClassVar") for annotation in cls.__annotations__.values())
