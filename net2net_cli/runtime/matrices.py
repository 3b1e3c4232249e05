"""Matrices of the user's own, `self.W` in `x @ self.W` or `F.linear(x, self.W)`: the products are linear layers.

Recorded are products of two values. Where a matrix is a parameter that nothing reads but such products, all of them
over the same axis, its weights can share out the copies on that axis as those of `nn.Linear` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from net2net_cli.architecture.ops.arithmetic import Matmul, Parameter
from net2net_cli.architecture.ops.matrix import Matrix, MatrixProduct
from net2net_cli.runtime.arrangement import Arrangement
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.modes import Merged

Readers = Mapping[Draft, Sequence[Draft]]


@dataclass(frozen=True, slots=True)
class _Use:
    """What a matrix is multiplied by; None where something else is done with it.

    Attributes:
        product: the draft that computes it.
        summed: the axis of the matrix over which it sums.
        turned: the transposed matrices on the way.
    """

    product: Draft
    summed: int | None
    turned: tuple[Draft, ...] = ()


def with_linear_layers(merged: Merged) -> None:
    """Turn products with matrices of the user's own into linear layers, in place."""
    readers: dict[Draft, list[Draft]] = {}
    for draft in merged.drafts:
        for read in draft.reads:
            readers.setdefault(read, []).append(draft)
    returned = set(merged.outputs.values())
    owned = Counter(i for draft in merged.drafts for i in draft.tensors.values())
    gone: set[Draft] = set()
    for matrix in merged.drafts:
        if not _is_matrix(matrix) or owned[matrix.tensors[""]] > 1:
            continue
        uses = list(_uses(matrix, 0, readers, returned))
        axes = {use.summed for use in uses}
        if len(axes) == 1 and None not in axes:
            gone |= {draft for use in uses for draft in use.turned}
            _rewrite(matrix, uses)
    merged.drafts[:] = [draft for draft in merged.drafts if draft not in gone]
    merged.always -= gone


def _is_matrix(draft: Draft) -> bool:
    op = draft.op
    return isinstance(op, Parameter) and op.trainable and len(op.size) == 2


def _uses(value: Draft, summed: int, readers: Readers, returned: set[Draft]) -> Iterator[_Use]:
    """All uses of a matrix, or of one turned over, of which a product on its left sums over the axis `summed`."""
    if value in returned:
        yield _Use(value, None)
    for reader in readers.get(value, ()):
        if isinstance(reader.op, Arrangement) and reader.op.transposes:
            for use in _uses(reader, 1 - summed, readers, returned):
                yield replace(use, turned=(reader, *use.turned))
        elif isinstance(reader.op, Matmul) and reader.inputs[0] is not value:
            yield _Use(reader, summed)
        else:
            yield _Use(reader, None)


def _rewrite(matrix: Draft, uses: Sequence[_Use]) -> None:
    op, summed = matrix.op, uses[0].summed
    assert isinstance(op, Parameter)
    assert summed is not None
    rows, columns = op.size
    inner, outer = op.size[summed], op.size[1 - summed]
    matrix.op = Matrix((rows, columns), summed)
    for use in uses:
        product = use.product
        product.op = MatrixProduct(inner, outer, summed)
        product.inputs, product.tensors = (product.inputs[0], matrix), {"weight": matrix.tensors[""]}
