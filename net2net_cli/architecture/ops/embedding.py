"""Embeddings: rows of a table, looked up by number."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Shape


@op("Embedding", module="torch.nn.Embedding")
class Embedding(Op):
    """The row of a table for each index: `(*)` integers -> `(*, embedding_dim)`.

    Creates its channels, the table's columns; its rows stay, since indices name them.

    Attributes:
        padding_idx: the row that gets no gradient.
    """

    linear = True
    silent: ClassVar[tuple[str, ...]] = ("weight",)

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None
    scale_grad_by_freq: bool
    sparse: bool

    @classmethod
    def from_module(cls, module: Any) -> Self:
        if module.max_norm is not None:
            raise ValueError("`max_norm` rescales its rows in place when they are read; a spec has no such layer")
        return super().from_module(module)

    def check(self) -> None:
        if self.padding_idx is not None and not 0 <= self.padding_idx < self.num_embeddings:
            raise ValueError(f"`padding_idx` is {self.padding_idx}, which is none of {self.num_embeddings} rows")

    def tensors(self) -> dict[str, TensorSlot]:
        return {"weight": TensorSlot((self.num_embeddings, self.embedding_dim), default="normal")}

    def shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0], self.embedding_dim)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        out = f.create("weight", 1, self.embedding_dim)
        rows = f.create("weight", 0, self.num_embeddings)
        f.uniform(rows, "looks up its rows by number")  # so that a large vocabulary is one class
        f.mix(rows, "looks up its rows by number")
        f.set(embedding_dim=f.width(out, self.embedding_dim))
        return (*inputs[0].axes, out)
