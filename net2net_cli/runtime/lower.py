"""From a recorded forward to layers: each call read by an op or a handler, effects in place undone."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Node, map_aggregate

from net2net_cli.architecture.ops import Op, dropout, noise
from net2net_cli.architecture.ops.activation import Detach, RReLU
from net2net_cli.architecture.ops.arithmetic import Parameter
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.architecture.ops.norm import PerChannelNorm
from net2net_cli.architecture.ops.recurrent import Recurrent
from net2net_cli.errors import TraceError
from net2net_cli.runtime import adapters, recurrent
from net2net_cli.runtime.arrangement import reshaped
from net2net_cli.runtime.assigning import assign
from net2net_cli.runtime.constants import Constants, constant_of, triangle_of
from net2net_cli.runtime.drafts import Draft, Recorded
from net2net_cli.runtime.functional import COUNTER
from net2net_cli.runtime.hints import hint_of
from net2net_cli.runtime.keeping import keep_call, keep_module
from net2net_cli.runtime.made_again import NotMadeAgainError, Remaking
from net2net_cli.runtime.noise import FILLS
from net2net_cli.runtime.owning import ForeignTensorsError, NormedWeight
from net2net_cli.runtime.readings import spoken
from net2net_cli.runtime.returned import tree_of
from net2net_cli.runtime.seen import seen_of, tensors_in
from net2net_cli.runtime.site import Handler, Site, Value
from net2net_cli.runtime.table import Reader, Table
from net2net_cli.runtime.tracer import FROZEN, TRAINING, WHERE, Tracer, leaf_hint

MODAL = (
    *(cls for cls in vars(dropout).values() if isinstance(cls, type) and cls.__module__ == dropout.__name__),
    *(PerChannelNorm, RReLU, noise.InTraining),
)
"""Ops that act differently in training."""

_WHOLE = "write it out of place: `x = x + y` for `x += y`, `inplace=False`, or `clone()` the part first"
_PART = "a SOURCE may return any part of the network: import one without it"
_SUBCLASS = "call it as its class in `torch.nn` is called; a class of your own is kept as it is"
_MAKING = (
    "a class whose constructor keeps its arguments as attributes of their names can be made again; so can a network of "
    "a SOURCE that makes it as it is (`source=…` in Python)"
)


class _WrongModeError(TraceError):
    """A module does not follow its network's mode, in whatever way it is written."""

    @classmethod
    def of(cls, site: Site, problem: str, hint: str) -> _WrongModeError:
        """At the user's line."""
        return cls(site.error(problem).message, hint)


class Lowering:
    """Turns one recorded mode of a module into drafts."""

    def __init__(self, model: nn.Module, tracer: Tracer, mode: str, remaking: Remaking) -> None:
        self.model = model
        self.remaking = remaking
        self.tracer = tracer
        self.mode = mode
        self.batches: Sequence[int] = tracer.runs.batches
        self.inputs: list[Draft] = []
        self.drafts: list[Draft] = []
        self._table = Table()
        self._values: dict[Node, Any] = {}
        self._stale: dict[Node, Node] = {}
        self._by_storage: dict[int, list[Node]] = {}
        self._in_state = set(model.state_dict())
        buffers = model.named_buffers(remove_duplicate=False)
        self._constants = Constants(tracer, {name: b for name, b in buffers if name not in self._in_state})
        self._said: dict[tuple[str, Constant], Draft] = {}
        kept = (t for name, t in (*model.named_parameters(), *model.named_buffers()) if name in self._in_state)
        self._own = {t.dtype for t in kept if t.is_floating_point()}
        self._dtype = torch.float32
        self._returned: set[Node] = set()
        map_aggregate(
            tracer.returned, lambda value: self._returned.add(value.node) if isinstance(value, fx.Proxy) else None
        )

    def run(self, graph: fx.Graph) -> Recorded:
        """Lower every call, in order."""
        for node in graph.nodes:
            if node.op == "output":
                continue
            if tensors_in(seen_of(node).first):
                self._values[node] = self._lower(node)
                self._track(node)
            elif seen_of(node).wrote:
                raise _foreign(node)
        return Recorded(tuple(self.inputs), self.drafts, tree_of(self, self.tracer.returned))

    def add(self, draft: Draft) -> Draft:
        """Put a draft behind the others."""
        self.drafts.append(draft)
        return draft

    def value_of(self, node: Node) -> Any:
        """The drafts that a call made.

        Raises:
            TraceError: its memory was written to since, through another view.

        """
        if node in self._stale:
            writer = self._stale[node]
            place: Any = writer.meta[WHERE]
            raise place.error(
                f"`{spoken(writer)}` writes in place into memory that `{spoken(node)}` shares and that is read later",
                _WHOLE,
            )
        return self._values[node]

    def size_of(self, node: Node) -> Draft:
        """The draft of a tensor whose size alone is read."""
        found: Draft = self._values[node]
        return found

    def _lower(self, node: Node) -> Any:
        site = Site(self, node)
        value = self._constants.work_out(node)
        if value is not None and (said := self._mask(site, value) or self.constant(site, value)) is not None:
            return said
        for before in () if node.target in FILLS else map(self._values.get, recurrent.inputs_of(node)):
            if isinstance(before, Draft) and before.trouble is not None and not isinstance(before, NormedWeight):
                return self._trouble(site, before.trouble)  # the first of several is the cause
        try:
            if node.op == "placeholder":
                return self._input(site)
            if node.op == "get_attr":
                return self._parameter(site)
            made = self._module(site) if node.op == "call_module" else self._call(site)
            return self._stopped(site, made) if node.meta[FROZEN] else made
        except TraceError as wrong:
            return self._trouble(site, wrong)
        except ValueError as why:
            problem = f"`{spoken(node)}` cannot be said in a spec, because {why}"
            return self._trouble(site, site.error(problem, leaf_hint(site.path, hint_of(node))))

    def _stopped(self, site: Site, value: Any) -> Any:
        """What was computed under `torch.no_grad()` in training, as what needs gradients gets it."""
        if all(user.meta[FROZEN] for user in site.node.users) and site.node not in self._returned:
            return value
        if isinstance(value, tuple):
            return type(value)(self._stopped(site, part) for part in value)
        return site.emit(Detach(), (value,)) if isinstance(value, Draft) and value.trouble is None else value

    def _mask(self, site: Site, value: Tensor) -> Draft | None:
        """A constant that is a causal mask."""
        op = triangle_of(value, self._dtype)
        if op is None:
            return None
        made = site.emit(op, (self.inputs[0],))
        return site.emit(reshaped(made.shape, tuple(value.shape), flatten=False), (made,), function="unsqueeze")

    def constant(self, site: Site, value: Tensor) -> Draft | None:
        """The layer of a constant, one for all tables in a module that are alike; None where a spec cannot hold it."""
        op = constant_of(value, self._own)
        if op is None:
            return None
        known = self._said.get((site.path, op))
        if known is not None and not any(op.same_along):  # else all that meets either would be equally wide
            return known
        wish = str(site.node.target) if site.node.op == "get_attr" else site.name("constant")
        made = self._said[site.path, op] = self.add(Draft(op, (), op.size, wish, site.where))
        return made

    def _trouble(self, site: Site, error: TraceError) -> Any:
        """Errors wait: what nothing needs is let go."""
        draft = self.add(Draft(None, (), (), "trouble", site.where, trouble=error))
        first = site.seen.first
        return draft if isinstance(first, Tensor) else (draft,) * len(first)

    def _input(self, site: Site) -> Draft:
        draft = Draft(None, (), site.shape(), str(site.node.target))
        self.inputs.append(draft)
        self._dtype = self._dtype if len(self.inputs) > 1 else site.seen.first.dtype
        return draft

    def _parameter(self, site: Site) -> Draft:
        name = str(site.node.target)
        home, _, last = name.rpartition(".")
        module = self.model.get_submodule(home)
        trainable = last in module._parameters
        tensor = module._parameters[last] if trainable else module._buffers[last]
        if name not in self._in_state:
            raise site.error(
                f"the buffer `{name}` is not kept in the state dict",
                "give it the type of the network's own tensors; or register it with `persistent=True`, as "
                f'`self.register_buffer("{last}", tensor)` does',
            )
        assert tensor is not None
        real = tensor.is_floating_point() or tensor.is_complex()
        dtype: Any = None if real else str(tensor.dtype).removeprefix("torch.")
        op = Parameter(size=tuple(tensor.shape), trainable=trainable, dtype=dtype)
        return self.add(Draft(op, (), site.shape(), name, site.where, owner=name, tensors={"": id(tensor)}))

    def _module(self, site: Site) -> Value:
        path = str(site.node.target)
        module = self.model.get_submodule(path)
        cls = self.tracer.readings.op_of(module)
        if cls is None or path in self.tracer.leaves:
            return self._kept(site, module, path)
        try:
            return self._known(site, cls, module, path)
        except _WrongModeError:
            raise
        except TraceError as wrong:  # its op knows it, but not so
            return self._kept(site, module, path, wrong)

    def _kept(self, site: Site, module: nn.Module, path: str, instead: TraceError | None = None) -> Value:
        try:
            draft = keep_module(site, module, path, self.remaking)
            return draft if isinstance(site.seen.first, Tensor) else self._first_of_several(site, draft)
        except ValueError as why:
            if instead is not None:
                raise instead from None
            unknown = "" if path in self.tracer.leaves else "is not known, and "
            problem = (
                f"module `{path}` of class `{adapters.dotted(type(module))}` {unknown}cannot be kept as it is: {why}"
            )
            raise site.error(problem, _MAKING if isinstance(why, NotMadeAgainError) else _PART) from None

    def _known(self, site: Site, cls: type[Op], module: nn.Module, path: str) -> Value:
        name = adapters.dotted(type(module))
        inputs, arguments = self._arguments(site, cls, path)
        try:
            op = self.tracer.readings.read(module, cls).called_with(arguments)
        except (ValueError, TypeError, AttributeError) as why:
            problem = f"module `{path}` of class `{name}` cannot be said in a spec, because {why}"
            raise site.error(problem, _PART) from None
        self._check_mode(site, op, path)
        op = recurrent.with_states(op, site.node, self._returned)
        try:
            single = isinstance(site.seen.first, Tensor)
            shape = None if getattr(op, "states", False) else site.shape(None if single else 0)
            draft = site.emit(op, inputs, shape)
        except TypeError as why:
            problem = f"module `{path}` of class `{name}` cannot be said in a spec, because {why}"
            raise site.error(problem, _PART) from None
        draft.wish, draft.owner = path, path if op.tensors() else None
        draft.tensors = {slot: id(attrgetter(slot)(module)) for slot in op.tensors()}
        several = recurrent.results if isinstance(op, Recurrent) else self._first_of_several
        return draft if single else several(site, draft)

    @staticmethod
    def _arguments(site: Site, cls: type[Op], path: str) -> tuple[list[Any], dict[str, Any]]:
        """What a module is called with: its inputs, and what else there is, by name."""
        names = cls.signature.split() or ["input"]
        given = dict(zip(names, site.node.args, strict=False)) | dict(site.node.kwargs)
        if recurrent.starts_at_zero(given.get("hx")):
            del given["hx"]
        if len(site.node.args) > len(names):
            raise site.error(f"module `{path}` is called with more than {len(names)} arguments", _SUBCLASS)
        read = {name: site.read(value) for name, value in given.items() if value is not None}
        needed = cls.required if cls.arity is None else cls.arity
        first = list(read)[:needed] if cls.signature else list(read)
        inputs = [read.pop(name) for name in first]
        if len(inputs) != needed or not all(isinstance(x, Draft) for x in inputs):
            raise site.error(f"module `{path}` is called with other inputs than {needed} tensors", _SUBCLASS)
        return inputs + [x for name in cls.optional for x in recurrent.drafts_of(read.get(name))], read

    def _first_of_several(self, site: Site, draft: Draft) -> Any:
        """A module that returns more than its output: the rest must not be needed."""
        problem = f"module `{site.node.target}` returns more than its output, and the rest is read"
        rest = site.error(problem, "read the first of what it returns, and compute the rest in a module of its own")
        others = len(site.seen.first) - 1
        return (draft, *(self.add(Draft(None, (), (), "rest", site.where, trouble=rest)) for _ in range(others)))

    def _check_mode(self, site: Site, op: Op, path: str) -> None:
        follows = isinstance(op, MODAL) and getattr(op, "track_running_stats", True)
        follows |= any(getattr(op, name, 0.0) for name in ("dropout", "attention_dropout", "training_only"))
        if follows and site.node.meta[TRAINING] != (self.mode == "train"):
            call, other = ("train()", "evaluation") if self.mode == "train" else ("eval()", "training")
            raise _WrongModeError.of(
                site,
                f"module `{path}` stays in {other} mode when `{call}` is called on the network",
                "a rebuilt network follows `train()` and `eval()`; replace a frozen batch norm by "
                "`torchvision.ops.FrozenBatchNorm2d`",
            )

    def _call(self, site: Site) -> Any:
        node = site.node
        if node.target == self.tracer.constant:
            raise site.error(
                f"a tensor of shape {list(site.seen.first.shape)} that is neither parameter nor buffer takes part",
                "give it the type of the network's own tensors, and no gradient; or keep it in the state dict: "
                '`self.register_buffer("name", tensor)` in `__init__`',
            )
        if node.target is getattr and isinstance(held := site.read(node.args[0]), tuple):
            first = seen_of(_node(node.args[0])).first
            wanted = getattr(first, str(node.args[1]))
            return next(draft for draft, value in zip(held, first, strict=True) if value is wanted)
        handler = self._table.handler_of(node)
        if handler is not None and not isinstance(handler, Reader) and node.target is not operator.getitem:
            return self._read(site, handler)
        try:
            return handler(site) if handler is not None else keep_call(site)
        except ValueError as why:
            return self._kept_call(site, why, known=handler is not None)

    @staticmethod
    def _read(site: Site, handler: Handler) -> Value:
        """A call with a rule of its own, or kept as it is where what it multiplies by is no layer's."""
        try:
            return handler(site)
        except ForeignTensorsError as foreign:
            try:
                return keep_call(site)
            except ValueError:
                raise foreign.error from None

    @staticmethod
    def _kept_call(site: Site, why: ValueError, *, known: bool) -> Value:
        """A function whose op cannot say what this call means, kept as it is."""
        if known:
            try:
                return keep_call(site)
            except ValueError:
                raise why from None
        problem = f"`{spoken(site.node)}` is not known, and cannot be kept as it is: {why}"
        raise site.error(problem, hint_of(site.node)) from None

    def _track(self, node: Node) -> None:
        """Remember which values share memory, and what a write in place does to them."""
        tensors = tensors_in(seen_of(node).first)
        if seen_of(node).wrote:
            self._written(node, _node(node.args[0] if node.args else next(iter(node.kwargs.values()))))
        for storage in {adapters.storage_of(t) for t in tensors}:
            self._by_storage.setdefault(storage, []).append(node)

    def _written(self, writer: Node, target: Node) -> None:
        written = seen_of(target).first
        if not isinstance(written, Tensor) or seen_of(writer).wrote != {adapters.storage_of(written)}:
            raise writer.meta[WHERE].error(
                f"`{spoken(writer)}` writes into another tensor than its first argument", _WHOLE
            )
        operands = writer.args[::2] if writer.target is assign else writer.all_input_nodes
        given = (t.dtype for n in operands if isinstance(n, Node) for t in tensors_in(seen_of(n).first))
        if not {written.dtype, torch.bool}.issuperset(given):  # a condition gives way to every other type
            raise writer.meta[WHERE].error(
                f"`{spoken(writer)}` writes in place, and its operands differ in precision", _WHOLE
            )
        storage, geometry = adapters.storage_of(written), adapters.geometry_of(written)
        self._overwritten(writer, self._by_storage.get(storage, ()))
        same_result = adapters.storage_of(tensors_in(seen_of(writer).first)[0]) == storage
        for node in self._by_storage.get(storage, ()):
            first = seen_of(node).first
            if node.op == "get_attr" and not self._counts_batches(writer, node):
                problem = f"`{spoken(writer)}` writes in place into `{node.target}`, a tensor of the network's own"
                raise writer.meta[WHERE].error(
                    problem, "running statistics belong into a `torch.nn` module that keeps them, as batch norm does"
                )
            if same_result and isinstance(first, Tensor) and adapters.geometry_of(first) == geometry:
                self._values[node] = self._values[writer]
            else:
                self._stale[node] = writer

    def _overwritten(self, writer: Node, held: Sequence[Node]) -> None:
        """Constants into which something is written that is none are constants no more."""
        if writer in self._constants.values:
            return
        for node in held:
            self._constants.values.pop(node, None)
            if node.target == self.tracer.constant:
                raise _foreign(writer)

    def _counts_batches(self, writer: Node, buffer: Node) -> bool:
        """A batch norm whose forward is said anew counts its batches; the layer that it becomes does so by itself."""
        home, _, name = str(buffer.target).rpartition(".")
        norm = isinstance(self.model.get_submodule(home), adapters.BATCH_NORMS)
        return norm and name == COUNTER and writer.target in ("add_", operator.iadd) and writer.args[1:] == (1,)


def _foreign(writer: Node) -> TraceError:
    place: Any = writer.meta[WHERE]
    error: TraceError = place.error(
        f"`{spoken(writer)}` writes in place into a tensor that does not come from the input",
        "make it from the input, as `x.new_zeros(…)`, or write it out of place",
    )
    return error


def _node(argument: Any) -> Node:
    assert isinstance(argument, Node)
    return argument


def lower(model: nn.Module, tracer: Tracer, graph: fx.Graph, mode: str, remaking: Remaking) -> Recorded:
    """Turn one recorded mode of a module into drafts; `remaking` knows how modules that are kept are made again."""
    return Lowering(model, tracer, mode, remaking).run(graph)
