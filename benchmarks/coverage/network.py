"""One network: made, imported, timed, and grown in every way that is asked for."""

from __future__ import annotations

import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.coverage.checks import Seen, check, rebuilt
from benchmarks.coverage.networks import make, setting
from benchmarks.coverage.reasons import named
from benchmarks.coverage.records import CRASHED, EXACT, REFUSED, WRONG, Attempt, Network, Record, Results, code_state
from benchmarks.coverage.survey import (
    DEEPEN,
    GROWTHS,
    REPEAT,
    Refusal,
    Survey,
    blocks_of,
    said_of,
    weighted,
    wishes,
)
from benchmarks.coverage.teachers import TOLERANCE, WIDTHS, Teacher, random_inputs
from benchmarks.coverage.together import ROOM, Group, Wish, halves, packed, possible
from benchmarks.timing import medians, timed
from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.channels.labels import find_labels

BATCH = 2
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What of a network is grown.

    Attributes:
        layers: globs of layers and blocks.
        growths: which of `GROWTHS`.
        sample: at most so many attempts, drawn with the seed; all where it is None.
        deadline: `time.time()` after which no student is begun.
        reuse: whether attempts count as made that were made with other code.
        again: whether attempts are made that were made before.
        only_refusals: whether the tool is only asked, and no student is made.
        alone: whether each growth gets a student of its own.
    """

    layers: tuple[str, ...] = ("*",)
    growths: tuple[str, ...] = ("2x", "1.5x", "+1", DEEPEN, REPEAT)
    sample: int | None = None
    seed: int = 0
    deadline: float = float("inf")
    reuse: bool = False
    again: bool = False
    only_refusals: bool = False
    alone: bool = False


Told = Callable[[int], None]
"""Told how many students are left."""


def sweep_network(
    name: str, folder: Path, options: Options, before: Results | None = None, told: Told | None = None
) -> Iterator[Record]:
    """Records of a network and of all attempts at it that are wanted and were not made before.

    Args:
        name: of torchvision's.
        folder: for the files of teacher and students.
        options: what is wanted.
        before: what is known.
        told: told the progress.
    """
    before = before or Results()
    facts = replace(Network(name, setting(name).shape), code=code_state())
    if _is_known(name, options, before):
        return
    try:
        teacher, graph, blocks, facts = _prepared(name, folder, facts)
    except Exception as failed:  # noqa: BLE001 - a network that cannot be imported is a line of the document
        yield replace(facts, failed=said_of(failed))
        return
    every = wishes(graph, blocks)
    facts = replace(facts, layers=len(weighted(graph)), attempts=len(every))
    yield facts
    done = set() if options.again else _done(name, options, before, facts.code)
    wanted = [wish for wish in chosen(name, every, options) if wish not in done]
    bench = Bench(teacher, folder, {} if options.again else _moved(name, before))
    for made in _grown(bench, wanted, done, options, told or (lambda _: None)):
        op = graph.by_name[made.layer].op.name if made.layer in graph.by_name else "block"
        yield replace(made, network=name, op=op, code=facts.code)


def _is_known(name: str, options: Options, before: Results) -> bool:
    """Whether all that could be asked for was made before, or nothing can be, so that it need not even be built."""
    known = before.networks.get(name)
    if known is None or options.again or not (options.reuse or known.code == code_state()):
        return False
    done = sum(growth in GROWTHS for _, growth in _done(name, options, before, known.code))
    return not known.layers or done >= known.attempts


def _done(name: str, options: Options, before: Results, code: str) -> set[Wish]:
    """What need not be asked again: of a refusal that names a width, the attempt at that width was made as well."""
    keys = before.done(None if options.reuse else code)
    made = {(layer, growth): before.attempts[network, layer, growth] for network, layer, growth in keys}
    return {wish for wish, one in made.items() if not _names(one) or (wish[0], one.named) in made}


def _names(one: Attempt) -> bool:
    """Whether it is a refusal that says which width of the layer's own fits."""
    return one.outcome == REFUSED and one.through is None and one.growth in WIDTHS and named(one.hint) is not None


def chosen(name: str, every: Sequence[Wish], options: Options) -> list[Wish]:
    """The wishes that the options name; of these a sample, where one is asked for."""
    able = [w for w in every if w[1] in options.growths and any(fnmatchcase(w[0], glob) for glob in options.layers)]
    if options.sample is None:
        return able
    order = np.random.default_rng([options.seed, zlib.crc32(name.encode())]).permutation(len(able))
    return [able[int(number)] for number in sorted(order[: options.sample])]


def _prepared(name: str, folder: Path, facts: Network) -> tuple[Teacher, Graph, list[str], Network]:
    """The teacher, read from its file; its blocks; and what is known of it."""
    model = make(name)
    facts = replace(facts, parameters=sum(p.numel() for p in model.parameters()))
    depgraph = _depgraph(model.eval(), torch.zeros(1, *facts.input))
    teacher = Teacher.of(model, [facts.input], batch=BATCH)
    graph = teacher.net.graph
    text = to_json_text(graph)
    labels = medians({"ours": partial(timed, lambda: find_labels(from_json_text(text, where=name)))}, ROUNDS)["ours"]
    blocks = blocks_of(model, random_inputs([facts.input], 1), graph)
    path = folder / "teacher.safetensors"
    teacher.net.save(path, force=True)
    facts = replace(facts, unread=_unread(model, graph), labels=round(labels, 4), depgraph=depgraph)
    return replace(teacher, net=Net2Net.load(path)), graph, blocks, facts


def _unread(model: nn.Module, graph: Graph) -> tuple[str, ...]:
    known = {name for name, *_ in graph.tensors()}
    return tuple(name for name, _ in model.named_parameters() if name not in known)


def _depgraph(model: nn.Module, image: torch.Tensor) -> float | str:
    """Median seconds of Torch-Pruning's dependency graph, or why there is none."""
    try:
        import torch_pruning
    except ImportError:
        return "not installed"

    def build() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return timed(lambda: torch_pruning.DependencyGraph().build_dependency(model, example_inputs=image))

    try:
        return round(medians({"theirs": build}, ROUNDS)["theirs"], 4)
    except Exception as failed:  # noqa: BLE001 - that it fails is what there is to tell
        return said_of(failed)


def _moved(name: str, before: Results) -> dict[str, float]:
    """How far scrambling each layer moved students that were exact; the teacher, made from a seed, is the same."""
    exact = (one for one in before.attempts.values() if one.network == name and one.outcome == EXACT)
    return {one.layer: one.moved for one in exact if one.growth not in (DEEPEN, REPEAT) and one.moved is not None}


def _grown(bench: Bench, wanted: Sequence[Wish], done: Set[Wish], options: Options, told: Told) -> Iterator[Attempt]:
    """All answers that need no student first, then one student after the other.

    A width that a refusal names is wanted as well, unless that was `done` before.
    """
    survey, waiting, known = Survey(bench.teacher.net), deque(wanted), {*wanted, *done}
    while waiting:
        if time.time() > options.deadline:
            return
        wish = waiting.popleft()
        refusal = survey.ask(wish)
        if refusal is None:
            continue
        yield _refused(*wish, refusal)
        follows = None if refusal.named is None else (wish[0], refusal.named)
        if follows is not None and wish[1] in WIDTHS and follows not in known:
            known.add(follows)
            waiting.append(follows)
    room = -1 if options.alone else ROOM * survey.parameters
    packs = [] if options.only_refusals else list(packed(survey.groups, room))
    for number, pack in enumerate(packs):
        told(len(packs) - number)
        if time.time() > options.deadline:
            return
        yield from bench.answers(pack)


def _refused(layer: str, growth: str, refusal: Refusal) -> Attempt:
    outcome = CRASHED if refusal.crash else REFUSED
    one = Attempt("", layer, growth, outcome, through=refusal.through, cause=refusal.cause, hint=refusal.hint)
    return replace(one, named=refusal.named)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where students are made and judged.

    Attributes:
        teacher: what they are compared with.
        folder: for their files.
        known: how far scrambling each layer moved a student.
    """

    teacher: Teacher
    folder: Path
    known: dict[str, float]

    def answers(self, pack: list[Group]) -> Iterator[Attempt]:
        """What the student of a pack says about each wish that it answers; where it is wrong, those of its halves."""
        seen: list[tuple[list[Group], list[Seen] | str]]
        try:
            seen = list(self._seen(pack))
        except Exception as crash:  # noqa: BLE001 - whatever it is, the sweep counts it and goes on
            seen = [(pack, said_of(crash))]
        for part, found in seen:
            if len(part) > 1 and (isinstance(found, str) or any(one.outcome == WRONG for one in found)):
                for half in halves(part):
                    yield from self.answers(half)
            else:
                yield from _told(part, found)

    def _seen(self, pack: list[Group]) -> Iterator[tuple[list[Group], list[Seen]]]:
        for part, student in possible(self.teacher.net, pack):
            scrambled = [member.scrambled for group in part for member in group.members]
            module = rebuilt(student, self.folder)
            yield part, check(self.teacher, module, scrambled, train=part[0].train, known=self.known)


def _told(groups: Sequence[Group], seen: Sequence[Seen] | str) -> Iterator[Attempt]:
    """The attempts that groups answer; `seen` says why there is nothing to see where it is a text."""
    members = [(group, member) for group in groups for member in group.members]
    for number, (group, member) in enumerate(members):
        one = Attempt("", *member.wish, CRASHED, split=group.split, through=member.through, together=len(groups))
        if isinstance(seen, str):
            yield replace(one, cause=seen)
        else:
            found = seen[number]
            allowed = None if found.allowed == TOLERANCE else _brief(found.allowed)
            one = replace(one, error=_brief(found.error), moved=_brief(found.moved))
            yield replace(one, outcome=found.outcome, allowed=allowed)


def _brief(value: float) -> float:
    """Two digits are enough to tell logic from rounding."""
    return float(f"{value:.2g}")
