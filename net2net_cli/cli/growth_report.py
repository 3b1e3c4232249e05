"""What a growth changed, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.comparison import comparison_payload
from net2net_cli.cli.names import patterns
from net2net_cli.cli.opening import stored_bytes
from net2net_cli.cli.tables import brief, count, facts, growth, plural, table

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.cli.growing import Growth
    from net2net_cli.growth.plan import AxisMap, Operation, Plan, TensorPlan
    from net2net_cli.model import Net2Net
    from net2net_cli.runtime.compare import Comparison

MOST_ROWS = 16

Payload = Mapping[str, Any]


def growth_payload(asked: Growth, teacher: Net2Net, student: Net2Net, comparison: Comparison | None) -> dict[str, Any]:
    """The object of `growing`'s description."""
    return {
        **_operation([plan.operation for plan in student.plans]),
        "teacher": str(asked.teacher),
        "student": None if asked.out is None else str(asked.out),
        "dry_run": asked.dry_run,
        **differences(teacher.graph, student.graph, (stored_bytes(teacher), stored_bytes(student))),
        "tensors": [tensor for plan in student.plans for tensor in _tensors(plan)],
        "verification": None if comparison is None else comparison_payload(comparison),
        "notes": [note for plan in student.plans for note in plan.notes],
    }


def _operation(operations: Sequence[Operation]) -> dict[str, Any]:
    """One operation as it is; several as `apply`, with each in its arguments."""
    said = [{"operation": o.name, "arguments": dict(o.arguments), "seed": o.seed, "exact": o.exact} for o in operations]
    if len(said) == 1:
        return said[0]
    exact = all(o.exact for o in operations)
    return {"operation": "apply", "arguments": {"operations": said}, "seed": None, "exact": exact}


def _tensors(plan: Plan) -> list[dict[str, Any]]:
    shapes = {name: slot.shape for name, _, _, slot in plan.teacher.tensors()}
    return [_tensor(tensor, shapes) for tensor in plan.changed]


def differences(before: Graph, after: Graph, stored: tuple[int | None, int | None]) -> dict[str, Any]:
    """The keys that `diff` and the growing commands share."""
    from net2net_cli.architecture.cost import multiply_adds, parameters

    return {
        "layers": changed_layers(before, after),
        "parameters": [parameters(before), parameters(after)],
        "multiply_adds": [multiply_adds(before), multiply_adds(after)],
        "bytes": list(stored),
    }


def changed_layers(before: Graph, after: Graph) -> list[dict[str, Any]]:
    """Every layer that differs, as JSON."""
    from net2net_cli.architecture.changes import changes

    return [
        {
            "name": change.name,
            "op": change.op,
            "kind": change.kind,
            "makes_channels": change.makes_channels,
            "width": list(change.width),
            "parameters": list(change.parameters),
            "attributes": {key: _json(pair) for key, pair in change.attributes.items()},
        }
        for change in changes(before, after)
    ]


def _json(value: Any) -> Any:
    """A value of an op as JSON."""
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _tensor(tensor: TensorPlan, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    before = None if tensor.source is None else list(shapes[tensor.source])
    return {"name": tensor.name, "before": before, "after": list(tensor.shape), "how": how(tensor)}


def how(tensor: TensorPlan) -> str:
    """How a tensor of the student comes about: `axis 0 copied, axis 1 shared out`."""
    if tensor.source is None:
        assert tensor.fill is not None
        return f"new: {_FILLS[tensor.fill.kind]}"
    said = []
    for axis in tensor.axes:
        factor = " and scaled" if axis.factor is not None else ""
        mean = ", their mean behind," if (axis.position < 0).any() else ""
        said.append(f"axis {axis.axis} {_how_axis(tensor, axis)}{mean}{factor}")
    if tensor.fill is not None:
        said.append(f"new entries: {_FILLS[tensor.fill.kind]}" if tensor.axes else f"set: {_FILLS[tensor.fill.kind]}")
    if tensor.noise:
        said.append(f"noise {tensor.noise:g} on copies")
    return ", ".join(said)


def _how_axis(tensor: TensorPlan, axis: AxisMap) -> str:
    if axis.shares is not None:
        return "zero for new channels" if axis.shares.split == "fresh" else "shared out"
    return "copied" if tensor.fill is None else "longer"


_FILLS = {
    "constant": "one number throughout",
    "dirac": "the identity",
    "split_pair": "the identity and its negative",
    "join_pair": "the difference of a pair",
    "vector": "a number for each channel",
    "uniform": "random, uniform",
    "normal": "random, normal",
}


def headline(payload: Payload) -> str:
    """One sentence for people: `widen: 3 layers wider, 5 others adapted; wrote …`."""
    layers = payload["layers"]
    grown = sum(is_row(layer) and layer["kind"] not in ("new", "gone") for layer in layers)
    new = sum(is_row(layer) and layer["kind"] == "new" for layer in layers)  # as in the table: those with parameters
    rest = sum(not is_row(layer) and layer["kind"] not in ("new", "gone") for layer in layers)
    said = [f"{plural(grown, 'layer')} wider" if grown else "", f"{plural(new, 'layer')} new" if new else ""]
    said.append(f"{plural(rest, 'other')} adapted" if rest else "")
    place = "nothing was written (`--dry-run`)" if payload["dry_run"] else f"wrote `{payload['student']}`"
    return f"{payload['operation']}: {', '.join(filter(None, said)) or 'nothing changed'}; {place}"


def plan_text(payload: Payload) -> str:
    """The plan: every tensor that changes."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    order = {t["name"]: i for i, t in enumerate(payload["tensors"])}
    for t in payload["tensors"]:
        alike.setdefault((_shape(t["before"]), _shape(t["after"]), t["how"]), []).append(t["name"])
    found = [(text, same, row) for row, names in alike.items() for text, same in patterns(names)]
    found.sort(key=lambda entry: order[entry[1][0]])
    rows = [(f"{text} ({len(same)})" if len(same) > 1 else text, *row) for text, same, row in found]
    return table(("tensor", "before", "after", "how"), rows, "<><<")


def _shape(shape: Sequence[int] | None) -> str:
    return "" if shape is None else "×".join(map(str, shape)) or "scalar"


def growth_text(payload: Payload) -> str:
    """A short table of what changed."""
    rows = layer_rows(payload["layers"])
    left = sum(len(names) for *_, names in rows[MOST_ROWS:])
    text = table(("layer", "op", "width"), [row[:3] for row in rows[:MOST_ROWS]], "<<<")
    if left:
        text += f"\n… and {left} more layers; `--json` and `net2net diff` list them"
    return f"{text}\n\n{facts([*sizes(payload), *_outcome(payload)])}"


def layer_rows(layers: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, list[str]]]:
    """Layers whose own width changed, and new ones; those that changed alike stand in one row, with their names."""
    alike: dict[tuple[str, str], list[str]] = {}
    order = {layer["name"]: i for i, layer in enumerate(layers)}
    for layer in layers:
        if is_row(layer):
            alike.setdefault((layer["op"], _width(layer)), []).append(layer["name"])
    found = [(text, op, width, same) for (op, width), names in alike.items() for text, same in patterns(names)]
    found.sort(key=lambda row: order[row[3][0]])
    return [(f"{text} ({len(same)})" if len(same) > 1 else text, op, w, same) for text, op, w, same in found]


def is_row(layer: Mapping[str, Any]) -> bool:
    """Whether a person wants to read of it: a new width, or a layer with parameters that is new or gone."""
    if layer["kind"] in ("new", "gone"):
        return any(layer["parameters"])
    return layer["kind"] != "other" and bool(layer["makes_channels"])


def _width(layer: Mapping[str, Any]) -> str:
    before, after = layer["width"]
    if layer["kind"] in ("new", "gone"):
        width = after if layer["kind"] == "new" else before
        return layer["kind"] if width is None else f"{width} ({layer['kind']})"
    heads = layer["attributes"].get("num_heads")
    return f"{before} → {after}" + (f", {heads[0]} → {heads[1]} heads" if heads else "")


def sizes(payload: Payload) -> list[tuple[str, str]]:
    """Parameters, bytes and multiply-adds, before and after."""
    (p, q), (a, b), (m, n) = payload["parameters"], payload["bytes"], payload["multiply_adds"]
    known = a is not None and b is not None
    return [
        ("parameters", _pair(count(p), count(q), growth(p, q))),
        ("bytes", _pair(f"{brief(a)}B", f"{brief(b)}B", growth(a, b)) if known else ""),
        ("multiply-adds", _pair(brief(m), brief(n), growth(m, n))),
    ]


def _pair(before: str, after: str, more: str) -> str:
    return f"{before} → {after}  ({more})" if more else before


def _outcome(payload: Payload) -> list[tuple[str, str]]:
    found = payload["verification"]
    error = ""
    if found:
        where = f"{found['samples']} inputs, {found['dtype']}, {found['device']}"
        size = f"{found['error']:.2g} of the output's standard deviation" if found["error"] else "0: bit-equal"
        error = f"{size} ({where})"
    elif not payload["exact"]:
        error = "not exact, not compared"
    else:
        error = "not compared"
    return [
        ("largest error", "" if payload["dry_run"] else error),
        ("written to", "nothing (`--dry-run`)" if payload["dry_run"] else payload["student"]),
    ]
