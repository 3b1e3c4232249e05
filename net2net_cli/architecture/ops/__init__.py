"""All ops, one file per family. Importing the package fills the registry."""

from __future__ import annotations

from net2net_cli.architecture.ops import (
    activation,
    arithmetic,
    attention,
    constant,
    conv,
    dropout,
    embedding,
    filtering,
    join,
    logic,
    matrix,
    multiscale_attention,
    noise,
    norm,
    opaque,
    pool,
    product,
    recurrent,
    reduce,
    relative_attention,
    reorder,
    resize,
    shape,
    weight_norm,
    window_attention,
)
from net2net_cli.architecture.ops.base import REGISTRY, Call, Factors, Input, Op, SizeOf, TensorSlot, attributes

__all__ = ["REGISTRY", "Call", "Factors", "Input", "Op", "SizeOf", "TensorSlot", "attributes"]

FAMILIES = (
    activation,
    arithmetic,
    attention,
    constant,
    conv,
    dropout,
    embedding,
    filtering,
    join,
    logic,
    matrix,
    multiscale_attention,
    noise,
    norm,
    opaque,
    pool,
    product,
    recurrent,
    reduce,
    relative_attention,
    reorder,
    resize,
    shape,
    weight_norm,
    window_attention,
)
