"""Ops that act in training alone, and carry every axis."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.activation import Elementwise
from net2net_cli.architecture.ops.base import Op, op
from net2net_cli.architecture.shapes import Shape


@op("Dropout", module="torch.nn.Dropout")
class Dropout(Elementwise):
    """Zeroes elements at random in training (Srivastava et al. 2014)."""

    linear = True
    functions: ClassVar = {
        "torch.nn.functional.dropout": "input p training inplace",
        "torch.dropout": "input p training",
    }

    p: float = 0.5


@op("Dropout1d", module="torch.nn.Dropout1d")
class Dropout1d(Elementwise):
    """Zeroes whole channels of sequences at random in training."""

    linear = True
    functions: ClassVar = {"torch.nn.functional.dropout1d": "input p training inplace"}

    p: float = 0.5


@op("Dropout2d", module="torch.nn.Dropout2d")
class Dropout2d(Elementwise):
    """Zeroes whole channels of images at random in training."""

    linear = True
    functions: ClassVar = {"torch.nn.functional.dropout2d": "input p training inplace"}

    p: float = 0.5


@op("Dropout3d", module="torch.nn.Dropout3d")
class Dropout3d(Elementwise):
    """Zeroes whole channels of videos at random in training."""

    linear = True
    functions: ClassVar = {"torch.nn.functional.dropout3d": "input p training inplace"}

    p: float = 0.5


@op("AlphaDropout", module="torch.nn.AlphaDropout")
class AlphaDropout(Elementwise):
    """Dropout that keeps mean and variance (Klambauer et al. 2017)."""

    functions: ClassVar = {"torch.nn.functional.alpha_dropout": "input p training inplace"}

    p: float = 0.5


@op("FeatureAlphaDropout", module="torch.nn.FeatureAlphaDropout")
class FeatureAlphaDropout(Elementwise):
    """AlphaDropout of whole channels."""

    functions: ClassVar = {"torch.nn.functional.feature_alpha_dropout": "input p training inplace"}

    p: float = 0.5


@op("StochasticDepth", module="net2net_cli.runtime.modules.StochasticDepth")
class StochasticDepth(Op):
    """Drops the whole branch at random in training (Huang et al. 2016, arXiv:1603.09382), per `row` or per `batch`."""

    linear = True
    reads_modules = ("torchvision.ops.stochastic_depth.StochasticDepth", "timm.layers.drop.DropPath")
    functions: ClassVar = {"torchvision.ops.stochastic_depth.stochastic_depth": "input p mode training"}

    p: float
    mode: Literal["row", "batch"]

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        if attribute == "p" and hasattr(module, "drop_prob"):  # timm's name for it; its rows are dropped one by one
            return float(module.drop_prob or 0.0)
        return (
            "row" if attribute == "mode" and hasattr(module, "drop_prob") else super().read_attribute(module, attribute)
        )

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        return inputs[0].axes
