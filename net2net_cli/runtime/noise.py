"""Random numbers in a forward: which calls draw them, and which of them only training draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from net2net_cli.architecture.ops.arithmetic import Add, Mul, Sub
from net2net_cli.architecture.ops.noise import InTraining, Noise, Normal, Uniform
from net2net_cli.errors import TraceError
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.filled import filled
from net2net_cli.runtime.readings import spoken
from net2net_cli.runtime.seen import seen_of
from net2net_cli.runtime.site import Handler, Site

FILLS: dict[Any, tuple[Callable[..., Noise], dict[str, str]]] = {
    "normal_": (Normal, {"mean": "mean", "std": "std"}),
    "uniform_": (Uniform, {"from": "low", "to": "high"}),
}
"""Methods that draw into a tensor, whatever it held: what they draw, and what it calls their arguments."""


def _of_size(kind: type[Noise]) -> Handler:
    """`torch.randn(n, 8)`."""
    return lambda site: site.emit(kind(), (filled(site, 0),), function=spoken(site.node, bare=True))


def _like(kind: type[Noise]) -> Handler:
    """`torch.randn_like(x)`."""

    def draw(site: Site) -> Draft:
        like = site.nodes("input *")["input"]
        if seen_of(like).first.dtype != site.seen.first.dtype:
            raise ValueError("what it returns is of another type than what it is given")
        return site.emit(kind(), (site.read(like),), function=spoken(site.node, bare=True))

    return draw


def _fill(site: Site) -> Draft:
    """`x.normal_(mean, std)`; x may be a tensor that was never filled before."""
    kind, names = FILLS[site.node.target]
    given = site.nodes(" ".join(("input", *names)))
    numbers = {ours: float(given[theirs]) for theirs, ours in names.items() if theirs in given}
    return site.emit(kind(**numbers), (filled(site, 0),), function=str(site.node.target))


def _normal(site: Site) -> Draft:
    """`torch.normal(mean, std)`, of tensors or numbers: the arithmetic is PyTorch's own."""
    given = {name: site.read(value) for name, value in site.nodes("mean std size").items()}
    mean, std = given.get("mean", 0.0), given.get("std", 1.0)
    by_itself = isinstance(mean, (int, float)) and isinstance(std, (int, float))
    own = Normal(mean=float(mean) if by_itself else 0.0, std=1.0 if isinstance(std, Draft) else float(std))
    drawn = site.emit(own, (filled(site, 0),), function="normal")
    if isinstance(std, Draft):
        drawn = site.emit(Mul(), (drawn, std))
    if isinstance(mean, Draft):
        return site.emit(Add(), (drawn, mean))
    return drawn if by_itself else site.emit(Add(scalar=mean), (drawn,))


HANDLERS: dict[str, Handler] = {
    "torch.normal": _normal,
    "torch.randn": _of_size(Normal),
    "torch.rand": _of_size(Uniform),
    "torch.randn_like": _like(Normal),
    "torch.rand_like": _like(Uniform),
    **{f"Tensor.{name}": _fill for name in FILLS},
}
"""By dotted name; `Tensor.normal_` for methods."""


_SUMS = {Add: "add", Sub: "sub"}


class TrainingNoise:
    """What of the random numbers that training draws evaluation draws too.

    Where it does not, sums of such numbers and a value that evaluation has are that value there. So are products with
    1 + noise, or with a normal distribution around 1; but not all, since in x + s · noise evaluation may have s for
    other reasons. `settle` rewrites the drafts of a recording in training accordingly, in order; whether what
    evaluation computes is found in the result then is for `modes.merge` to see.
    """

    def __init__(self) -> None:
        self._random: dict[Draft, None] = {}
        self._around_one: set[Draft] = set()

    def settle(self, draft: Draft, *, in_evaluation: Callable[[Draft], bool]) -> bool:
        """Rewrite one draft, whose inputs are settled; whether it is in evaluation another value than it was.

        Args:
            draft: of the recording in training.
            in_evaluation: whether evaluation computes the same value.
        """
        if in_evaluation(draft):
            return False
        op = draft.op
        if isinstance(op, Noise):
            draft.op = replace(op, training_only=True)
            self._random[draft] = None
            if isinstance(op, Normal) and op.mean == 1:
                self._around_one.add(draft)
            return False
        kept, noise = ([x for x in draft.inputs if (x in self._random) is drawn] for drawn in (False, True))
        if not noise:
            return False
        operator = _SUMS.get(type(op))  # type: ignore[arg-type]
        if isinstance(op, Mul) and noise[0] in self._around_one:
            operator = "mul"
        taken_from_noise = operator == "sub" and draft.inputs[0] in self._random
        pair = len(kept) == len(noise) == 1 and not taken_from_noise
        if operator and pair and kept[0].shape == draft.shape and in_evaluation(kept[0]):
            draft.op, draft.inputs = InTraining(operator), (*kept, *noise)  # type: ignore[arg-type]
            return True
        self._random[draft] = None
        if isinstance(op, Add) and op.scalar == 1:
            self._around_one.add(draft)
        return False

    def refusal(self) -> TraceError | None:
        """Why evaluation is not found in training, where that may be for what training alone draws."""
        first = next(iter(self._random), None)
        if first is None:
            return None
        return first.where.error(
            f"`{first.wish}` draws random numbers in training alone, and evaluation computes something else than "
            "what is left without them",
            "known are `x + noise`, `x - noise` and `x * (1 + noise)`, where evaluation has `x`; and whatever is drawn "
            "in both modes",
        )
