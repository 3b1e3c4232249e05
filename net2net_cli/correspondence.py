"""Which layers of two networks return the same, and how slices of the one stand in the other. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from net2net_cli.architecture.ops import attributes
from net2net_cli.channels.values import Value, chained
from net2net_cli.errors import InputError
from net2net_cli.replaying import replayed

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.growth.plan import Plan
    from net2net_cli.model import Net2Net


@dataclass(frozen=True, slots=True)
class Correspondence:
    """What two networks have in common.

    Attributes:
        values: layers of the student, in the order in which they run, and what of the teacher each returns.
        source: `growth` where a growth says so; `shapes` where layers of equal names, ops and shapes are taken for it.
        why: why no growth could say it, or None.
        expected: the student as it was grown, or None.
    """

    values: Mapping[str, Value]
    source: Literal["growth", "shapes"]
    why: str | None = None
    expected: Net2Net | None = None


def corresponding(teacher: Net2Net, student: Net2Net) -> Correspondence:
    """By the plans of the student if it was grown in memory, else by its lineage, else by names and shapes."""
    plans = _plans_between(teacher, student)
    if plans is not None:
        return Correspondence(_present(_claims(plans, teacher.graph), student.graph, student.graph), "growth")
    try:
        expected = replayed(teacher, student)
    except InputError as why:
        return Correspondence(_alike(teacher.graph, student.graph), "shapes", why.message)
    claims = _claims(expected.plans[len(teacher.plans) :], teacher.graph)
    return Correspondence(_present(claims, expected.graph, student.graph), "growth", expected=expected)


def _plans_between(teacher: Net2Net, student: Net2Net) -> tuple[Plan, ...] | None:
    """The plans that made the student from the teacher in this process; None where others did."""
    plans, before = student.plans, teacher.plans
    if len(plans) <= len(before) or any(a is not b for a, b in zip(before, plans, strict=False)):
        return None
    rest = plans[len(before) :]
    return rest if rest[0].teacher == teacher.graph else None


def _claims(plans: Sequence[Plan], teacher: Graph) -> dict[str, Value]:
    return chained((plan.values for plan in plans), teacher)


def _present(claims: Mapping[str, Value], grown: Graph, found: Graph) -> dict[str, Value]:
    """The claims about layers that are there, and return what has the shape that they had when they were grown."""
    same = (n.name for n in found.layers if n.name in claims and found.shapes[n.name] == grown.shapes[n.name])
    return {name: claims[name] for name in same}


def _alike(teacher: Graph, student: Graph) -> dict[str, Value]:
    """Layers of the same name, op and shape, and what both return under the same name."""
    pairs = {n.name: n.name for n in student.layers if _same_op(teacher, student, n.name)}
    pairs |= {value: teacher.outputs[out] for out, value in student.outputs.items() if out in teacher.outputs}
    return {
        n.name: Value(pairs[n.name], (None,) * len(student.shapes[n.name]))
        for n in student.layers
        if n.name in pairs
        and pairs[n.name] in teacher.by_name
        and student.shapes[n.name] == teacher.shapes[pairs[n.name]]
    }


def _same_op(teacher: Graph, student: Graph, name: str) -> bool:
    return name in teacher.by_name and teacher.by_name[name].op.name == student.by_name[name].op.name


def changed_since(expected: Net2Net, student: Net2Net, layer: str) -> list[str]:
    """What of a layer is not as it was grown: attributes and tensors, each as a clause."""
    if layer not in expected.graph.by_name or layer not in student.graph.by_name:
        return []
    was, now = expected.graph.by_name[layer], student.graph.by_name[layer]
    before, after = attributes(was.op), attributes(now.op)
    said = [
        f"`{layer}` has {key} {after[key]}, and was grown with {value}"
        for key, value in before.items()
        if key in after and after[key] != value
    ]
    if was.inputs != now.inputs:
        said.append(f"`{layer}` reads {_names(now.inputs)}, and was grown to read {_names(was.inputs)}")
    for slot in was.op.tensors():
        if slot not in now.op.tensors():
            said.append(f"`{was.tensor_name(slot)}` is missing")
        elif (difference := _difference(expected, student, was.tensor_name(slot), now.tensor_name(slot))) is not None:
            said.append(difference)
    return said


def _names(values: Sequence[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _difference(expected: Net2Net, student: Net2Net, was: str, now: str) -> str | None:
    a, b = np.asarray(expected.tensor(was)), np.asarray(student.tensor(now))
    if a.shape != b.shape:
        return f"`{now}` has another shape"
    apart = a != b
    count = int(apart.sum())
    if not count:
        return None
    largest = float(np.abs(a[apart].astype(np.float64) - b[apart].astype(np.float64)).max())
    return f"{count:,} of {a.size:,} numbers of `{now}` differ, by up to {largest:.3g}"
