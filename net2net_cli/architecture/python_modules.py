"""The modules of a network as nested Python expressions: what stands in `__init__`, and how `forward` reaches it."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.python_code import maker
from net2net_cli.architecture.python_layout import Expression, call, listing, literal, mapping, quoted
from net2net_cli.architecture.spec_values import WINDOWS
from net2net_cli.errors import SpecError

HOLDER = "Holder"
HOLDER_SOURCE = '''class Holder(nn.Module):
    """Submodules and tensors of any name; `holder["name"]` gives one of them."""

    def __init__(self, held: dict) -> None:
        super().__init__()
        for name, item in held.items():
            if isinstance(item, nn.Module):
                self.add_module(name, item)
            elif isinstance(item, nn.Parameter):
                self.register_parameter(name, item)
            else:
                self.register_buffer(name, item)

    def __getitem__(self, name: str):
        return getattr(self, name)
'''

_ATTRIBUTES = """
T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia
named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory
state_dict to to_empty train training type xpu zero_grad
_apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
_forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
_get_backward_hooks _get_backward_pre_hooks _get_name _is_full_backward_hook _load_from_state_dict
_load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules _named_members
_non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook _register_state_dict_hook
_replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version
_wrapped_call_impl
"""

MODULE_ATTRIBUTES = frozenset(re.findall(r"\w+", _ATTRIBUTES))
"""Names that no submodule of an `nn.Module` can have; a test holds them against PyTorch."""

_DICT_METHODS = frozenset(["clear", "items", "keys", "pop", "update", "values"])
"""Names that no key of an `nn.ModuleDict` can have besides."""

_LEADING = {
    *("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_parameters"),
    *("num_groups", "num_channels", "normalized_shape", "num_embeddings", "embedding_dim"),
}
"""Attributes that PyTorch's modules take first, in the order of our attributes; all others are written by name."""

_DEFAULTS: dict[str, Any] = {
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": True,
    "elementwise_affine": True,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
    "approximate": "none",
    "padding_idx": None,
    "scale_grad_by_freq": False,
    "sparse": False,
}
"""What PyTorch's modules assume, by attribute; a test holds it against them."""


def defaults(op: type[Op]) -> dict[str, Any]:
    """The attributes of an op that need not be written where they have these values."""
    if not (op.module or "").startswith("torch.nn.") or op.name.startswith("InstanceNorm"):
        return {}
    own: dict[str, Any] = {"stride": 1} if "Conv" in op.name else {"eps": None} if op.name == "RMSNorm" else {}
    return _DEFAULTS | own


def constructor(op: Op) -> Expression:
    """The call that makes an op's module: `nn.Conv2d(3, 64, kernel_size=7, stride=2)`."""
    if isinstance(op, Opaque):
        return maker(op)
    assert op.module is not None
    home, _, name = op.module.rpartition(".")
    leading: list[Expression] = []
    named: dict[str, Expression] = {}
    assumed = defaults(type(op))
    for key, value in op.module_arguments().items():
        short = _shortened(key, value)
        if key in _LEADING:
            leading.append(literal(short))
        elif key not in assumed or short != assumed[key] or isinstance(short, bool) != isinstance(assumed[key], bool):
            named[key] = literal(short)
    made = call(f"nn.{name}" if home == "torch.nn" else name, leading, named)
    if op.around is None:
        return made
    more = {key: literal(value) for key, value in op.around.kwargs.items()}
    return call(op.around.target.removeprefix("torch."), [made], more)


def _shortened(key: str, value: Any) -> Any:
    """`3` for the window `(3, 3)`."""
    windowed = key in WINDOWS or (key == "normalized_shape" and len(value) == 1)
    if windowed and isinstance(value, tuple) and len(set(value)) == 1 and value[0] is not None:
        return value[0]
    return value


@dataclass
class Node:
    """A place in the tree of modules: a layer's module, a tensor, or a container of further places.

    Attributes:
        children: by the last part of their names.
        layer: whose module or tensor stands here.
        sequence: the children in the order in which they run, where they run one after the other.

    """

    children: dict[str, Node] = field(default_factory=dict)
    layer: Layer | None = None
    sequence: list[str] | None = None

    @property
    def is_tensor(self) -> bool:
        """Whether a plain parameter or buffer stands here."""
        return self.layer is not None and not self.layer.op.is_module

    @property
    def is_list(self) -> bool:
        """Whether the children are modules numbered from 0."""
        numbered = {str(i) for i in range(len(self.children))}
        return set(self.children) == numbered and not any(c.is_tensor for c in self.children.values())

    @property
    def is_holder(self) -> bool:
        """Whether the children are of a kind that neither a list nor a dict of modules can hold."""
        return any(child.is_tensor or name in _DICT_METHODS for name, child in self.children.items())

    @property
    def can_be_sequence(self) -> bool:
        """Whether the children are modules whose names an `nn.Sequential` can be given."""
        return self.is_list or (not self.is_holder and all(_plain(name) for name in self.children))

    def expression(self) -> Expression:
        """What makes the place and all below it, but for what stands below a layer's own module."""
        if self.layer is not None:
            return _tensor(self.layer) if self.is_tensor else constructor(self.layer.op)
        if self.sequence is not None:
            inner = {name: self.children[name].expression() for name in self.sequence}
            return call("nn.Sequential", inner.values() if self.is_list else [call("OrderedDict", (), inner)])
        if self.is_list:
            return call(
                "nn.ModuleList", [listing(self.children[str(i)].expression() for i in range(len(self.children)))]
            )
        held = mapping({name: child.expression() for name, child in self.children.items()})
        return call(HOLDER if self.is_holder else "nn.ModuleDict", [held])

    def below(self) -> Iterator[Node]:
        """All places from here down."""
        yield self
        for child in self.children.values():
            yield from child.below()


def _tensor(layer: Layer) -> Expression:
    (slot,) = layer.op.tensors().values()
    dtype = getattr(layer.op, "dtype", None)
    kind: dict[str, Expression] = {"dtype": f"torch.{dtype}"} if dtype else {}
    value = call("torch.zeros", [literal(size) for size in slot.shape] or ["()"], kind)
    return call("nn.Parameter", [value]) if slot.kind == "parameter" else value


def module_tree(graph: Graph) -> tuple[Node, dict[str, tuple[str, ...]]]:
    """The tree of all modules and plain tensors, and where each layer's stands.

    A layer without tensors is moved to a free name where its own is taken.

    Raises:
        SpecError: a layer with tensors has a name that no submodule can have.

    """
    owners = {layer.name for layer in graph.layers if layer.own_tensors() or (_stands(layer) and layer.tied)}
    taken = {name[:i] for name in owners for i in (*(j for j, c in enumerate(name) if c == "."), len(name))}
    root, paths = Node(), {}
    for layer in graph.layers:
        if not _stands(layer):
            continue
        name = layer.name if layer.name in owners else _free(layer.name, taken)
        taken.add(name)
        paths[layer.name] = tuple(name.split("."))
        place = root
        for part in paths[layer.name]:
            if part in MODULE_ATTRIBUTES:
                raise SpecError(
                    f"layer `{layer.name}` cannot be written: `nn.Module` itself has a `{part}`",
                    "rename the layer, and its tensors in the checkpoint",
                )
            place = place.children.setdefault(part, Node())
        place.layer = layer
    shared = {layer.name: paths[layer.weights_of] for layer in graph.layers if layer.weights_of in paths}
    return root, paths | shared


def _stands(layer: Layer) -> bool:
    """Whether a layer has a module or a tensor of its own."""
    return layer.weights_of is None and (layer.op.is_module or bool(layer.own_tensors()))


def _free(name: str, taken: set[str]) -> str:
    """A name for a layer without tensors: its own, or that with underscores."""
    name = ".".join(f"{part}_" if part in MODULE_ATTRIBUTES else part for part in name.split("."))
    while name in taken:
        name += "_"
    return name


def access(root: Node, path: tuple[str, ...]) -> str:
    """How `forward` reaches a place: `self.layer1[0].conv1`."""
    text, place = "self", root
    for part in path:
        inner = place.children[part]
        of_a_module = place is root or place.layer is not None
        if place.is_list and not of_a_module:
            text += f"[{part}]"
        elif _plain(part):
            text += f".{part}"
        elif of_a_module:
            getter = "get_submodule" if not inner.is_tensor else "get_parameter" if _trained(inner) else "get_buffer"
            text += f".{getter}({quoted(part)})"
        else:
            text += f"[{quoted(part)}]"
        place = inner
    return text


def _plain(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _trained(place: Node) -> bool:
    assert place.layer is not None
    return next(iter(place.layer.op.tensors().values())).kind == "parameter"


def assignments(root: Node) -> Iterator[tuple[str, Expression]]:
    """The statements of `__init__`: each an expression, and the assignment before it or nothing."""
    for name, child in root.children.items():
        yield _assignment("self", name, child, plain=_plain(name))
    for place, path in _walk(root, ()):
        if place.layer is not None:
            for name, child in place.children.items():
                yield _assignment(access(root, path), name, child, plain=False)


def _assignment(owner: str, name: str, child: Node, *, plain: bool) -> tuple[str, Expression]:
    if child.is_tensor and not _trained(child):
        return "", call(f"{owner}.register_buffer", [quoted(name), child.expression()])
    if plain:
        return f"{owner}.{name} = ", child.expression()
    method = "register_parameter" if child.is_tensor else "add_module"
    return "", call(f"{owner}.{method}", [quoted(name), child.expression()])


def _walk(place: Node, path: tuple[str, ...]) -> Iterator[tuple[Node, tuple[str, ...]]]:
    yield place, path
    for name, child in place.children.items():
        yield from _walk(child, (*path, name))


def copied(target: str) -> list[str]:
    """The source of one of our own modules, `modules.StochasticDepth`, behind that of its bases in the same file."""
    home, _, name = target.partition(".")
    text = resources.files("net2net_cli").joinpath("runtime", f"{home}.py").read_text(encoding="utf-8")
    classes = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)}
    order = [name]
    for each in order:
        order += [base.id for base in classes[each].bases if isinstance(base, ast.Name) and base.id in classes]
    return [ast.get_source_segment(text, classes[each]) or "" for each in reversed(order)]
