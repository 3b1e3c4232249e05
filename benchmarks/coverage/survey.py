"""What a network is asked for: which attempts there are, and which of them the same student answers."""

from __future__ import annotations

import hashlib
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.coverage.reasons import named
from benchmarks.coverage.teachers import WIDTHS, cause, new_layers, tensors_in
from benchmarks.coverage.together import Group, Member, Wish, copied, parameters
from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.activation import Elementwise
from net2net_cli.architecture.ops.conv import Weighted
from net2net_cli.architecture.ops.shape import Rearrange
from net2net_cli.architecture.spec_file import to_json_text
from net2net_cli.channels.groups import Groups
from net2net_cli.channels.labels import find_labels
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.blocks import layers_of
from net2net_cli.growth.insert import BATCH_NORMS, PASSED
from net2net_cli.growth.plan import COPYING, Split

DEEPEN, REPEAT = "deepen", "repeat"
GROWTHS = (*WIDTHS, DEEPEN, REPEAT)

NAMED = "="
"""Before a width, what stands for the growth to it: a refusal has named that width as one that fits."""

PATIENCE = 60.0
"""Seconds within which the tool must say whether it grants a wish."""

REARRANGED = "(rearrange) comes before any activation"
NARROW = "its channels only grow"
WHOLE = f"{NARROW} {{}} at a time"
NORM = "LayerNorm"
UNCHANGED = "its tensors keep their shapes"
INPUT = "its channels are those of the network's input"
NO_CHANNELS = "no axis of its tensors follows the channels of any layer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a wish is not granted; `crash` where the tool did not even refuse.

    Attributes:
        named: the growth to the width that the hint names for a layer with a width of its own.
    """

    cause: str
    hint: str | None = None
    named: str | None = None
    through: str | None = None
    crash: bool = False


@dataclass(frozen=True, slots=True)
class Wider:
    """A student that is wider.

    Attributes:
        group: the growth, answering nothing yet.
        changed: layers whose tensors have other shapes than the teacher's.
        key: equal for students that are made alike.
    """

    group: Group
    changed: frozenset[str]
    key: str


@contextmanager
def patience(seconds: float = PATIENCE) -> Iterator[None]:
    """At most so many seconds of this process's own time.

    Raises:
        TimeoutError: they are over.
    """

    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def weighted(graph: Graph) -> list[str]:
    """Layers that own parameters."""
    owners = (layer for layer in graph.layers if layer.weights_of is None)
    return [one.name for one in owners if any(slot.kind == "parameter" for slot in one.op.tensors().values())]


def wishes(graph: Graph, blocks: Sequence[str]) -> list[Wish]:
    """Every layer wider, new layers behind all convolutions and linear layers, every block twice."""
    layers = weighted(graph)
    deepened = [name for name in layers if isinstance(graph.by_name[name].op, Weighted)]
    wider = [(name, width) for name in layers for width in WIDTHS]
    return [*wider, *((name, DEEPEN) for name in deepened), *((name, REPEAT) for name in blocks)]


def blocks_of(model: nn.Module, inputs: Sequence[Tensor], graph: Graph) -> list[str]:
    """Modules that hold layers and return one tensor of the shape of the one that they take.

    It is found from the original by running it, and not from what the tool takes for a block. Plain chains are left
    out: there is no addition in them.
    """
    found: list[str] = []
    handles = []
    for name, module in model.named_modules():
        chain = type(module).forward in (nn.Sequential.forward, nn.ModuleList.forward)
        if name and not chain and name not in graph.by_name and layers_of(graph, name):
            handles.append(module.register_forward_hook(_noting(name, found)))
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))


def _noting(name: str, found: list[str]) -> Callable[[nn.Module, tuple[object, ...], object], None]:
    def note(_: nn.Module, taken: tuple[object, ...], returned: object) -> None:
        if [x.shape for x in tensors_in(taken)] == [x.shape for x in tensors_in(returned)]:
            found.append(name)

    return note


class Survey:
    """Wishes, as the tool answers them: refused, or granted by a student that may grant others as well.

    Attributes:
        groups: the students so far.
        parameters: the teacher's.
    """

    def __init__(self, net: Net2Net) -> None:
        self.net = net
        self.groups: list[Group] = []
        self.parameters = parameters(net)
        self._widths = Groups(find_labels(net.graph))
        self._by_plan: dict[str, Group] = {}
        self._answers: dict[Wish, Refusal | Wider] = {}
        self._makers: dict[str, list[str]] = {}
        for maker in self._widths.widths:
            for follower in self._widths.followers(maker):
                self._makers.setdefault(follower, []).append(maker)

    def ask(self, wish: Wish) -> Refusal | None:
        """Why a wish is refused; None where a student grants it."""
        layer, growth = wish
        return self._deeper(layer, growth) if growth in (DEEPEN, REPEAT) else self._wider(layer, growth)

    def _deeper(self, layer: str, growth: str) -> Refusal | None:
        student = self._asked(lambda: self.net.deepen([layer]))
        if isinstance(student, Refusal):
            if growth == DEEPEN and REARRANGED in student.cause and self._leads_to_activation(layer):
                return replace(student, cause=f"{student.cause} that follows alone")
            return student
        new = new_layers(self.net, student)
        if growth == DEEPEN:
            # The statistics of a new batch norm are an estimate: in training mode the student is as good as that.
            train = not any(name.endswith("_bn") for name in new)
        else:
            train, new = True, [name for name in new if self._silent(student, name)]
        member = Member((layer, growth), tuple(new))
        self.groups.append(Group(layer, None, None, self._added(student), train=train, members=[member]))
        return None

    def _leads_to_activation(self, layer: str) -> bool:
        """Whether an activation is what stands next behind a layer, when norms and rearrangements are passed over."""
        readers = self.net.graph.readers[layer]
        while len(readers) == 1 and isinstance(readers[0].op, (*BATCH_NORMS, *PASSED, Rearrange)):
            readers = self.net.graph.readers[readers[0].name]
        return len(readers) == 1 and isinstance(readers[0].op, Elementwise)

    @staticmethod
    def _silent(student: Net2Net, layer: str) -> bool:
        one = student.graph.by_name[layer]
        keys = [key for key in one.op.silent if key in one.op.tensors()]
        return bool(keys) and not any(student.tensor(one.tensor_name(key)).any() for key in keys)

    def _wider(self, layer: str, growth: str) -> Refusal | None:
        """A layer without a width of its own grows with the first one that it follows and that may grow."""
        if layer in self._widths.widths:
            refusal = self._ask_for(layer, layer, growth)
            return refusal and replace(refusal, named=self._named(layer, refusal.hint))
        refusal = None if layer in self._makers else Refusal(INPUT if self._reads_input(layer) else NO_CHANNELS)
        for maker in self._makers.get(layer, []):
            refused = self._ask_for(layer, maker, growth)
            if refused is None:
                return None
            refusal = refusal or refused
        return refusal

    def _named(self, layer: str, hint: str | None) -> str | None:
        width, before = named(hint), self._widths.widths[layer].size
        known = {2 * before: "2x", 1.5 * before: "1.5x"}
        return None if width is None else known.get(width, f"{NAMED}{width}")

    def _reads_input(self, layer: str) -> bool:
        """Whether no weights stand between the network's inputs and what the layer reads."""
        one = self.net.graph.by_name.get(layer)
        return one is None or any(
            value not in self.net.graph.by_name
            or (not self.net.graph.by_name[value].op.tensors() and self._reads_input(value))
            for value in one.inputs
        )

    def _ask_for(self, layer: str, maker: str, growth: str) -> Refusal | None:
        """Let the layer be widened by asking for `maker`."""
        through = None if layer == maker else maker
        answer = self._answers.get((maker, growth)) or self._known_refusal(maker, growth)
        if answer is None:
            answer = self._answers[maker, growth] = self._asked_for(maker, growth)
        if isinstance(answer, Refusal):
            return replace(answer, through=through)
        if layer not in answer.changed:
            return Refusal(UNCHANGED, through=through, crash=through is None)
        if answer.key not in self._by_plan:
            self._by_plan[answer.key] = answer.group
            self.groups.append(answer.group)
        self._by_plan[answer.key].members.append(Member((layer, growth), (layer,), through))
        return None

    def _known_refusal(self, maker: str, growth: str) -> Refusal | None:
        """What a layer with the very same channels was told of a width that fits none of them.

        The tool searches for the next width that fits, which takes seconds where it is far; once is enough.
        """
        mine = self._channels(maker)
        for (other, asked), answer in self._answers.items():
            narrow = isinstance(answer, Refusal) and answer.cause.startswith(NARROW)
            if narrow and asked == growth and self._channels(other) == mine:
                assert isinstance(answer, Refusal)
                return replace(answer, hint=(answer.hint or "").replace(f"`{other}=", f"`{maker}="))
        return None

    def _channels(self, maker: str) -> bytes:
        group: bytes = np.sort(self._widths.labels.group[self._widths.widths[maker]]).tobytes()
        return group

    def _asked_for(self, maker: str, growth: str) -> Refusal | Wider:
        split, width = self._split(maker, growth), growth.removeprefix(NAMED)
        student = self._asked(lambda: self.net.widen({maker: width}, split=split))
        if isinstance(student, Refusal):
            return self.explained(student, maker)
        before = self.net.graph.by_name
        changed = {one.name for one in student.graph.layers if one.op.tensors() != before[one.name].op.tensors()}
        group = Group(maker, width, split, self._added(student), copied(student.plans[-1]))
        return Wider(group, frozenset(changed), _plan_key(student))

    def _added(self, student: Net2Net) -> int:
        return parameters(student) - self.parameters

    def explained(self, refusal: Refusal, maker: str) -> Refusal:
        """A refusal of all but whole multiples, where a layer norm is what asks for them: that is not necessary.

        Other widths have an exact student, in which the new channels are the mean of the others.
        """
        followers = (self.net.graph.by_name[name].op.name for name in self._widths.followers(maker))
        if refusal.cause == WHOLE.format(self._widths.widths[maker].size) and NORM in followers:
            return replace(refusal, cause=f"{refusal.cause}, behind a layer norm")
        return refusal

    def _asked(self, grow: Callable[[], Net2Net]) -> Net2Net | Refusal:
        try:
            with patience():
                return grow()
        except GrowthRefusedError as refused:
            return Refusal(cause(self.net, refused), refused.hint)
        except Exception as crash:  # noqa: BLE001 - whatever it is, the sweep counts it and goes on
            return Refusal(said_of(crash), getattr(crash, "hint", None), crash=True)

    def _split(self, maker: str, growth: str) -> Split:
        """All three in turn, the same for all layers of a coupled group."""
        width = self._widths.widths[maker].size if maker in self._widths.widths else 0
        turn = WIDTHS.index(growth) if growth in WIDTHS else len(WIDTHS)
        return COPYING[(width + turn) % len(COPYING)]


def said_of(crash: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(crash).__name__}: {crash}".split())


def _plan_key(student: Net2Net) -> str:
    """Equal for students that are made alike."""
    plan = student.plans[-1]
    tensors = [pickle.dumps(plan.tensors[name]) for name in sorted(plan.tensors)]
    return hashlib.sha256(b"\0".join([to_json_text(plan.student).encode(), *tensors])).hexdigest()
