"""A network as one readable Python file: a plain `nn.Module` that needs torch and nothing of ours."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from net2net_cli.architecture.graph import Graph, Layer, Mode, Structure, When
from net2net_cli.architecture.ops import Call, Input, SizeOf
from net2net_cli.architecture.ops.arguments import Form
from net2net_cli.architecture.ops.opaque import THE_MODULE, Opaque
from net2net_cli.architecture.python_chains import find_chains
from net2net_cli.architecture.python_code import ATTRIBUTE, dtypes_in, imports_of, plain, written
from net2net_cli.architecture.python_layout import (
    INDENT,
    Expression,
    call,
    flat,
    grouping,
    listing,
    literal,
    mapping,
    quoted,
    statement,
)
from net2net_cli.architecture.python_modules import HOLDER, HOLDER_SOURCE, access, assignments, copied, module_tree
from net2net_cli.architecture.returns import output_names, parts_of, structure_of
from net2net_cli.architecture.shapes import dim_to_json
from net2net_cli.errors import UsageError

_OURS = "net2net_cli.runtime."
_RESERVED = {
    *("self", "torch", "nn", "F", "Tensor", "OrderedDict", "namedtuple", "base64", "zlib", HOLDER),
    *("float", "super", "getattr", "setattr", "isinstance", "dict", "str"),
}
"""Names that the file uses itself."""

_INFIX = {"operator.add": "+", "operator.sub": "-", "operator.mul": "*", "operator.truediv": "/"}


def python_source(graph: Graph, *, class_name: str, aliases: Mapping[str, str] | None = None) -> str:
    """The source of a module that computes what the graph says and loads its state dict strictly.

    Args:
        graph: the network.
        class_name: of the module.
        aliases: tied tensors; a name -> the name whose tensor it shares.

    Raises:
        UsageError: `class_name` is no name that a class can have here.

    """
    if not _is_name(class_name) or class_name in _RESERVED | _helper_names(graph):
        raise UsageError(f"`{class_name}` is no name for a class", "use letters, digits and underscores: `Student`")
    return _Writer(graph, class_name, aliases or {}).file()


def class_name_for(graph: Graph) -> str:
    """A class name made of the graph's name: `small_resnet` -> `SmallResnet`."""
    words = re.findall(r"[A-Za-z0-9]+", graph.name)
    name = "".join(word[0].upper() + word[1:] for word in words)
    return name if _is_name(name) and name not in _RESERVED | _helper_names(graph) else f"Network{name}"


def _helper_names(graph: Graph) -> set[str]:
    """Classes of our own that a network's file defines before its own class."""
    modules = (layer.op.module or "" for layer in graph.layers)
    return {module.rpartition(".")[2] for module in modules if module.startswith(_OURS)}


def _is_name(text: str) -> bool:
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


class _Writer:
    """Writes one file."""

    def __init__(self, graph: Graph, class_name: str, aliases: Mapping[str, str]) -> None:
        self.graph = graph
        self.class_name = class_name
        self.aliases = aliases
        self.tied = [layer for layer in graph.layers if layer.tied and layer.op.module and layer.weights_of is None]
        self.root, self.paths = module_tree(graph)
        chains = find_chains(graph, self.root)
        self.chains = {chain.layers[0].name: chain for chain in chains}
        self.inside = {layer.name for chain in chains for layer in chain.layers[1:]}
        self.returns: dict[Mode, Structure] = {mode: structure_of(graph, mode) for mode in ("eval", "train")}
        self.types: dict[tuple[str, tuple[str, ...]], str] = {}
        for structure in self.returns.values():
            self._name_types(structure)
        self.imported = imports_of(graph)
        roots = (name.partition(".")[0] for name, _ in self.imported)
        self.taken = {*_RESERVED, class_name, *self.types.values(), *roots}
        self.values: dict[str, str] = {}
        self.arguments = [self._argument(given.name) for given in graph.inputs]

    def _name_types(self, structure: Structure) -> None:
        """A name in the file for each named tuple type."""
        if structure is None or isinstance(structure, str):
            return
        if "namedtuple" in structure:
            key = (structure["namedtuple"], tuple(structure["fields"]))
            name = key[0]
            while name in {*_RESERVED, *_helper_names(self.graph), self.class_name} or name in self.types.values():
                if self.types.get(key) == name:
                    break
                name += "_"
            self.types[key] = name
        for part in parts_of(structure):
            self._name_types(part)

    def _argument(self, value: str) -> str:
        name = _variable(value) or "x"
        while name in self.taken or name in self.values.values():
            name += "_"
        self.values[value] = name
        return name

    def file(self) -> str:
        """All of the file."""
        parts = [self._docstring(), "\n".join(self._imports())]
        if self.types:
            made = (
                statement(f"{name} = ", call("namedtuple", [quoted(key[0]), listing(quoted(f) for f in key[1])]), 0)
                for key, name in self.types.items()
            )
            parts.append("\n".join(line for lines in made for line in lines))
        classes = [*self._helpers(), "\n".join(self._class())]
        return "\n\n".join(parts) + "\n\n\n" + "\n\n\n".join(part.strip("\n") for part in classes) + "\n"

    def _docstring(self) -> str:
        shapes = ", ".join(
            f"`{name}` ({', '.join(str(dim_to_json(d)) for d in given.shape)}), {given.dtype}"
            for name, given in zip(self.arguments, self.graph.inputs, strict=True)
        )
        load = f'model.load_state_dict(load_file("{_TENSORS}"), strict=True)'
        shares = bool(self.aliases or self.tied)
        if shares:
            load = f'load_model(model, "{_TENSORS}", strict=True)'
        return "\n".join(
            [
                f'"""{self.class_name}: generated by net2net from `{_plain_text(self.graph.source)}`.',
                "",
                f"    from safetensors.torch import {'load_model' if shares else 'load_file'}",
                "",
                f"    model = {self.class_name}()",
                f"    {load}",
                "",
                f"Input: {shapes}.",
                '"""',
            ]
        )

    def _imports(self) -> Iterator[str]:
        calls = {target for layer in self.graph.layers for target in self._targets(layer)}
        ordered = any(place.sequence is not None and not place.is_list for place in self.root.below())
        collections = ["OrderedDict"] * ordered + ["namedtuple"] * bool(self.types)
        if collections:
            yield f"from collections import {', '.join(collections)}"
            yield ""
        helpers = "".join(self._helpers())
        for name in ("base64", "zlib"):
            if f"{name}." in helpers:
                yield f"import {name}"
        for name, remark in self.imported:
            yield f"import {name}" + (f"  # {_plain_text(remark)}" if remark else "")
        tensors = any(place.is_tensor for place in self.root.below())
        tensors |= any(True for _ in dtypes_in(self.graph))
        if tensors or "torch." in helpers or any(_function(t).startswith("torch.") for t in calls if not _is_method(t)):
            yield "import torch"
        if any(t.startswith("torch.nn.functional.") for t in calls):
            yield "import torch.nn.functional as F"
        yield "from torch import Tensor, nn"

    def _targets(self, layer: Layer) -> Iterator[str]:
        """The functions of torch that a layer's call names, `F` apart."""
        calls = layer.name not in self.paths or isinstance(layer.op, Opaque)
        if calls and not _is_tied_value(layer):
            tree: list[Any] = [self._call(layer)]
            while tree:
                part = tree.pop()
                if isinstance(part, Call):
                    yield part.target
                    tree += [*part.args, *part.kwargs.values()]
                elif isinstance(part, (list, tuple)):
                    tree += part

    def _helpers(self) -> list[str]:
        """Classes that the file needs besides."""
        found = [HOLDER_SOURCE] if any(p.is_holder and p.layer is None for p in self._containers()) else []
        targets = {str(layer.op.module) for layer in self.graph.layers}
        ours = [target.removeprefix(_OURS) for target in sorted(targets) if target.startswith(_OURS)]
        return list(dict.fromkeys(found + [text for target in ours for text in copied(target)]))

    def _containers(self) -> Iterator[Any]:
        return (place for place in self.root.below() if place is not self.root)

    def _class(self) -> Iterator[str]:
        yield f"class {self.class_name}(nn.Module):"
        yield f'{INDENT}"""{_plain_text(self.graph.name) or self.class_name}."""'
        yield ""
        yield f"{INDENT}def __init__(self) -> None:"
        yield f"{INDENT * 2}super().__init__()"
        for before, expression in assignments(self.root):
            yield from statement(before, expression, 2)
        for name, kept in self.aliases.items():
            yield from self._tie(name, kept)
        for layer in self.tied:
            for tie in layer.tied:
                source = self._reach(self.graph.by_name[tie.layer], tie.of)
                yield from statement(f"{self._reach(layer, tie.slot)} = ", source, 2)
        yield ""
        arguments = "".join(f", {name}: Tensor" for name in self.arguments)
        tensor = all(isinstance(structure, str) for structure in self.returns.values())
        yield f"{INDENT}def forward(self{arguments}){' -> Tensor' if tensor else ''}:"
        yield from self._forward()

    def _tie(self, name: str, kept: str) -> Iterator[str]:
        """The statement that makes two layers share a parameter."""
        slots = {tensor: (layer, key) for tensor, layer, key, _ in self.graph.tensors()}
        if name in slots and kept in slots:
            source, target = (self._reach(*slots[each]) for each in (kept, name))
            layer, key = slots[name]
            if key:
                yield from statement(f"{target} = ", source, 2)
            else:
                *outer, last = self.paths[layer.name]
                yield from statement("", call("setattr", [access(self.root, tuple(outer)), quoted(last), source]), 2)

    def _reach(self, layer: Layer, key: str) -> str:
        place = access(self.root, self.paths[layer.name])
        return f"{place}.{key}" if key else place

    def _forward(self) -> Iterator[str]:
        last = self._last_readers()
        lines = [(layer.when, line) for layer in self.graph.layers for line in self._layer(layer, last)]
        for when, block in groupby([*lines, *self._return()], key=lambda line: line[0]):
            if when == "train":
                yield f"{INDENT * 2}if self.training:"
            yield from (text for _, text in block)

    def _last_readers(self) -> dict[str, str]:
        """The layer behind which nothing reads a value; none for what is returned."""
        layers = self.graph.layers
        found = {value: layer.name for layer in layers for value in (*layer.inputs, *layer.op.references())}
        for structure in self.returns.values():
            for name in output_names(structure):
                found.pop(self.graph.outputs[name], None)
        return found

    def _layer(self, layer: Layer, last: Mapping[str, str]) -> list[str]:
        """The statement that computes a layer; plain tensors, and what a chain has computed, need none."""
        chain = self.chains.get(layer.name)
        if layer.name in self.inside:
            return []
        if chain is not None:
            expression: Expression = call(access(self.root, chain.path), [self.values[layer.inputs[0]]])
        elif _is_tied_value(layer):
            owner, key = layer.home("")
            self.values[layer.name] = self._reach(self.graph.by_name[owner], key)
            return []
        elif layer.name in self.paths and not isinstance(layer.op, Opaque):
            place = access(self.root, self.paths[layer.name])
            if layer.op.module is None:
                self.values[layer.name] = place
                return []
            expression = call(place, [self.values[name] for name in layer.inputs])
        else:
            expression = self._render(self._call(layer), layer)
        name = self._name(layer, chain.path if chain else tuple(layer.name.split(".")), last)
        self.values[chain.layers[-1].name if chain else layer.name] = name
        return statement(f"{name} = ", expression, 3 if layer.when == "train" else 2)

    def _call(self, layer: Layer) -> Call:
        made = layer.op.call(tuple(self.graph.shapes[name] for name in layer.inputs))
        return written(made) if isinstance(layer.op, Opaque) else made

    def _name(self, layer: Layer, parts: tuple[str, ...], last: Mapping[str, str]) -> str:
        """The variable for a layer's value: that of an input which nobody reads any more, or a new one."""
        read = dict.fromkeys((*layer.inputs, *layer.op.references()))
        ending = [self.values[v] for v in read if last.get(v) == layer.name and self.values[v].isidentifier()]
        for value in read:
            if last.get(value) == layer.name:
                del self.values[value]
        if ending:
            return next((name for name in self.arguments if name in ending), ending[-1])
        live = {*self.taken, *self.values.values()}
        candidates = (_variable("_".join(parts[-i:])) for i in range(1, len(parts) + 1))
        name = next((c for c in candidates if c and c not in live), _variable("_".join(parts)) or "value")
        while name in live:
            name += "_"
        return name

    def _render(self, argument: Any, layer: Layer) -> Expression:
        """A call's argument as Python."""
        if isinstance(argument, Call):
            return self._render_call(argument, layer)
        if isinstance(argument, Input):
            return self.values[layer.inputs[argument.index]]
        if isinstance(argument, SizeOf):
            return f"{self.values[argument.value]}.shape[{argument.axis}]"
        if isinstance(argument, list):
            return listing(self._render(item, layer) for item in argument)
        if isinstance(argument, tuple):
            return grouping(self._render(item, layer) for item in argument)
        return plain(argument) if isinstance(argument, (Form, dict)) else literal(argument)

    def _render_call(self, made: Call, layer: Layer) -> Expression:
        if made.target == "operator.getitem":
            return f"{flat(self._render(made.args[0], layer))}[{self._index(made.args[1], layer)}]"
        args = [self._render(a, layer) for a in made.args]
        if made.target == ATTRIBUTE:
            return f"{flat(args[0])}.{made.args[1]}"
        if made.target in _INFIX:
            texts = [f"({flat(a)})" if _is_infix(raw) else flat(a) for a, raw in zip(args, made.args, strict=True)]
            return f" {_INFIX[made.target]} ".join(texts)
        kwargs = {key: self._render(value, layer) for key, value in made.kwargs.items()}
        if _is_method(made.target):
            return call(f"{flat(args[0])}.{made.target.rpartition('.')[2]}", args[1:], kwargs)
        if made.target == THE_MODULE:
            return call(access(self.root, self.paths[layer.name]), args, kwargs)
        return call(_function(made.target), args, kwargs)

    def _index(self, index: Any, layer: Layer) -> str:
        """What stands between the brackets: `:, 3:`."""
        parts = index if isinstance(index, tuple) else (index,)
        return ", ".join(_slice(p) if isinstance(p, slice) else flat(self._render(p, layer)) for p in parts)

    def _return(self) -> Iterator[tuple[When, str]]:
        train, evaluation = (self._returned(self.returns[mode]) for mode in ("train", "eval"))
        if train != evaluation:
            yield from (("train", line) for line in statement("return ", train, 3))
        yield from (("always", line) for line in statement("return ", evaluation, 2))

    def _returned(self, structure: Structure) -> Expression:
        if structure is None:
            return "None"
        if isinstance(structure, str):
            return self.values[self.graph.outputs[structure]]
        if "namedtuple" in structure:
            fields = structure["fields"]
            name = self.types[structure["namedtuple"], tuple(fields)]
            return call(name, (), {key: self._returned(part) for key, part in fields.items()})
        ((kind, held),) = structure.items()
        if kind == "dict":
            return mapping({key: self._returned(part) for key, part in held.items()})
        parts = [self._returned(part) for part in held]
        return listing(parts) if kind == "list" else grouping(parts)


def _is_tied_value(layer: Layer) -> bool:
    """Whether a layer is the value of a tensor that belongs to another layer's module."""
    return layer.op.borrows and layer.op.arity == 0


_TENSORS = "student.safetensors"


def _function(target: str) -> str:
    """A function as the file calls it; `torch.pow` stands for `**`, whose signs and spaces depend on its operands."""
    return "torch.pow" if target == "operator.pow" else target.replace("torch.nn.functional.", "F.")


def _is_method(target: str) -> bool:
    return target.startswith("torch.Tensor.")


def _is_infix(argument: Any) -> bool:
    return isinstance(argument, Call) and argument.target in _INFIX


def _slice(part: slice) -> str:
    start, stop = ("" if end is None else literal(end) for end in (part.start, part.stop))
    return f"{start}:{stop}" + ("" if part.step is None else f":{literal(part.step)}")


def _variable(name: str) -> str:
    """A variable's name, or nothing where the text gives none."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_")
    return text if _is_name(text) else ""


def _plain_text(text: str) -> str:
    """Text that a docstring can hold, whatever it is."""
    return "".join(c if c.isprintable() and c not in '\\"' else " " for c in text)
