"""Random numbers that a network draws and adds: samples of latent variables, noise that its layers learn to ignore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.arithmetic import broadcast, tie_broadcast
from net2net_cli.architecture.ops.base import Op, op
from net2net_cli.architecture.shapes import Batch, Shape


@dataclass(frozen=True)
class Noise(Op):
    """As many random numbers as its input has, each drawn by itself. What the input holds does not matter.

    Copies of a channel would get different numbers. In evaluation too that changes what the network computes, so that
    axes must stay; in training alone copies differ as they do with dropout.

    Attributes:
        training_only: whether evaluation draws nothing; it is zero there.
    """

    training_only: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        if not self.training_only:
            for axis, size in zip(x.axes, x.shape, strict=True):
                if not isinstance(size, Batch):
                    f.mix(axis, "draws a random number for each of them, and copies would get different ones")
        return x.axes


@op("Normal", module="net2net_cli.runtime.modules_noise.Normal")
class Normal(Noise):
    """Of a normal distribution."""

    mean: float = 0.0
    std: float = 1.0

    def check(self) -> None:
        if not self.std >= 0:
            raise ValueError("`std` is negative")


@op("Uniform", module="net2net_cli.runtime.modules_noise.Uniform")
class Uniform(Noise):
    """Evenly between two bounds."""

    low: float = 0.0
    high: float = 1.0

    def check(self) -> None:
        if not self.low <= self.high:
            raise ValueError("`low` is above `high`")


def draws_in_evaluation(op: Op) -> bool:
    """Whether an op's output is random in evaluation too."""
    return isinstance(op, Noise) and not op.training_only


@op("InTraining", module="net2net_cli.runtime.modules_noise.InTraining")
class InTraining(Op):
    """x + y, x − y or x · y in training, and x in evaluation."""

    arity = 2
    signature = "x noise"
    folds = True

    operator: Literal["add", "sub", "mul"]

    def shape(self, *inputs: Shape) -> Shape:
        if broadcast(*inputs) != inputs[0]:
            raise ValueError("what it returns in training has another shape than its first operand")
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        return tie_broadcast(f, inputs, adds=self.operator != "mul")
