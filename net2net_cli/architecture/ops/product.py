"""Products of activations, summed over axes: `torch.einsum`, `torch.baddbmm`."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import chain

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.ops.arithmetic import broadcast, slices, tie_broadcast
from net2net_cli.architecture.ops.base import Call, Input, Op, op
from net2net_cli.architecture.shapes import Batch, Dim, Shape, show

_EQUATION = re.compile(r"[A-Za-z]*(,[A-Za-z]*)*->[A-Za-z]*")
SUMMED = "multiplies activations and sums over it, and no weight can share out the copies"


@op("einsum")
class Einsum(Op):
    """A product of tensors over named axes, as `torch.einsum` computes it.

    Axes of one letter that the output keeps are multiplied slice by slice, so they are tied. A letter that the output
    has not is summed over: between two activations no weight stands that could share out copies, so it keeps its
    slices.

    Attributes:
        equation: for example `bhid,bhjd->bhij`; one letter for each axis, and an output.
    """

    arity = None
    folds = True

    equation: str

    @cached_property
    def terms(self) -> tuple[tuple[str, ...], str]:
        """The letters of each input, and of the output."""
        left, _, right = self.equation.partition("->")
        return tuple(left.split(",")), right

    def check(self) -> None:
        if not _EQUATION.fullmatch(self.equation):
            raise ValueError(f"`{self.equation}` is no equation of letters, commas and `->`")
        inputs, output = self.terms
        if len(set(output)) != len(output) or not set(output) <= set(chain(*inputs)):
            raise ValueError(f"the output of `{self.equation}` has a letter twice, or one that no input has")

    def _sizes(self, shapes: tuple[Shape, ...]) -> dict[str, Dim]:
        inputs, output = self.terms
        if [len(letters) for letters in inputs] != [len(shape) for shape in shapes]:
            raise ValueError(f"`{self.equation}` does not have a letter for each axis of its inputs")
        sizes: dict[str, Dim] = {}
        for letter, size in chain(*(zip(*pair, strict=True) for pair in zip(inputs, shapes, strict=True))):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"axis `{letter}` has the sizes {sizes[letter]} and {size}")
            if isinstance(size, Batch) and letter not in output:
                raise ValueError("it sums over the batch axis")
        return sizes

    def shape(self, *inputs: Shape) -> Shape:
        self.check()
        sizes = self._sizes(inputs)
        return tuple(sizes[letter] for letter in self.terms[1])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        terms, output = self.terms
        met: dict[str, Axis] = {}
        sizes = self._sizes(tuple(x.shape for x in inputs))
        for letters, x in zip(terms, inputs, strict=True):
            for letter, axis in zip(letters, x.axes, strict=True):
                if letter not in output:
                    f.mix(axis, SUMMED)
                elif letters.count(letter) > 1:
                    f.mix(axis, "takes the diagonal of it")
                    met[letter] = None
                else:
                    met[letter] = f.tie(met[letter], axis, size=slices(sizes[letter])) if letter in met else axis
        return tuple(met[letter] for letter in output)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.einsum", (self.equation, *(Input(i) for i in range(len(shapes)))))


@op("baddbmm")
class Baddbmm(Op):
    """beta · input + alpha · (a @ b), for every matrix of a batch of them.

    Attributes:
        beta: of the first input.
        alpha: of the product.
    """

    arity = 3
    folds = True

    beta: float | int = 1
    alpha: float | int = 1

    def shape(self, *inputs: Shape) -> Shape:
        added, a, b = inputs
        if len(a) != 3 or len(b) != 3 or a[0] != b[0] or a[2] != b[1]:
            raise ValueError(f"matrices {show(a)} and {show(b)} do not go together")
        made = (a[0], a[1], b[2])
        if broadcast(added, made) != made:
            raise ValueError(f"{show(added)} cannot be added to {show(made)}")
        return made

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        added, a, b = inputs
        for axis in (a.axes[2], b.axes[1]):
            f.mix(axis, SUMMED)
        outer = f.tie(a.axes[0], b.axes[0], size=slices(a.shape[0]))
        product = Channels((a.shape[0], a.shape[1], b.shape[2]), (outer, a.axes[1], b.axes[2]))
        return tie_broadcast(f, (added, product))

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        kwargs = {"beta": self.beta, "alpha": self.alpha}
        return Call("torch.baddbmm", (Input(0), Input(1), Input(2)), kwargs)
