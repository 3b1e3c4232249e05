"""All ops, one file per family. Importing the package fills the registry."""

from __future__ import annotations

from net2net_cli.architecture.ops import (
    activation,
    arithmetic,
    attention,
    conv,
    dropout,
    join,
    logic,
    norm,
    opaque,
    pool,
    product,
    reduce,
    resize,
    shape,
)
from net2net_cli.architecture.ops.base import REGISTRY, Call, Input, Op, SizeOf, TensorSlot, attributes

__all__ = ["REGISTRY", "Call", "Input", "Op", "SizeOf", "TensorSlot", "attributes"]

FAMILIES = (
    *(
        activation,
        arithmetic,
        attention,
        conv,
        dropout,
        join,
        logic,
        norm,
        opaque,
        pool,
        product,
        reduce,
        resize,
        shape,
    ),
)
