"""What net2net does not know: a function or a module that is kept as it is, and that nothing may change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.arguments import Argument, inputs_in, unfolded
from net2net_cli.architecture.ops.base import Call, Input, Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape, parse_dim

THE_MODULE = "the module"
"""The target of a `Call` of the layer's own module."""

_NAME = r"[^\W\d]\w*"
_REBUILD = re.compile(rf"(?:{_NAME}(?:\.{_NAME})*|[^:\x00-\x1f\x7f]*[^:/\\\x00-\x1f\x7f]\.py):{_NAME}(?:\.{_NAME})*")


@dataclass(frozen=True, slots=True)
class Code:
    """Where code is found: `package.module:callable`, or `file.py:callable` with a path from the present folder."""

    place: str
    name: str

    @classmethod
    def of(cls, rebuild: str) -> Code:
        """The parts of `place:name`."""
        place, _, name = rebuild.rpartition(":")
        return cls(place, name)

    @property
    def is_file(self) -> bool:
        """Whether the place is a Python file, rather than a module."""
        return self.place.endswith(".py")

    @property
    def dotted(self) -> str:
        """As people write it: `torch.fft.rfft2`, `model.py:Net`."""
        return f"{self.place}:{self.name}" if self.is_file else f"{self.place}.{self.name}"


@op("opaque")
class Opaque(Op):
    """A function or module that net2net does not know, kept as it is: all its axes are mixed, so nothing in it grows.

    It is the one op that names code. That is imported and run where the network is built, and only if the user trusts
    it; reading a spec, or growing without comparing outputs, does not.

    Attributes:
        kind: `function`: `rebuild` is called with the inputs; `module`: it makes the module that is called with them.
        rebuild: `package.module:callable`, or `file.py:callable` with a path from the folder in which the tool runs.
        output_shape: of what it returns, as it was seen at two batch sizes.
        args: what it is called with, the inputs by their numbers among it.
        kwargs: likewise, by keyword.
        made_with: keyword arguments with which `rebuild` makes a module.
        submodule: the path of the module within what `rebuild` makes, where it is not that itself.
        output: which one is taken of several results.
        parameters: shapes of the module's parameters, by their names below the layer's.
        buffers: likewise.
    """

    arity: ClassVar[int | None] = None
    silent: ClassVar[tuple[str, ...]] = ()

    kind: Literal["function", "module"]
    rebuild: str
    output_shape: tuple[int | str, ...]
    args: tuple[Argument, ...]
    kwargs: Mapping[str, Argument] = field(default_factory=dict)
    made_with: Mapping[str, Argument] = field(default_factory=dict)
    submodule: str | None = None
    output: int | None = None
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.rebuild, self.submodule, self.output_shape, self.args, *sorted(self.kwargs), self.output))

    @property
    def is_module(self) -> bool:
        return self.kind == "module"

    @property
    def takes_input_alone(self) -> bool:
        """Whether it is called with its input and nothing else, and returns its output alone."""
        return self.args == (Input(0),) and not self.kwargs and self.output is None

    @property
    def spoken(self) -> str:
        """What it is, for people: `torch.fft.rfft2`, `model.py:Mixer`, `mixer of model.py:Net`."""
        dotted = Code.of(self.rebuild).dotted
        if dotted == "builtins.getattr" and len(self.args) > 1:
            return f"torch.Tensor.{self.args[1]}"
        if dotted == "operator.getitem":
            return "torch.Tensor.__getitem__"
        return f"{self.submodule} of {dotted}" if self.submodule else dotted

    @property
    def described(self) -> str:
        """A clause that completes "it is …"."""
        if self.submodule:
            return f"a module of `{Code.of(self.rebuild).dotted}` that net2net does not know"
        return f"`{self.spoken}`, which net2net does not know"

    def check(self) -> None:
        if len(self.rebuild) > 1000 or not _REBUILD.fullmatch(self.rebuild):
            raise ValueError("`rebuild` is neither `package.module:callable` nor `file.py:callable`")
        if not self.is_module and (self.made_with or self.submodule is not None or self.parameters or self.buffers):
            raise ValueError("a function has no `made_with`, `submodule`, `parameters` or `buffers`")
        if any(True for value in self.made_with.values() for _ in inputs_in(value)):
            raise ValueError("`made_with` holds an input; a module is made before there are inputs")
        named = {**self.kwargs, **self.made_with}
        if not all(key.isidentifier() for key in named):
            raise ValueError("a keyword is no Python name")
        paths = [self.submodule or "x", *self.parameters, *self.buffers]
        if not all(all(path.split(".")) and path.isprintable() and "/" not in path for path in paths):
            raise ValueError("the name of a submodule or tensor has empty parts or characters that names have not")
        sizes = [size for shape in (*self.parameters.values(), *self.buffers.values()) for size in shape]
        if set(self.parameters) & set(self.buffers) or any(size < 0 for size in sizes):
            raise ValueError("a tensor is a parameter and a buffer, or has a negative size")
        for size in self.output_shape:
            if len(str(size)) > 12:
                raise ValueError(f"`output_shape` holds the size {str(size)[:20]}…")
            parse_dim(size)
        if self.output is not None and self.output < 0:
            raise ValueError("`output` is negative")

    def tensors(self) -> dict[str, TensorSlot]:
        own = {name: TensorSlot(shape) for name, shape in self.parameters.items()}
        return own | {
            name: TensorSlot(shape, "buffer", integer=True, default=0) for name, shape in self.buffers.items()
        }

    def shape(self, *inputs: Shape) -> Shape:
        used = {i for value in (*self.args, *self.kwargs.values()) for i in inputs_in(value)}
        if used != set(range(len(inputs))):
            raise ValueError(f"its arguments hold the inputs {sorted(used)}, and it has {len(inputs)}")
        return tuple(parse_dim(size) for size in self.output_shape)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        for x in inputs:
            for axis in x.axes:
                f.mix(axis, f"is {self.described}, so that its channels must stay")
        return (None,) * len(self.output_shape)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        """The call of the function that `rebuild` names, or of the layer's own module."""
        args = tuple(unfolded(value) for value in self.args)
        kwargs = {key: unfolded(value) for key, value in self.kwargs.items()}
        made = Call(THE_MODULE if self.is_module else self.rebuild, args, kwargs)
        return made if self.output is None else Call("operator.getitem", (made, self.output))
