"""Whether the parts of a spec fit together: names, order, shared weights, shapes, what is returned."""

from __future__ import annotations

import keyword
from collections.abc import Collection
from typing import Any

from net2net_cli.architecture.graph import Graph, Layer, Structure, Tie
from net2net_cli.architecture.ops.arithmetic import Parameter
from net2net_cli.architecture.ops.conv import BorrowedLinear
from net2net_cli.architecture.ops.matrix import Matrix, MatrixProduct
from net2net_cli.architecture.returns import layers_of, output_names, parts_of, structure_of
from net2net_cli.architecture.shapes import Batch, Shape, show
from net2net_cli.architecture.spec_values import Place, nearest, shown
from net2net_cli.errors import SpecError

MAX_NAME = 255
MAX_AXIS = 2**26
"""Longest axis of a value: labels and positions are kept for each of its slices."""

MAX_CHANNELS = 2**24
"""Most channels that all layers with tensors make: some 64 bytes are kept for each, whatever the file's size."""

MAX_ELEMENTS = 2**40
"""Most elements of a tensor that a layer owns."""


def check_name(value: Any, place: Place) -> str:
    """The name of a layer or value: parts separated by dots, as in a state dict.

    Raises:
        SpecError: it is no such name.

    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        place.expect(value, f"a name of 1 to {MAX_NAME} characters")
    if not all(c.isprintable() and c not in "/\\" for c in value):
        place.expect(value, "a name of printable characters without slashes")
    if not all(value.split(".")):
        place.expect(value, "a name without empty parts between its dots")
    return value


def check_structure(structure: Structure, outputs: Collection[str], place: Place) -> None:
    """Whether a structure is well-formed and holds known outputs only.

    Raises:
        SpecError: it is not, or does not.

    """
    if structure is None:
        return
    if isinstance(structure, str):
        if structure not in outputs:
            place.fail(f"is {shown(structure)}, which is no output", nearest(structure, outputs) or None)
        return
    if not isinstance(structure, dict):
        place.expect(structure, "an output's name, null or an object")
    _check_level(structure, place)
    for part in parts_of(structure):
        check_structure(part, outputs, place.at(next(iter(structure))))


def _check_level(structure: dict[str, Any], place: Place) -> None:
    kind, held = next(iter(structure)) if len(structure) == 1 else None, next(iter(structure.values()), None)
    if kind in ("tuple", "list") and isinstance(held, list):
        return
    if kind == "dict" and isinstance(held, dict) and all(key.isprintable() for key in held):
        return
    fields = structure.get("fields")
    if set(structure) == {"namedtuple", "fields"} and isinstance(fields, dict):
        names = [structure["namedtuple"], *fields]
        for name in names:
            if not isinstance(name, str) or not _is_field(name):
                place.expect(name, "a Python name that does not start with an underscore")
        return
    place.expect(structure, "`tuple`, `list`, `dict`, or `namedtuple` and `fields`, each with what it holds,")


def _is_field(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def check_graph(graph: Graph, place: Place) -> None:
    """Whether names are unique, every layer reads what stands before it, and all shapes fit.

    Raises:
        SpecError: one of them does not hold.

    """
    known: dict[str, Layer | None] = {}
    for i, given in enumerate(graph.inputs):
        if given.name in known:
            place.at("inputs").at(i).at("name").fail(f"is `{given.name}`, which another input has")
        known[given.name] = None
    for i, layer in enumerate(graph.layers):
        _check_layer(layer, known, Place(place.where, f"layers[{i}]", layer.name))
        known[layer.name] = layer
    for name, value in graph.outputs.items():
        if value not in known:
            place.at("outputs").at(name).fail(f"is `{value}`, which no layer makes", nearest(value, known) or None)
        if (made := known[value]) is not None and isinstance(made.op, Matrix):
            place.at("outputs").at(name).fail(
                f"is `{value}`, a `Matrix`, which `matrix_product` alone takes, as its second input"
            )
    _check_tensors(graph, place)
    _check_modes(graph, place)
    _check_shapes(graph, place)


def _check_layer(layer: Layer, known: dict[str, Layer | None], place: Place) -> None:
    if layer.name in known:
        place.at("name").fail("is taken by a layer or input before it", "names must be unique")
    for name in (*layer.inputs, *layer.op.references()):
        if name not in known:
            problem = f"reads `{name}`, which no layer before it makes"
            place.at("inputs").fail(problem, nearest(name, known) or "layers stand in an order in which they can run")
    arity = layer.op.arity
    if len(layer.inputs) != arity if arity is not None else not layer.inputs:
        needed = "at least one is" if arity is None else f"{arity} {'is' if arity == 1 else 'are'}"
        place.at("inputs").fail(f"has {len(layer.inputs)} entries; {needed} needed")
    if layer.weights_of is not None:
        _check_owner(layer, known.get(layer.weights_of), place.at("weights_of"))
    for tie in layer.tied:
        _check_tie(layer, tie, known.get(tie.layer), place.at("tied").at(tie.slot))
    if layer.op.borrows and (missing := set(layer.op.tensors()) - {tie.slot for tie in layer.tied}):
        slot = f"`{min(missing)}`" if min(missing) else "value"
        place.fail(f"has no {slot} in `tied`; `{layer.op.name}` has no tensors of its own")
    for number, name in enumerate(layer.inputs):
        _check_matrix(layer, number, known[name], place.at("inputs"))


def _check_matrix(layer: Layer, number: int, read: Layer | None, place: Place) -> None:
    """A product multiplies by the very tensor that it names; a `Matrix` holds no values for anything else to read."""
    op, matrix = layer.op, read is not None and isinstance(read.op, Matrix)
    if not (isinstance(op, BorrowedLinear) and number == 1):
        if read is not None and matrix:
            place.fail(
                f"has `{read.name}`, a `Matrix`, which `matrix_product` alone takes, as its second input",
                "a tensor that is read in other ways is a `Parameter`",
            )
        return
    is_value = read is not None and isinstance(read.op, (Parameter, Matrix)) and read.home("") == layer.home("weight")
    if read is None or not is_value or matrix != isinstance(op, MatrixProduct):
        kind = "`Matrix`" if isinstance(op, MatrixProduct) else "value"
        place.fail(f"has a second entry that is not the {kind} which its `weight` is tied to")
    if isinstance(op, MatrixProduct) and getattr(read.op, "summed", None) != op.summed:
        place.fail(f"has `{read.name}`, over another axis of which its products sum")


def _check_owner(layer: Layer, owner: Layer | None, place: Place) -> None:
    if owner is None:
        place.fail(f"is `{layer.weights_of}`, which is no layer before it")
    if owner.weights_of is not None:
        place.fail(f"is `{owner.name}`, which has its tensors from `{owner.weights_of}`", "name the owner itself")
    if not owner.op.tensors():
        place.fail(f"is `{owner.name}`, which has no tensors")
    if owner.op != layer.op:
        place.fail(f"is `{owner.name}`, whose op or attributes differ", "layers that share tensors are the same module")
    if owner.tied != layer.tied:
        place.fail(f"is `{owner.name}`, which has other tied tensors", "layers that share tensors are the same module")


def _check_tie(layer: Layer, tie: Tie, owner: Layer | None, place: Place) -> None:
    slots = layer.op.tensors()
    if tie.slot not in slots:
        place.fail(f"is no tensor of `{layer.op.name}`", nearest(tie.slot, slots) or None)
    if owner is None:
        place.fail(f"is a tensor of `{tie.layer}`, which is no layer before it")
    if tie.of not in owner.own_tensors():
        place.fail(
            f"is {shown(tie.of)}, no tensor that `{owner.name}` owns", nearest(tie.of, owner.own_tensors()) or None
        )
    found, needed = owner.op.tensors()[tie.of], slots[tie.slot]
    if (found.shape, found.kind, found.integer) != (needed.shape, needed.kind, needed.integer):
        place.fail(f"is a {found.kind} of shape {show(found.shape)}; a {needed.kind} of {show(needed.shape)} is needed")


def _check_tensors(graph: Graph, place: Place) -> None:
    owners: dict[str, str] = {}
    for name, layer, _, slot in graph.tensors():
        if name in owners:
            raise SpecError(
                f"{place.where}: layers `{owners[name]}` and `{layer.name}` both own the tensor `{name}`",
                "rename one of them; a layer that shares another one's tensors says so with `weights_of` or `tied`",
            )
        owners[name] = layer.name
        elements = 1
        for size in slot.shape:
            elements *= size
        if elements > MAX_ELEMENTS:
            raise SpecError(
                f"{place.where}: tensor `{name}` would have the shape {show(slot.shape)}, which is too large",
                "correct the sizes of that layer",
            )


def _check_modes(graph: Graph, place: Place) -> None:
    """What evaluation runs and returns must not need what training alone makes."""
    made = {i.name for i in graph.inputs} | {layer.name for layer in layers_of(graph, "eval")}
    for i, layer in enumerate(graph.layers):
        late = [n for n in (*layer.inputs, *layer.op.references()) if n not in made]
        if layer.when == "always" and late:
            at = Place(place.where, f"layers[{i}]", layer.name).at("when")
            at.fail(f"is `always`, but it reads `{late[0]}`, which training alone makes")
    for name in output_names(structure_of(graph, "eval")):
        if graph.outputs[name] not in made:
            place.at("returns").at("eval").fail(f"returns `{name}`, which training alone makes")


def _check_shapes(graph: Graph, place: Place) -> None:
    try:
        shapes = graph.shapes
    except SpecError as wrong:
        raise SpecError(f"{place.where}: {wrong.message}", wrong.hint) from None
    for name, shape in shapes.items():
        if not _sound(shape):
            raise SpecError(
                f"{place.where}: `{name}` would have the shape {show(shape)}, which no tensor can have here",
                "correct the sizes of that layer, or of the inputs",
            )
    if (made := channels_made(graph)) > MAX_CHANNELS:
        raise SpecError(
            f"{place.where}: its layers make {made} channels in all; at most {MAX_CHANNELS} are read",
            "correct the sizes of its layers",
        )


def channels_made(graph: Graph) -> int:
    """Channels that all layers with tensors of their own make; each is taken to make those of its longest axis."""
    makers = (layer for layer in graph.layers if layer.weights_of is None and layer.op.tensors())
    return sum(max((n for n in graph.shapes[layer.name] if isinstance(n, int)), default=0) for layer in makers)


def _sound(shape: Shape) -> bool:
    return all(d.times >= 1 if isinstance(d, Batch) else 0 <= d <= MAX_AXIS for d in shape)
