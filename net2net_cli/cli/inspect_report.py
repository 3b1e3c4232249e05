"""What a network consists of, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.names import abbreviated, patterns
from net2net_cli.cli.printing import bold, dim
from net2net_cli.cli.tables import brief, cells, count, facts, last_column_room, plural, table

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.cli.opening import Network
    from net2net_cli.growth.describe import LayerInfo

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Payload = Mapping[str, Any]


def inspect_payload(network: Network, names: Sequence[str]) -> dict[str, Any]:
    """The object of `inspect`'s description."""
    from net2net_cli.channels.counts import labels_of
    from net2net_cli.growth.describe import describe, repeatable_blocks

    graph = network.graph
    labels = labels_of(graph)
    infos = describe(graph, labels)
    layers = [_layer(graph, info, infos) for info in infos]
    return {
        **head_payload(network),
        "layers": _chosen(graph, labels, layers, names) if names else layers,
        "blocks": repeatable_blocks(graph),
    }


def head_payload(network: Network) -> dict[str, Any]:
    """All but the layers."""
    from net2net_cli.architecture.cost import multiply_adds, parameters
    from net2net_cli.architecture.shapes import dim_to_json
    from net2net_cli.architecture.trust import named_code

    graph = network.graph
    inputs = [{"name": i.name, "shape": [dim_to_json(d) for d in i.shape], "dtype": i.dtype} for i in graph.inputs]
    return {
        "name": graph.name,
        "source": graph.source,
        "file": str(network.path),
        "parameters": parameters(graph),
        "multiply_adds": multiply_adds(graph),
        **_stored(network),
        "inputs": inputs,
        "code": named_code(graph),
        "outputs": {name: [dim_to_json(d) for d in graph.shapes[value]] for name, value in graph.outputs.items()},
    }


def _stored(network: Network) -> dict[str, Any]:
    """What only a checkpoint tells."""
    model = network.model
    if model is None or model.file is None:
        return {"bytes": None, "dtypes": None, "lineage": []}
    sizes: dict[str, int] = {}
    for name, *_ in network.graph.tensors():
        info = model.tensor_info(name)
        dtype = DTYPES.get(info.dtype, info.dtype.lower())
        sizes[dtype] = sizes.get(dtype, 0) + info.nbytes
    steps = [{field: getattr(step, field) for field in STEP} for step in model.file.steps()]
    return {"bytes": network.bytes, "dtypes": sizes, "lineage": steps}


STEP = ("operation", "arguments", "seed", "exact", "teacher_sha256", "tool_version")


def _layer(graph: Graph, info: LayerInfo, infos: Sequence[LayerInfo]) -> dict[str, Any]:
    from net2net_cli.architecture.cost import layer_multiply_adds, width

    op = graph.by_name[info.name].op
    return {
        "name": info.name,
        "op": info.op,
        "kernel": list(getattr(op, "kernel_size", ())),
        "groups": getattr(op, "groups", 1),
        "depthwise": bool(getattr(op, "depthwise", False)),
        "width": info.width or width(graph, graph.by_name[info.name]),
        "own_width": info.width is not None,
        "widths": dict(info.widths),
        "parameters": info.parameters,
        "multiply_adds": layer_multiply_adds(graph, graph.by_name[info.name]),
        "grows_with": [{"layer": member.layer, "why": member.why} for member in info.grows_with],
        "follows": [other.name for other in infos if info.name in other.followers] if info.width is None else [],
        "followers": list(info.followers),
        "readers": list(info.readers),
        "not_widened": info.not_widened,
        "not_deepened": info.not_deepened,
        "not_fresh": info.not_fresh,
    }


def _chosen(graph: Graph, labels: Any, layers: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The layers that were named, with what takes longer to find out."""
    from net2net_cli.cli.inspect_choice import named_layers
    from net2net_cli.growth.describe import next_widths, why_not_fresh

    by_name = {layer["name"]: layer for layer in layers}
    chosen = []
    for name in named_layers(graph, by_name, names):
        layer = by_name[name] | {"next_widths": list(next_widths(labels, name))}
        if layer["next_widths"] and layer["not_fresh"] is None:
            layer["not_fresh"] = why_not_fresh(labels, name, layer["next_widths"][0])
        chosen.append(layer)
    return chosen


def inspect_text(payload: Payload, *, detail: bool, every: bool) -> str:
    """A summary and a table of layers, or all about some layers."""
    if detail:
        return "\n\n".join(_detail(layer) for layer in payload["layers"])
    return f"{summary(payload)}\n\n{_layers(payload, every=every)}"


def summary(payload: Payload) -> str:
    """What a network is, in a few lines."""
    source = f"  ({payload['source']})" if payload["source"] else ""
    stored = f", {brief(payload['bytes'])}B, {_dtypes(payload['dtypes'])}" if payload["bytes"] else ", spec only"
    inputs = ", ".join(f"{i['name']} {_shape(i['shape'])} {i['dtype']}" for i in payload["inputs"])
    outputs = ", ".join(f"{name} {_shape(shape)}" for name, shape in payload["outputs"].items())
    rows = [
        ("size", f"{count(payload['parameters'])} parameters{stored}"),
        ("cost", f"{brief(payload['multiply_adds'])} multiply-adds for one input"),
        ("input", inputs),
        ("output", outputs),
        *((("opaque", _code(payload["code"])),) if payload["code"] else ()),
        *(("grown by" if i == 0 else "", step_text(step)) for i, step in enumerate(payload["lineage"])),
    ]
    return f"{bold(payload['name'])}{source}\n{facts(rows)}"


def _code(code: Mapping[str, Sequence[str]]) -> str:
    """`torch.fft:fft2 ×12 (code: …)`."""
    named = [f"{rebuild}{f' ×{len(layers)}' if len(layers) > 1 else ''}" for rebuild, layers in code.items()]
    return f"{', '.join(named)}; to run this code takes `--trust-code`"


def _dtypes(sizes: Mapping[str, int]) -> str:
    """The floating types, most bytes first; integers are counters."""
    found = sorted(sizes, key=lambda dtype: -sizes[dtype])
    floats = [dtype for dtype in found if "float" in dtype or dtype.startswith("f")]
    return " and ".join(floats or found)


def _shape(shape: Sequence[int | str]) -> str:
    return "×".join(map(str, shape))


def step_text(step: Mapping[str, Any]) -> str:
    """`widen conv1=2x (seed 0)`."""
    arguments = step["arguments"]
    what = arguments.get("layers") or arguments.get("like") or {}
    listed = what if isinstance(what, list | tuple) else [what]  # the history of a file that was edited holds anything
    named = [f"{k}={v}" for k, v in what.items()] if isinstance(what, Mapping) else [str(name) for name in listed]
    shown = " ".join(named[:3]) + (f" … {len(named) - 3} more" if len(named) > 3 else "")
    seed = f" (seed {step['seed']})" if step["seed"] is not None else ""
    new = ", new channels" if arguments.get("split") == "fresh" else ""
    return f"{step['operation']} {shown}{seed}{new}{'' if step['exact'] else ', not exact'}"


def _layers(payload: Payload, *, every: bool) -> str:
    layers = [layer for layer in payload["layers"] if every or layer["own_width"]]
    hidden = len(payload["layers"]) - len(layers)
    header = ("layer", "op", "width", "parameters", "WD", "grows with")
    fixed = [_fixed(layer) for layer in layers]
    widths = [max(cells(cell) for cell in column) for column in zip(header[:-1], *fixed, strict=True)]
    room = last_column_room([*widths, 0])
    rows = [(*cells_, _coupled(layer, room)) for cells_, layer in zip(fixed, layers, strict=True)]
    legend = "W: can be widened, D: can be deepened; `net2net inspect FILE LAYER` says why (not)"
    notes = [legend]
    if payload["blocks"]:
        notes.append(
            f"residual blocks that `deepen` can repeat: {', '.join(p for p, _ in patterns(payload['blocks']))}"
        )
    if hidden:
        notes.append(f"{plural(hidden, 'layer')} more, norms and the like, grow with these; `--all` lists them")
    return table(header, rows, "<<>><<") + "\n\n" + "\n".join(dim(note) for note in notes)


def _fixed(layer: Payload) -> tuple[str, ...]:
    width = "" if layer["width"] is None else str(layer["width"])
    marks = ("·" if layer["not_widened"] else "W") + ("·" if layer["not_deepened"] else "D")
    return (layer["name"], _op(layer), width, count(layer["parameters"]), marks)


def _op(layer: Payload) -> str:
    """`Conv2d 3×3 dw`: with its kernel, and `dw` where it is depthwise or `g32` where it has groups."""
    groups = f"g{layer['groups']}" if layer["groups"] > 1 else ""
    parts = [layer["op"], _shape(layer["kernel"]), "dw" if layer["depthwise"] else groups]
    return " ".join(filter(None, parts))


def _coupled(layer: Payload, room: int | None) -> str:
    """The group; or what the layer follows; or why it cannot grow."""
    if layer["follows"]:
        return abbreviated(layer["follows"], room)
    if layer["not_widened"]:
        return str(layer["not_widened"]).removeprefix("it ").removeprefix("is ")
    return abbreviated([member["layer"] for member in layer["grows_with"]], room) if layer["grows_with"] else ""


def _not_widened(layer: Payload) -> str:
    if layer["follows"]:
        return f"it follows {', '.join(p for p, _ in patterns(layer['follows']))}; name one of these"
    return str(layer["not_widened"])


def _fresh(layer: Payload) -> str:
    """Whether new channels can stand in the place of copies; nothing where neither can."""
    if layer["not_widened"]:
        return ""
    return f"no: {layer['not_fresh']}" if layer["not_fresh"] else "yes"


def _detail(layer: Payload) -> str:
    """All about one layer."""
    width = f", {layer['width']} wide" if layer["width"] is not None else ""
    next_widths = ", ".join(map(str, layer["next_widths"]))
    widen = f"no: {_not_widened(layer)}" if layer["not_widened"] else f"yes; the next widths are {next_widths}"
    parts = (f"{size} {part} (`{layer['name']}:{part}=…`)" for part, size in layer["widths"].items())
    rows = [
        ("widen", widen),
        ("new channels", _fresh(layer)),
        ("also has", ", ".join(parts)),
        ("deepen", f"no: {layer['not_deepened']}" if layer["not_deepened"] else "yes"),
        ("follow it", ", ".join(p for p, _ in patterns(layer["followers"]))),
        ("read it", ", ".join(p for p, _ in patterns(layer["readers"]))),
    ]
    head = f"{_op(layer)}{width}, {plural(layer['parameters'], 'parameter')}"
    text = f"{bold(layer['name'])}  {head}\n{facts(rows)}"
    if layer["grows_with"]:
        members = [(f"  {member['layer']}", member["why"]) for member in layer["grows_with"]]
        text += f"\ngrows with {plural(len(members), 'other layer')}\n{facts(members)}"
    return text
