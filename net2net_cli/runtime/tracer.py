"""`torch.fx` with values: a forward is recorded while every call is run on small batches beside it."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Node

from net2net_cli.errors import TraceError
from net2net_cli.runtime import adapters, cells, distributions, transformers
from net2net_cli.runtime.proxies import ValueProxy
from net2net_cli.runtime.readings import Readings, draws, spoken
from net2net_cli.runtime.seen import SEEN, MetaFailedError, Runs, Seen, seen_of, tensors_in
from net2net_cli.runtime.where import Where, here

WHERE, NAMED, TRAINING, FROZEN = "net2net.where", "net2net.named", "net2net.training", "net2net.frozen"
"""Keys of a node's `meta`: its place; the layer name it should bear; its module's training flag; whether training
computes it without gradients."""

SAID = transformers.FORWARDS | cells.FORWARDS
"""Classes of PyTorch's whose forward is traced in other words."""

_MEASURES = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "is_complex"),
    *("element_size", "storage_offset", "get_device", "type", "is_signed", "is_conj", "is_neg", "is_inference"),
    *("getattr", "len", "is_", "is_not", "is_tensor", "is_same_size", "isinstance", "typename"),
}
"""Functions of a tensor that return no tensor and read none of its values."""


class Tracer(fx.Tracer):
    """Records one mode of a module.

    Args:
        model: in the mode to be recorded.
        inputs: example inputs.
        meta: run calls on tensors without values.
        leaves: paths of modules that are recorded as one call, whatever they are.

    Attributes:
        returned: what `forward` returned, proxies in it.
        constants: tensors that take part and that the network does not hold.
        names: of the inputs.
        failed_in: path and class of the innermost module that raised an exception.

    """

    proxy_buffer_attributes = True

    def __init__(
        self, model: nn.Module, inputs: tuple[Tensor, ...], *, meta: bool, leaves: frozenset[str] = frozenset()
    ) -> None:
        self.leaves = leaves
        self._leaves = adapters.leaf_functions()
        super().__init__(autowrap_functions=tuple(self._leaves.values()))
        self.readings = Readings()
        self.runs = Runs(model, inputs, meta=meta)
        self.returned: Any = None
        self.names: list[str] = []
        self.trouble: TraceError | None = None
        self.failed_in: tuple[str, str] | None = None
        self._inside: list[tuple[str, str]] = [("", type(model).__name__)]
        self._named: str | None = None
        self._running = False
        self._meta_failed = False
        self._entry: FrameType | None = None
        tensors = [*model.named_parameters(), *model.named_buffers()]
        self._tensor_names = {id(tensor): name for name, tensor in reversed(tensors)}
        self._tensor_proxies: dict[str, Any] = {}
        self.constants: list[Tensor] = []

    def record(self) -> fx.Graph:
        """Trace the model."""
        self._entry = sys._getframe()
        with ExitStack() as stack:
            stack.enter_context(adapters.unwrapped(self._leaves.values()))
            stack.enter_context(adapters.lengths_by(self._length))
            stack.enter_context(adapters.scripts_inlined())
            stack.enter_context(distributions.recorded())
            for name, function in self._leaves.items():
                stack.enter_context(adapters.patched(name, self._leaf(function)))
            graph = self.trace(self.runs.model)
        if self.trouble is not None:  # the user's own `except` had caught it
            raise self.trouble
        if self._meta_failed:
            raise MetaFailedError
        return graph

    def _leaf(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._running or not adapters.proxies((args, tuple(kwargs.values()))):
                return function(*args, **kwargs)
            return self.create_proxy("call_function", function, args, kwargs)

        return call

    def here(self) -> Where:
        """The user's line that runs now."""
        return here(*self._inside[-1], self._entry)

    def fail(self, problem: str, hint: str | None = None) -> TraceError:
        """An error at the user's line that runs now."""
        error = self.here().error(problem, hint)
        self.trouble = self.trouble or error
        return error

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """One placeholder for each example input; further arguments keep their defaults."""
        names = _argument_names(root_fn, len(self.runs.inputs))
        self.names = names

        def forward(*args: Any) -> tuple[()]:
            self.returned = root_fn(*args)
            return ()

        return forward, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]

    def proxy(self, node: Node) -> ValueProxy:
        """Proxies know what their value was."""
        return ValueProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:
        """Record a call and run it."""
        if target is adapters.ASSERT:  # of sizes; it vanishes
            return target(bool(args[0]), *args[1:])
        where = self.here()
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        node = proxy.node
        node.meta[WHERE] = where
        if self._named is not None:
            node.meta[NAMED] = self._named
        node.meta[FROZEN] = self.runs.model.training and not torch.is_grad_enabled()
        node.meta[SEEN] = self._run(node)
        return proxy

    def _run(self, node: Node) -> Seen:
        if node.op == "placeholder":
            return self.runs.inputs[self.names.index(str(node.target))]
        if node.op == "get_attr":
            return self.runs.held(_at_path(self.root, str(node.target)))
        self._refuse_reading(node)
        self._refuse_seeds(node)
        before, self._running = self._running, True
        try:
            self._check_lookup(node)
            seen = self._call(node)
        except (TraceError, MetaFailedError):
            raise
        except Exception as wrong:  # the user's arguments may be wrong in any way
            if self.runs.meta:
                self._meta_failed = True
                raise MetaFailedError from wrong
            raise self.fail(f"`{spoken(node)}` fails: {_first_line(wrong)}", self._hint(node)) from wrong
        finally:
            self._running = before
        self._refuse_values(node, seen)
        return seen

    def _hint(self, node: Node) -> str:
        """What may have made a call fail."""
        if self._looks_up_numbers(node):
            return "an embedding looks up integers: give its input as `--input 16:int64`, or as a `LongTensor`"
        return f"tracing runs the network at batch sizes {self.runs.batches}: take sizes from tensors, as `x.shape[0]`"

    def _looks_up_numbers(self, node: Node) -> bool:
        """Whether it is a lookup that is given no integers."""
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        looks_up = isinstance(module, nn.Embedding) or node.target is torch.nn.functional.embedding
        given = tensors_in([seen_of(n).first for n in node.all_input_nodes]) if looks_up else []
        return bool(given) and given[0].is_floating_point()

    def _check_lookup(self, node: Node) -> None:
        """Some versions of torch look at the type of indices only where there are values."""
        if self._looks_up_numbers(node):
            raise TypeError("an embedding looks up integers")

    def _call(self, node: Node) -> Seen:
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            node.meta[TRAINING] = module.training
            return self.runs.module(module, node.args, node.kwargs)
        if node.op == "call_method":
            return self.runs.call(_method(str(node.target)), node.args, node.kwargs, draws=draws(node))
        assert callable(node.target)
        return self.runs.call(node.target, node.args, node.kwargs, draws=draws(node))

    def _refuse_reading(self, node: Node) -> None:
        if node.op == "call_method" and node.target in ("item", "tolist", "numpy"):
            raise self.data_dependent(f"`{node.target}()` reads the values of a tensor")

    def _refuse_seeds(self, node: Node) -> None:
        """Numbers drawn behind a seed that the forward sets are the same each time: that is no noise."""
        if torch.initial_seed() != adapters.SEED and node.op != "call_module" and draws(node):
            raise self.fail(
                f"`{spoken(node)}` draws behind a seed that `forward` sets, so that it always draws the same",
                'draw once, in `__init__`, and keep it: `self.register_buffer("name", tensor)`',
            )

    def _refuse_values(self, node: Node, seen: Seen) -> None:
        reads = any(tensors_in(seen_of(n).first) for n in node.all_input_nodes)
        if reads and isinstance(seen.first, (bool, int, float, complex)) and spoken(node, bare=True) not in _MEASURES:
            raise self.data_dependent(f"`{spoken(node)}` turns the values of a tensor into a number")

    def data_dependent(self, problem: str) -> TraceError:
        """An error: what the network computes would depend on the values in a tensor."""
        return self.fail(
            f"{problem}, so that what is computed would depend on the data",
            leaf_hint(self._inside[-1][0], "a spec is one fixed computation: take the branch that is meant"),
        )

    def to_bool(self, obj: Any) -> bool:
        """A proxy in a condition: sizes may decide, data and batch size may not."""
        seen = seen_of(obj.node)
        if tensors_in(seen.first):
            raise self.data_dependent("a tensor is used as a condition")
        if any(bool(v) is not bool(seen.first) for v in seen.values) or (
            seen.by_batch and not self.here().code.startswith("assert") and not _compares_equal(obj.node)
        ):
            raise self.fail(
                "a branch depends on the batch size",
                "what the network computes must not depend on how many samples it is given together",
            )
        return bool(seen.first)

    def iter(self, obj: Any) -> Iterator[Any]:
        """A proxy is unpacked or looped over."""
        return iter([obj[i] for i in range(self.length(obj))])

    def length(self, obj: Any) -> int:
        """How many items a proxy has."""
        lengths = {len(v) for v in seen_of(obj.node).values}
        if len(lengths) > 1:
            raise self._looped()
        return lengths.pop()

    def _looped(self) -> TraceError:
        return self.fail("the batch axis is looped over", "treat all samples in one tensor operation")

    def _length(self, value: Any) -> Any:
        """`len` as a forward calls it: of a batch it is a size like others."""
        if isinstance(value, fx.Proxy) and not self._running:
            lengths = [adapters.LEN(v) for v in seen_of(value.node).values]
            if min(lengths) != max(lengths):
                return self.create_proxy("call_function", adapters.LEN, (value,), {})
        return adapters.LEN(value)

    def number(self, obj: Any, kind: Callable[[Any], Any]) -> Any:
        """A proxy where Python needs a number of its own."""
        seen = seen_of(obj.node)
        if tensors_in(seen.first):
            raise self.data_dependent("a tensor is turned into a number")
        if not seen.constant:
            if obj.node.target is adapters.LEN:
                raise self._looped()
            raise self.fail(
                "the batch size is used as a number of its own",
                "take it from the tensor where it is needed, as in `x.view(x.shape[0], -1)`",
            )
        return kind(seen.first)

    def create_arg(self, a: Any) -> Any:
        """Tensors in arguments must be parameters or buffers."""
        if isinstance(a, Tensor):
            if id(a) in self._tensor_names:
                return self._tensor_proxy(a).node
            self.constants.append(a)
            return self.create_proxy("call_function", self.constant, (len(self.constants) - 1,), {}).node
        if isinstance(a, torch.Generator):
            raise self.fail("random numbers are drawn from another generator than PyTorch's own", "give no `generator`")
        if type(a).__module__ == "numpy" and hasattr(a, "item"):
            return a.item()
        return super().create_arg(a)

    def constant(self, index: int) -> Tensor:
        """A tensor that the network does not hold, as the runs take it."""
        found: Tensor = self.runs.held(self.constants[index]).first
        return found

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A module's tensor is read."""
        if not self._running and isinstance(attr_val, Tensor) and id(attr_val) in self._tensor_names:
            return self._tensor_proxy(attr_val)
        return attr_val

    def _tensor_proxy(self, tensor: Tensor) -> Any:
        name = self._tensor_names[id(tensor)]
        if name not in self._tensor_proxies:
            self._tensor_proxies[name] = self.create_proxy("get_attr", name, (), {})
        return self._tensor_proxies[name]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Known modules are recorded as they are, all others by what they call."""
        if self._running:
            return forward(*args, **kwargs)
        path = self._path(m)
        said = SAID.get(adapters.dotted(type(m)))
        if said is not None and path not in self.leaves:
            with self._within(path, m, named=None):
                return adapters.called_as(m, partial(said, m), forward, args, kwargs)
        if path in self.leaves or self._is_leaf(m):
            return self._call_leaf(path, m, forward, args, kwargs)
        cls = adapters.dotted(type(m))
        if cls in adapters.EINOPS_LAYERS:
            reduction = adapters.EINOPS_LAYERS[cls] or m.reduction
            reduce = adapters.loaded(adapters.EINOPS_REDUCE)
            with self._within(path, m, named=path):
                return reduce(*args, m.pattern, reduction, **m.axes_lengths)  # type: ignore[arg-type]
        named = path if self._named is None and type(m) in map(adapters.loaded, adapters.TRANSPARENT) else self._named
        with self._within(path, m, named=named):
            return forward(*args, **kwargs)

    def _call_leaf(self, path: str, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        def record(*args: Any, **kwargs: Any) -> Any:
            return self.create_proxy("call_module", path, args, kwargs)

        with self._within(path, m, named=None):
            return adapters.called_as(m, record, forward, args, kwargs)

    def _is_leaf(self, m: nn.Module) -> bool:
        cls = type(m)
        if cls in map(adapters.loaded, adapters.TRANSPARENT):
            return False
        foreign = cls.__module__.startswith("torch.nn.") and cls.__module__ not in adapters.CONTAINERS
        return foreign or self.readings.op_of(m) is not None

    @contextmanager
    def _within(self, path: str, m: nn.Module, *, named: str | None) -> Iterator[None]:
        before, self._named = self._named, named
        self._inside.append((path, type(m).__name__))
        try:
            yield
        except BaseException:
            self.failed_in = self.failed_in or self._inside[-1]
            raise
        finally:
            self._inside.pop()
            self._named = before

    def _path(self, m: nn.Module) -> str:
        try:
            return self.path_of_module(m)
        except NameError:
            raise self.fail(
                f"a module of class `{type(m).__name__}` is called that is no submodule of the network",
                "make it an attribute of a module, or put lists of modules into `nn.ModuleList`",
            ) from None


def leaf_hint(path: str, otherwise: str) -> str:
    """What can be done with a module that cannot be traced; `otherwise` is said of the network as a whole."""
    submodule = "import a submodule: a SOURCE may return any part of the network"
    if not path:
        return f"{otherwise}, or {submodule}"
    keep = f'`--leaf {path}` keeps this module as it is, without growing it (`leaves=["{path}"]` in Python)'
    return f"{keep}; or {submodule}"


def _method(name: str) -> Callable[..., Any]:
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(tensor, name)(*args, **kwargs)

    return call


def _compares_equal(node: Node) -> bool:
    """`a == b` of two sizes that both come from the batch, and are equal."""
    if node.target not in (operator.eq, operator.ne) or not all(isinstance(a, Node) for a in node.args):
        return False
    left, right = (seen_of(a).values for a in node.args if isinstance(a, Node))
    return bool(left == right)


def _argument_names(forward: Callable[..., Any], count: int) -> list[str]:
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "input")
    return names + [f"{rest}{i}" for i in range(len(names), count)]


def _at_path(root: nn.Module, path: str) -> Tensor:
    home, _, name = path.rpartition(".")
    found = root.get_submodule(home)
    value: Tensor = (found._parameters | found._buffers)[name]  # type: ignore[assignment]
    return value


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
