"""Whether a checkpoint holds the tensors that a spec names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops import TensorSlot
from net2net_cli.architecture.shapes import show
from net2net_cli.architecture.spec_values import nearest
from net2net_cli.errors import CheckpointError

_SHOWN = 5


class Stored(Protocol):
    """What is known of a stored tensor; `dtype` is safetensors' name (`F32`, `BF16`, `I64`, …)."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def check_tensors(
    graph: Graph,
    stored: Mapping[str, Stored],
    aliases: Mapping[str, str] | None = None,
    *,
    where: str = "the checkpoint",
) -> None:
    """Whether the checkpoint has every tensor of the graph in its shape, and no other.

    Args:
        graph: the spec.
        stored: the checkpoint's tensors.
        aliases: tied tensors; a name that is not stored -> the stored name that it shares.
        where: what messages call the checkpoint, for example "`teacher.safetensors`".

    Raises:
        CheckpointError: one is missing, has another shape or is no floating-point tensor, or some belong to no layer.

    """
    aliases = aliases or {}
    used: set[str] = set()
    for name, layer, _, slot in graph.tensors():
        place = aliases.get(name, name)
        if place not in stored:
            own = {name for name, *_ in graph.tensors()}
            close = nearest(name, [other for other in stored if other not in own])
            raise CheckpointError(
                f"{where} has no tensor `{name}`, which layer `{layer.name}` ({layer.op.name}) needs",
                close or "check that checkpoint and spec belong together",
            )
        _check_tensor(name, stored[place], slot, where)
        used.add(place)
    unused = [name for name in stored if name not in used]
    if unused:
        _refuse_unused(unused, where)


def _check_tensor(name: str, found: Stored, needed: TensorSlot, where: str) -> None:
    if tuple(found.shape) != needed.shape:
        raise CheckpointError(
            f"tensor `{name}` in {where} has the shape {show(tuple(found.shape))}; the spec needs {show(needed.shape)}",
            "check that checkpoint and spec belong together",
        )
    if needed.kind == "parameter" and not found.dtype.startswith(("F", "BF", "C")):
        raise CheckpointError(
            f"tensor `{name}` in {where} has the type {found.dtype}; a parameter is a floating-point tensor",
            "quantised checkpoints cannot be grown: use the one they were made from",
        )


def _refuse_unused(unused: list[str], where: str) -> None:
    shown = ", ".join(f"`{name}`" for name in unused[:_SHOWN])
    more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
    raise CheckpointError(
        f"{where} has tensors that belong to no layer of the spec: {shown}{more}",
        "import the model again, so that checkpoint and spec belong together",
    )
