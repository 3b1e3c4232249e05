"""A model on disk: `NAME.safetensors` with its spec inside, and the same spec beside it for people. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.architecture.spec_tensors import check_tensors
from net2net_cli.checkpoint.background import Background
from net2net_cli.checkpoint.lineage import (
    SPEC_KEY,
    UNKNOWN_SHA256,
    Step,
    late_lineage,
    read_lineage,
    student_metadata,
)
from net2net_cli.checkpoint.safetensors_file import OpenCheckpoint, OutgoingTensor, open_checkpoint, write_checkpoint
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.checkpoint.text_file import MOST_SPEC_BYTES, read_text
from net2net_cli.errors import CheckpointError, InputError, Net2NetError, SpecError, UsageError
from net2net_cli.growth.apply import Grown, Memory, ReusedMemory
from net2net_cli.growth.plan import Operation
from net2net_cli.growth.source import Tensors, TensorsInParts
from net2net_cli.version import __version__

CHUNK = 1 << 21
"""Elements that are looked at together in the search for NaN."""


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint that is open, with the spec that belongs to it.

    Attributes:
        spec_path: the file the spec was read from, where it was not embedded.
        warnings: what the user should know, such as a sidecar that says something else.
    """

    path: Path
    checkpoint: OpenCheckpoint
    graph: Graph
    spec_path: Path | None
    warnings: tuple[str, ...]

    @property
    def aliases(self) -> dict[str, str]:
        """Names under which others know tensors of the spec -> the spec's own names for them."""
        return _names_beside(self.graph, self.checkpoint.aliases)[0]

    def steps(self) -> list[Step]:
        """How the checkpoint was grown so far."""
        return read_lineage(self.checkpoint.metadata)

    def sidecar_warnings(self) -> list[str]:
        """Whether the file beside it says something else than the spec that it holds."""
        embedded = self.checkpoint.metadata.get(SPEC_KEY)
        if self.spec_path is not None or embedded is None:
            return []
        return _sidecar_warning(self.path, self.path.with_suffix(".json"), embedded, self.graph)


class FiniteTensors:
    """A source of tensors that refuses what is not a number."""

    def __init__(self, tensors: TensorsInParts, where: str) -> None:
        self._tensors = tensors
        self._where = where

    def info(self, name: str) -> TensorInfo:
        """Stored type and shape."""
        return self._tensors.info(name)

    def read(self, name: str) -> np.ndarray:
        """The tensor.

        Raises:
            CheckpointError: it holds NaN or an infinity.
        """
        array = self._tensors.read(name)
        self._check(name, array)
        return array

    def read_part(self, name: str, start: int, *outs: np.ndarray) -> None:
        """Fill `outs` with elements from `start` on; errors as `read`, for these elements."""
        self._tensors.read_part(name, start, *outs)
        for out in outs:
            self._check(name, out)

    def _check(self, name: str, array: np.ndarray) -> None:
        if not all_finite(array):
            raise CheckpointError(
                f"tensor `{name}` of {self._where} holds NaN or infinite values",
                "a growth cannot be checked on it; `--allow-nan` grows it all the same",
            )


def all_finite(array: np.ndarray) -> bool:
    """Whether every element is a finite number; integers are."""
    if array.dtype.kind in "iub":
        return True
    flat = array.reshape(-1)
    return all(_finite(flat[start : start + CHUNK]) for start in range(0, flat.size, CHUNK))


def _finite(chunk: np.ndarray) -> bool:
    if chunk.dtype in (np.float32, np.float64):
        # A sum is finite only if all terms are, and costs one pass; a finite sum that overflowed is looked at again.
        with np.errstate(all="ignore"):
            if np.isfinite(np.add.reduce(chunk)):
                return True
    return bool(np.isfinite(chunk).all())


def open_model(path: Path, spec: Path | None = None) -> ModelFile:
    """Open a checkpoint and find its spec: `spec` if given, else the embedded one, else the file beside it.

    Raises:
        UsageError: a file does not exist, or no spec was found.
        SpecError: the spec is unreadable.
        CheckpointError: the checkpoint is unreadable, or does not fit its spec.
    """
    checkpoint = open_checkpoint(path)
    sidecar = path.with_suffix(".json")
    warnings: list[str] = []
    embedded = checkpoint.metadata.get(SPEC_KEY)
    if spec is not None:
        graph, used = read_spec(spec), spec
    elif embedded is not None:
        graph, used = from_json_text(embedded, where=f"the spec in `{path}`"), None
        warnings += _sidecar_warning(path, sidecar, embedded, graph)
    elif sidecar.is_file():
        graph, used = read_spec(sidecar), sidecar
    else:
        raise UsageError(
            f"`{path}` has no spec: it holds none, and there is no `{sidecar.name}` beside it",
            f"make one with `net2net import SOURCE --weights {path} -o TEACHER.safetensors`, or give `--spec FILE`",
        )
    check_tensors(graph, checkpoint.tensors, checkpoint.aliases, where=f"`{path}`")
    warnings += _names_beside(graph, checkpoint.aliases)[1]
    return ModelFile(path, checkpoint, graph, used, tuple(warnings))


def _names_beside(graph: Graph, aliases: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Whichever of a tied tensor's names the file stores it under, the spec's own is the one that counts.

    Returns:
        other names -> the spec's, and a warning for each tensor that the spec has several of.
    """
    own = {name for name, *_ in graph.tensors()}
    groups: dict[str, list[str]] = {}
    for gone, kept in aliases.items():
        groups.setdefault(kept, [kept]).append(gone)
    beside: dict[str, str] = {}
    warnings = []
    for names in groups.values():
        known = [name for name in names if name in own]
        beside |= {name: known[0] for name in names if name not in own and known}
        if len(known) > 1:
            listed = " and ".join(f"`{name}`" for name in known)
            warnings.append(
                f"{listed} are one tensor in the file, and tensors of their own in its spec: they come apart"
            )
    return beside, warnings


def _sidecar_warning(path: Path, sidecar: Path, embedded: str, graph: Graph) -> list[str]:
    if not sidecar.is_file():
        return []
    try:
        same = read_text(sidecar, MOST_SPEC_BYTES) == embedded or read_spec(sidecar) == graph
    except Net2NetError:
        return [f"`{sidecar}` is no spec; the one inside `{path}` is used"]
    return [] if same else [f"`{sidecar}` differs from the spec inside `{path}`, which is used"]


def read_spec(path: Path) -> Graph:
    """A spec from its JSON file, or from the checkpoint that holds it.

    Raises:
        UsageError: there is no such file.
        SpecError: it is no spec.
    """
    if path.suffix == ".safetensors":
        with open_checkpoint(path) as checkpoint:
            if SPEC_KEY not in checkpoint.metadata:
                raise UsageError(f"`{path}` holds no spec", "give the spec's JSON file")
            return from_json_text(checkpoint.metadata[SPEC_KEY], where=f"the spec in `{path}`")
    try:
        text = read_text(path, MOST_SPEC_BYTES)
    except InputError as wrong:
        raise SpecError(f"{wrong.message}, and so no spec", "write one with `net2net import`") from wrong
    return from_json_text(text, where=f"`{path}`")


@dataclass(frozen=True)
class Origin:
    """What a student inherits from its teacher's file beside tensors."""

    metadata: Mapping[str, str]
    aliases: Mapping[str, str]
    steps: Sequence[Step]
    sha256: Callable[[], str]
    """Of its file, once; an error if that has changed since it was opened, each time."""


def lineage_step(
    operation: Operation, *, rounds: bool, scaled: bool = False, teacher_sha256: str = UNKNOWN_SHA256
) -> Step:
    """The record of one operation; `rounds` and `scaled` as in `Plan`."""
    arguments: dict[str, Any] = {**operation.arguments, "rounds": "scaled" if scaled else rounds}
    return Step(operation.name, arguments, operation.seed, operation.exact, teacher_sha256, __version__)


def with_target(steps: Sequence[Step], graph: Graph) -> tuple[Step, ...]:
    """A history that another step is to follow: what the last one led to is kept where no arguments of it say that.

    As long as it is the last one, its student's own spec says so.
    """
    if not steps or not steps[-1].like or steps[-1].target is not None:
        return tuple(steps)
    return (*steps[:-1], replace(steps[-1], target=to_json_text(graph)))


def write_model(
    path: Path, graph: Graph, tensors: Tensors, origin: Origin, *, on_bytes: Callable[[int], None] | None = None
) -> str:
    """Stream a model's tensors into a file, a block at a time; returns the spec's text.

    The teacher's digest is computed beside the writing, and put into the header at the end.

    Raises:
        MachineError: the file cannot be written.
    """
    text = to_json_text(graph)
    names = {name for name, *_ in graph.tensors()}
    aliases = {gone: kept for gone, kept in origin.aliases.items() if kept in names and gone not in names}
    metadata = student_metadata(origin.metadata, text, origin.steps, aliases, teacher_aliases=origin.aliases)
    memory = ReusedMemory()
    outgoing = [OutgoingTensor(name, tensors.info(name), _blocks(tensors, name, memory)) for name in names]
    unknown = any(step.teacher_sha256 == UNKNOWN_SHA256 for step in origin.steps)
    late = late_lineage(origin.steps, _digest_beside(origin.sha256)) if unknown else None
    write_checkpoint(path, outgoing, metadata, late=late, on_bytes=on_bytes)
    return text


def _digest_beside(sha256: Callable[[], str]) -> Callable[[], str]:
    """The digest, computed in a thread; asked for again at the end, when it says whether the file has changed since."""
    hashing = Background(sha256)

    def digest() -> str:
        hashing.wait()
        return sha256()

    return digest


def _blocks(tensors: Tensors, name: str, memory: Memory) -> Callable[[], Any]:
    if isinstance(tensors, Grown):
        return lambda: tensors.blocks(name, memory)
    return lambda: iter([np.ascontiguousarray(tensors.read(name))])


def without_noise(grown: Grown) -> Grown:
    """The same growth, and those before it, before noise is added, which is what can be verified."""
    plain = {name: replace(tensor, noise=0.0) for name, tensor in grown.plan.tensors.items()}
    teacher = without_noise(grown.teacher) if isinstance(grown.teacher, Grown) else grown.teacher
    return Grown(replace(grown.plan, tensors=plain), teacher)
