"""What is run, as data: every checkpoint and every training with the commands that make it.

Make and the runner of `experiments.run` read the same nodes; the document quotes them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from experiments.models import widths
from experiments.profiles import NARROW, RATE, RATES, Profile
from net2net_cli.growth.plan import SPLITS

Command = tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A file, what it is made from, and the commands that make it."""

    target: Path
    needs: tuple[Path, ...]
    commands: tuple[Command, ...]


Step = tuple[str, tuple[str, ...]]
"""One growth: `widen`, `deepen` or `random-pad`, and its arguments."""


@dataclass(frozen=True)
class Growth:
    """A student's checkpoint.

    Attributes:
        teacher: the arm whose model grows.
        steps: one growth after the other; none: the teacher itself goes on.
        reset: whether all weights are then drawn anew, so that only the architecture is left.
    """

    teacher: str
    steps: tuple[Step, ...]
    reset: bool = False


@dataclass(frozen=True)
class Arm:
    """One training.

    Attributes:
        start: `build NETWORK WIDTH` as a tuple, or the growth that it starts from.
        steps: of the training.
        rate: learning rate in units of the profile's.
        state: `grown`, `fresh`, or `momenta`: grown without learning-rate factors.
        dropout: whether it is trained with it.
        warm: whether the learning rate is warmed up.
    """

    name: str
    start: Growth | tuple[str, float]
    steps: int
    rate: float = 1.0
    state: str = "fresh"
    dropout: bool = False
    warm: bool = False


def arms(profile: Profile, splits: Sequence[str] = SPLITS) -> list[Arm]:
    """All trainings that the profile has, each behind those that it needs."""
    p = profile
    wide = _named(p, p.inception, NARROW, 1.0)
    start = [
        Arm("teacher", (p.inception, NARROW), p.teacher, warm=True),
        Arm("scratch-wider", (p.inception, 1.0), p.scratch, warm=True),
    ]
    wider = [*_wider(p, wide), *_splits(p, wide, splits)]
    every = [*start, *wider, *_deeper(p), *_resnet(p), *_when(p, wide), *_explore(p)]
    return [arm for arm in every if any(fnmatch(arm.name, pattern) for pattern in p.arms)]


def _named(p: Profile, network: str, narrow: float, wide: float) -> tuple[str, ...]:
    return tuple(f"{name}={width}" for name, width in widths(network, narrow, wide, p.size).items())


def _wider(p: Profile, wide: tuple[str, ...]) -> Iterator[Arm]:
    """(a) of the paper, at several learning rates, with and without the teacher's optimizer state."""
    grown, padded = Growth("teacher", (("widen", wide),)), Growth("teacher", (("random-pad", wide),))
    for rate in RATES:
        yield Arm(f"wider-grown-{rate}", grown, p.student, rate, "grown")
        yield Arm(f"wider-fresh-{rate}", grown, p.student, rate)
        yield Arm(f"pad-{rate}", padded, p.student, rate)
    for rate in RATES:  # what of it is the learning rate's doing
        yield Arm(f"again-{rate}", Growth("teacher", ()), p.student, rate, "momenta")
    yield Arm(f"wider-momenta-{RATE}", grown, p.student, RATE, "momenta")


def _splits(p: Profile, wide: tuple[str, ...], splits: Sequence[str]) -> Iterator[Arm]:
    """How copies share, with fresh state, with and without dropout."""
    ways: list[tuple[str, tuple[str, ...]]] = [(split, ("--split", split)) for split in splits]
    ways.append(("noise", ("--split", "equal", "--noise", str(p.noise))))
    for name, arguments in ways:
        growth = Growth("teacher", (("widen", (*wide, *arguments)),))
        if name != "ownership":  # the first one is an arm already
            yield Arm(f"split-{name}", growth, p.student, RATE)
        yield Arm(f"dropout-{name}", growth, p.student, RATE, dropout=True)


def _deeper(p: Profile) -> Iterator[Arm]:
    """(b) of the paper: new layers inside the modules of the standard network; and how batch norms start."""
    estimate = Growth("scratch-wider", (("deepen", p.deepen),))
    for rate in RATES:
        yield Arm(f"deeper-grown-{rate}", estimate, p.student, rate, "grown")
    yield Arm(f"deeper-fresh-{RATE}", estimate, p.student, RATE)
    for name, arguments in (("data", ("--inputs", "{inputs}")), ("identity", ("--bn", "identity"))):
        growth = Growth("scratch-wider", (("deepen", (*p.deepen, *arguments)),))
        yield Arm(f"bn-{name}", growth, p.student, RATE)
    yield Arm("scratch-deeper", replace(estimate, reset=True), p.scratch, warm=True)


def _resnet(p: Profile) -> Iterator[Arm]:
    """The same with a residual network: every stage twice as wide, or a block repeated."""
    wide = _named(p, p.resnet, 0.5, 1.0)
    yield Arm("resnet-teacher", (p.resnet, 0.5), p.teacher, warm=True)
    yield Arm("resnet-scratch", (p.resnet, 1.0), p.scratch, warm=True)
    yield Arm("resnet-wider", Growth("resnet-teacher", (("widen", wide),)), p.student, RATE, "grown")
    deeper = Growth("resnet-teacher", (("deepen", (p.block,)),))
    yield Arm("resnet-deeper", deeper, p.student, RATE, "grown")
    yield Arm("resnet-pad", Growth("resnet-teacher", (("random-pad", wide),)), p.student, RATE)


def _when(p: Profile, wide: tuple[str, ...]) -> Iterator[Arm]:
    """Once by two or twice by √2, and early or late; students together take equally many steps."""
    layers = [name.split("=")[0] for name in wide]
    twice, root = ([f"{layer}={factor}x" for layer in layers] for factor in ("2", "1.41421356"))
    yield Arm("once", Growth("teacher", (("widen", tuple(twice)),)), p.student, RATE, "grown")
    yield Arm("twice-first", Growth("teacher", (("widen", tuple(root)),)), p.student // 2, RATE, "grown")
    yield Arm("twice", Growth("twice-first", (("widen", tuple(root)),)), p.student // 2, RATE, "grown")
    yield Arm("early-teacher", (p.inception, NARROW), p.early, warm=True)
    yield Arm("early", Growth("early-teacher", (("widen", wide),)), p.teacher - p.early + p.student, 1.0, "grown")


def _explore(p: Profile) -> Iterator[Arm]:
    """(c) of the paper: wider and deeper than the standard network."""
    wider = tuple(f"{name.split('=')[0]}=1.41421356x" for name in _named(p, p.inception, NARROW, 1.0))
    both = Growth("scratch-wider", (("widen", wider), ("deepen", p.deepen)))
    yield Arm("explore", both, p.student, RATE, "grown")
    yield Arm("scratch-explore", replace(both, reset=True), p.scratch, warm=True)


def nodes(profile: Profile, seed: int, folder: Path, splits: Sequence[str] = SPLITS) -> list[Node]:
    """Everything of one seed, each behind what it needs."""
    place = folder / f"seed{seed}"
    found: dict[Path, Node] = {}
    for arm in arms(profile, splits):
        if isinstance(arm.start, Growth):
            starts = _grown(profile, arm.start, seed, place)
        else:
            starts = [_built(profile, *arm.start, seed, place)]
        for start in starts:
            found.setdefault(start.target, start)
        trained = _trained(profile, arm, starts, seed, place)
        found[trained.target] = trained
    return list(found.values())


def result_of(folder: Path, seed: int, arm: str) -> Path:
    """Where an arm's result stands."""
    return folder / f"seed{seed}" / arm / "result.json"


def rules(found: Sequence[Node], root: Path) -> str:
    """The same as rules of a Makefile."""
    lines = [f".PHONY: {root}/all", f"{root}/all: {' '.join(str(node.target) for node in found)}", ""]
    for node in found:
        lines.append(f"{node.target}: {' '.join(map(str, node.needs))}".rstrip())
        lines.append("\t@mkdir -p $(@D)")
        lines += ["\t" + shlex.join(command).replace("$", "$$") for command in node.commands]
        lines.append("")
    return "\n".join(lines)


def _built(p: Profile, network: str, width: float, seed: int, place: Path) -> Node:
    target = place / "students" / f"{network}-{width:.2f}.safetensors"
    shape = ("--classes", str(p.classes), "--in-channels", str(p.in_channels), "--size", str(p.size))
    command = ("python", "-m", "experiments.models", "build", network, "--width", f"{width:.6f}", *shape)
    return Node(target, (), ((*command, "--seed", str(seed), "-o", str(target)),))


def _grown(p: Profile, growth: Growth, seed: int, place: Path) -> list[Node]:
    """One student, or a chain of two; a reset stands behind the growths that give it its shapes."""
    teacher, result = place / growth.teacher / "model.safetensors", place / growth.teacher / "result.json"
    found: list[Node] = []
    name = growth.teacher
    for number, (command, arguments) in enumerate(growth.steps):
        name = f"{name}-{_title(command, arguments)}"
        source = found[-1].target if found else teacher
        state = source.with_suffix(".optim.pt")
        target = place / "students" / f"{name}.safetensors"
        needs = (source,) if number else (result,)
        found.append(_growing(p, command, arguments, source, state, target, needs, seed))
    if growth.reset:
        source = found[-1].target
        target = place / "students" / f"{name}-reset.safetensors"
        again = ("python", "-m", "experiments.models", "reset", str(source), "--seed", str(seed), "-o", str(target))
        found.append(Node(target, (source,), (again,)))
    return found


def _growing(
    p: Profile,
    command: str,
    arguments: tuple[str, ...],
    source: Path,
    state: Path,
    target: Path,
    needs: tuple[Path, ...],
    seed: int,
) -> Node:
    inputs = target.parent / "inputs.npz"
    given = tuple(word.format(inputs=inputs) for word in arguments)
    before: tuple[Command, ...] = ()
    if str(inputs) in given:
        before = (("python", "-m", "experiments.inputs", *p.data.split(), "-o", str(inputs)),)
    kept = () if command == "random-pad" else ("--optimizer", str(state))
    options = ("--seed", str(seed), *kept, "--force", "--quiet", "-o", str(target))
    made = ("net2net", command, str(source), *given, *options)
    exact = command != "random-pad" and "--noise" not in arguments
    verify = (("net2net", "verify", str(source), str(target), "--quiet"),) if exact else ()
    return Node(target, needs, (*before, made, *verify))


def _title(command: str, arguments: Sequence[str]) -> str:
    """A short name of a growth."""
    if command == "deepen":
        return "-".join(["deepen", *(word.strip("-") for word in arguments if word[0] not in "*{")]).replace("--", "-")
    factor = arguments[0].split("=")[1]
    by = factor if factor.endswith("x") else ""
    options = [word for word in arguments if "=" not in word and not word.startswith("--")]
    return "-".join(word for word in (command, by[:4], *options) if word)


def _trained(p: Profile, arm: Arm, starts: Sequence[Node], seed: int, place: Path) -> Node:
    folder = place / arm.name
    if starts:
        start = need = starts[-1].target
    else:  # the teacher itself goes on
        teacher = place / (arm.start.teacher if isinstance(arm.start, Growth) else arm.name)
        start, need = teacher / "model.safetensors", teacher / "result.json"
    command = ["python", "-m", "experiments.train", "--checkpoint", str(start), "-o", str(folder), *p.data.split()]
    command += p.training.split()
    command += ["--steps", str(arm.steps), "--lr", f"{p.rate * arm.rate:.6g}", "--seed", str(seed)]
    if arm.warm:
        command += ["--warmup", str(min(p.warmup, arm.steps // 4))]
    if arm.dropout:
        command += ["--dropout", str(p.dropout)]
    if arm.state != "fresh":
        command += ["--optimizer", str(start.with_suffix(".optim.pt"))]
    if arm.state == "grown":
        command += ["--train-json", str(start.with_suffix(".train.json"))]
    return Node(folder / "result.json", (need,), (tuple(command),))
