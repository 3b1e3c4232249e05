"""What differs between two networks, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from net2net_cli.cli.growth_report import differences, layer_rows, sizes
from net2net_cli.cli.opening import Network
from net2net_cli.cli.tables import count, facts, plural, table
from net2net_cli.errors import InputError


def diff_payload(teacher: Network, student: Network) -> dict[str, Any]:
    """The object of `diff`'s description."""
    found = differences(teacher.graph, student.graph, (teacher.bytes, student.bytes))
    return {"teacher": str(teacher.path), "student": str(student.path), **found}


def recipe_between(teacher: Network, student: Network) -> str:
    """The recipe that leads from a checkpoint to one that was grown from it.

    Raises:
        InputError: the student's lineage does not begin with the teacher's.
    """
    from net2net_cli.growth.recipe import recipe_text

    done, steps = ([] if n.model is None or n.model.file is None else n.model.file.steps() for n in (teacher, student))
    pairs = zip(done, steps, strict=False)
    same = [(a.operation, a.arguments, a.seed) == (b.operation, b.arguments, b.seed) for a, b in pairs]
    if len(done) > len(steps) or not all(same):
        hint = "name the checkpoint that the student was grown from"
        raise InputError(f"`{student.path}` was not grown from `{teacher.path}`", hint)
    return recipe_text(steps[len(done) :])


def diff_text(payload: Mapping[str, Any], *, every: bool) -> str:
    """The layers that changed, grouped unless `every` one is wanted, and the sizes of both networks."""
    layers = payload["layers"]
    if not layers:
        return f"the same layers\n\n{facts(sizes(payload))}"
    text = _every_layer(layers) if every else _grouped(layers)
    return f"{text}\n\n{facts(sizes(payload))}"


def _every_layer(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (layer["name"], layer["op"], layer["kind"], *(_both(layer[key]) for key in ("width", "parameters")))
        for layer in layers
    ]
    return table(("layer", "op", "kind", "width", "parameters"), rows, "<<<<<")


def _both(pair: Sequence[int | None]) -> str:
    before, after = ("–" if n is None else count(n) for n in pair)
    return before if before == after else f"{before} → {after}"


def _grouped(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = layer_rows(layers)
    others = len(layers) - sum(len(names) for *_, names in rows)
    text = (
        table(("layer", "op", "width"), [row[:3] for row in rows], "<<<") if rows else "no layer changed its own width"
    )
    return f"{text}\n… and {plural(others, 'other')} adapted to them; `--verbose` lists all" if others else text
