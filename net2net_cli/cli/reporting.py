"""What a report shows, and the place of its file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.exporting import write_complete
from net2net_cli.cli.growth_report import differences, layer_rows, sizes
from net2net_cli.cli.located import Finding, verdict
from net2net_cli.cli.opening import stored_bytes
from net2net_cli.cli.tables import brief, count, plural
from net2net_cli.errors import MachineError, UsageError
from net2net_cli.report.charts import Bars, Point, State
from net2net_cli.report.network import Kind, Node
from net2net_cli.report.page import MARK, Report, Table, page

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.model import Net2Net
    from net2net_cli.runtime.locating import Histogram, LayerError

SUFFIXES = (".html", ".htm")

FIGURES: dict[str, tuple[str, str]] = {
    "largest": ("largest difference", ".3g"),
    "mean": ("mean", ".3g"),
    "relative": ("relative", ".3g"),
    "error": ("error", ".3g"),
    "cosine": ("cosine", ".8f"),
    "kl": ("KL", ".3g"),
    "same_top": ("same top class", ".1%"),
    "same_top5": ("same top 5", ".1%"),
}
"""Keys of an output in `verify --json`: what they are called, and how they are written."""

MOST_TENSORS = 20
"""How many tensors that differ are shown of a proof."""

FACTS = {
    "level": "level",
    "proves": "what this says",
    "tolerance_reason": "tolerance",
    "device": "device",
    "driver": "driver",
    "torch": "PyTorch",
    "cuda_build": "CUDA of the build",
    "dtype": "type",
    "mode": "mode",
}
"""Keys of `verify --json` that are shown as they are, where they are there."""


def check_report_place(out: Path, *, force: bool, inputs: Sequence[Path]) -> None:
    """Check before any work that a report can go there. An older report is replaced.

    Raises:
        UsageError: it is no `.html`, a folder, one of the networks, or something else that exists.
        MachineError: its folder cannot be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"`{out}` must end in `.html`", f"use `--report {out.with_suffix('.html')}`")
    if out.is_dir():
        raise UsageError(f"`{out}` is a folder, a file is needed", f"use `--report {out / 'report.html'}`")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder `{out.parent}`", f"make it: `mkdir -p '{out.parent}'`")
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise UsageError(f"`{out}` is a network that is compared", "give another name with `--report`")
    if os.path.lexists(out) and not force and not _is_report(out):
        raise UsageError(
            f"`{out}` exists and is no report of net2net", "replace it with `--force`, or give another name"
        )
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise MachineError(f"no permission to write in the folder `{out.parent}`", "choose another folder")


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(512)
    except OSError:
        return False


def write_report(out: Path, report: Report) -> None:
    """Write the page; it appears complete or not at all.

    Raises:
        MachineError: it cannot be written.
    """
    text = page(report)

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8", newline="\n")

    write_complete(out, write)


def report_on(
    names: tuple[str, str], teacher: Net2Net, student: Net2Net, payload: Mapping[str, Any], where: Finding | None
) -> Report:
    """What is shown of two networks.

    Args:
        names: of both, for the title.
        teacher: the first network.
        student: the second.
        payload: what `verify --json` says of them.
        where: what is known of their layers.
    """
    changed = differences(teacher.graph, student.graph, (stored_bytes(teacher), stored_bytes(student)))
    located = None if where is None else where.located
    return Report(
        title=" → ".join(names),
        passed=payload["passed"],
        verdict=_verdict(payload),
        facts=_facts(payload),
        where=[] if where is None else verdict(where),
        grown=_grown(changed["layers"]),
        sizes=sizes(changed),
        outputs=_outputs(payload.get("outputs", ())),
        points=[] if where is None else _points(where),
        tolerance=float(payload.get("tolerance") or (0.0 if located is None else located.tolerance)),
        histograms=[] if located is None else [bars for found in located.histograms for bars in _bars(found)],
        nodes=_nodes(student.graph, changed["layers"], where),
    )


def _verdict(payload: Mapping[str, Any]) -> tuple[str, str]:
    """In a few words, and in a sentence."""
    if payload["level"] == "proof":
        if payload["passed"]:
            return "Proved.", "Each bit of the student is what its growth makes of the teacher."
        if payload["replays"]:
            return (
                "Not proved.",
                "The student is what its lineage says, to the last bit, and approximate by construction.",
            )
        return "Not proved.", "; ".join(["The student is not what its lineage says", *payload["problems"]]) + "."
    error = "not a finite number" if payload["error"] is None else f"{payload['error']:.3g}"
    allowed = f"{payload['tolerance']:.3g}"
    said = f"The largest error is {error}, in standard deviations of the output; {allowed} are allowed."
    return "The outputs agree." if payload["passed"] else "The outputs differ.", said


def _facts(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(said, str(payload[key])) for key, said in FACTS.items() if payload.get(key)]
    if payload["level"] == "proof":
        rows += [
            ("grown by", ", ".join(payload["operations"])),
            ("compared", f"{plural(payload['tensors'], 'tensor')}, {brief(payload['bytes'])}B"),
        ]
        return [*rows, *(("differs", _differing(found)) for found in payload["differences"][:MOST_TENSORS])]
    rows.append(("compared on", plural(payload["samples"], "input")))
    rows += [("warning", text) for text in payload["warnings"]] + [("note", text) for text in payload["notes"]]
    return [*rows, ("explanation", payload["explanation"] or "")]


def _differing(found: Mapping[str, Any]) -> str:
    return f"`{found['name']}`: {count(found['differing'])} of {count(found['elements'])}, first at {found['index']}"


def _grown(layers: Sequence[Mapping[str, Any]]) -> Table:
    parameters = {layer["name"]: layer["parameters"] for layer in layers}
    rows = [
        (text, op, width, " → ".join(count(sum(parameters[name][i] for name in names)) for i in (0, 1)))
        for text, op, width, names in layer_rows(layers)
    ]
    return Table(("layer", "op", "width", "parameters"), rows, (False, False, False, True))


def _outputs(outputs: Sequence[Mapping[str, Any]]) -> Table:
    keys = [key for key in FIGURES if any(output.get(key) is not None for output in outputs)]
    rows = [
        (str(output["name"]), *("" if output.get(k) is None else format(output[k], FIGURES[k][1]) for k in keys))
        for output in outputs
    ]
    return Table(("output", *(FIGURES[k][0] for k in keys)), rows, (False, *(True for _ in keys)))


def _points(where: Finding) -> list[Point]:
    graph = where.student.by_name
    return [Point(e.name, graph[e.name].op.name, e.error, _state(where, e)) for e in where.located.layers]


def _state(where: Finding, layer: LayerError) -> State:
    if layer in where.located.culprits:
        return "own"
    return "equal" if layer.error <= where.located.tolerance else "inherited"


def _bars(found: Histogram) -> list[Bars]:
    both = [("teacher", found.teacher), ("student", found.student)]
    differ = found.equal < found.elements
    returned = Bars(f"{found.name}: what both return", found.edges, both, False, "" if differ else "all are equal")
    if not differ:
        return [returned]
    equal = f"{found.equal / found.elements:.1%} are equal" if found.equal else "none is 0"
    return [returned, Bars(f"{found.name}: |Δ|", found.apart_edges, [("|Δ|", found.apart)], True, equal)]


def _nodes(graph: Graph, layers: Sequence[Mapping[str, Any]], where: Finding | None) -> list[Node]:
    changed = {layer["name"]: layer for layer in layers}
    errors = {} if where is None else {layer.name: layer for layer in where.located.layers}
    outputs = {value: name for name, value in graph.outputs.items()}
    nodes = [Node(given.name, "input", (), "input") for given in graph.inputs]
    for layer in graph.layers:
        found, error = changed.get(layer.name), errors.get(layer.name)
        node = Node(
            layer.name,
            layer.op.name,
            layer.inputs,
            _kind(found),
            _width(found),
            None if error is None else error.error,
            None if error is None else error.own,
            "equal" if error is None or where is None else _state(where, error),
            outputs.get(layer.name, ""),
        )
        nodes.append(node)
    return nodes


def _kind(changed: Mapping[str, Any] | None) -> Kind:
    if changed is None:
        return "same"
    if changed["kind"] == "new":
        return "new"
    return "wider" if changed["kind"] == "wider" and changed["makes_channels"] else "adapted"


def _width(changed: Mapping[str, Any] | None) -> str:
    if changed is None:
        return ""
    before, after = changed["width"]
    if before == after or after is None:
        return ""
    return str(after) if before is None else f"{before} → {after}"
