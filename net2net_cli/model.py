"""`Net2Net`: a network with its weights, and the ways it can grow. The command line stands on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.noise import draws_in_evaluation
from net2net_cli.checking import Checking, Exactness
from net2net_cli.checkpoint.publish import Companion, Publication
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.plan import Plan, Split
from net2net_cli.growth.requests import requests_from
from net2net_cli.growth.source import Tensors
from net2net_cli.growth.widen import WidenOptions, plan_like, plan_widen
from net2net_cli.model_file import (
    FiniteTensors,
    ModelFile,
    Origin,
    lineage_step,
    open_model,
    read_spec,
    with_target,
    without_noise,
    write_model,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from net2net_cli.channels.values import Value
    from net2net_cli.growth.deepen import BatchNormStart, Moments
    from net2net_cli.growth.recipe import Instruction
    from net2net_cli.proof import Proof
    from net2net_cli.runtime.compare import Comparison


class Net2Net:
    """A network with its weights.

    Every growth returns a new object, computed only when it is read, saved or built; nothing is written into a teacher.

    Attributes:
        graph: its architecture.
        plans: how it was grown since it was loaded, one plan a growth.
        warnings: what the user should know about its files, or about what was imported.
        trust_code: whether code that its spec names may be imported and run.
        tensors: where they are read; a growth computes them then.
        origin: what its file says beside them: lineage, tied names, metadata.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Tensors,
        origin: Origin,
        *,
        plans: tuple[Plan, ...] = (),
        file: ModelFile | None = None,
        trust_code: bool = False,
    ) -> None:
        self.graph = graph
        self.plans = plans
        self.file = file
        self.warnings: tuple[str, ...] = file.warnings if file else ()
        self.tensors = tensors
        self.origin = origin
        self.trust_code = trust_code

    @classmethod
    def load(
        cls,
        path: str | Path,
        spec: str | Path | None = None,
        *,
        allow_nan: bool = False,
        trust_code: bool = False,
    ) -> Self:
        """Open a checkpoint with its spec; tensors are read when they are needed.

        Args:
            path: `NAME.safetensors`.
            spec: its spec, where it is neither inside the checkpoint nor in `NAME.json`.
            allow_nan: whether tensors may hold NaN and infinities.
            trust_code: whether code that the spec names (`opaque` layers) may be imported and run; nothing is, until
                the network is run or built.

        Raises:
            UsageError: a file does not exist.
            SpecError, CheckpointError: a file is unreadable, or the two do not fit.
        """
        file = open_model(Path(path), Path(spec) if spec is not None else None)
        checkpoint = file.checkpoint
        metadata = {key: value for key, value in checkpoint.metadata.items() if key not in checkpoint.aliases}
        origin = Origin(metadata, file.aliases, file.steps(), checkpoint.sha256)
        tensors: Tensors = checkpoint if allow_nan else FiniteTensors(checkpoint, f"`{path}`")
        return cls(file.graph, tensors, origin, file=file, trust_code=trust_code)

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        example_input: torch.Tensor | tuple[torch.Tensor, ...],
        *,
        name: str | None = None,
        source: str = "",
        kwargs: Mapping[str, Any] | None = None,
        leaves: Sequence[str] = (),
    ) -> Self:
        """Trace a PyTorch module; its tensors are copied.

        Args:
            model: in any mode; it is left as it was.
            example_input: what `forward` takes, with a batch axis in front; only its shape and type matter.
            name: of the network; the class's name if not given.
            source: where its code is, as `net2net import` would name it; kept in the spec for people, and to make
                modules again that net2net does not know.
            kwargs: what the source is called with.
            leaves: names or globs of modules that are kept as they are, because they cannot be traced.

        Raises:
            UsageError: a leaf names no module.
            TraceError: the module does something that the spec cannot say; holds the user's source line.
        """
        from net2net_cli.runtime.importing import import_module_weights

        inputs = example_input if isinstance(example_input, tuple) else (example_input,)
        name = name or type(model).__name__
        imported = import_module_weights(model, inputs, name=name, source=source, kwargs=kwargs, leaves=leaves)
        copied = {name: tensor.copy() for name, tensor in imported.tensors.items()}
        found = cls.from_tensors(imported.graph, copied, aliases=imported.aliases)
        found.warnings, found.trust_code = imported.notes, True  # its code is here, and has run
        return found

    @classmethod
    def from_tensors(
        cls, graph: Graph, tensors: Mapping[str, np.ndarray], *, aliases: Mapping[str, str] | None = None
    ) -> Self:
        """A network whose tensors are in memory."""
        from net2net_cli.checkpoint.memory import MemoryTensors

        held = MemoryTensors(tensors, aliases or {})
        return cls(graph, held, Origin({}, dict(aliases or {}), (), held.sha256))

    def widen(
        self,
        layers: Mapping[str, str | int] | None = None,
        *,
        like: Graph | str | Path | None = None,
        split: Split = "ownership",
        noise: float = 0.0,
        seed: int = 0,
        round_to: int = 1,
        where_possible: bool = False,
    ) -> Self:
        """Wider layers, the same outputs.

        Args:
            layers: layer or glob -> width, as on the command line: `{"layer1.0.conv1": "2x", "conv1": 96}`.
            like: instead of `layers`: a spec with the same layers, whose widths are taken.
            split: how copies share what their readers did with the original; `fresh` makes new channels instead.
            noise: added to copies, in units of each tensor's root mean square; the student is then approximate.
            seed: of the draws.
            round_to: round widths up to a multiple.
            where_possible: globs pass over layers that cannot grow.

        Raises:
            UsageError: no such layer, a width that cannot be meant, or noise without copies.
            GrowthRefusedError: no exact student has these widths; names the layer and the reason.
        """
        options = WidenOptions(split, noise, seed, round_to, where_possible)
        if like is not None:
            target = like if isinstance(like, Graph) else read_spec(Path(like))
            return self._grown(plan_like(self.graph, target, options))
        return self._grown(plan_widen(self.graph, requests_from(layers or {}), options))

    def random_pad(
        self,
        layers: Mapping[str, str | int],
        *,
        std: float | None = None,
        seed: int = 0,
        round_to: int = 1,
        where_possible: bool = False,
    ) -> Self:
        """The paper's baseline: the shapes that `widen` gives, all that is new drawn at random. Preserves nothing."""
        from net2net_cli.growth.random_pad import plan_random_pad

        options = WidenOptions(seed=seed, round_to=round_to, where_possible=where_possible)
        return self._grown(plan_random_pad(self.graph, requests_from(layers), options, std=std))

    def deepen(
        self,
        layers: Sequence[str],
        *,
        kernel: int | None = None,
        count: int = 1,
        batch_norm: BatchNormStart = "estimate",
        where_possible: bool = False,
        inputs: Path | None = None,
        device: str = "auto",
    ) -> Self:
        """New layers that start as the identity, or whole residual blocks that start silent.

        Args:
            layers: layers behind whose activation a new one is put, or blocks that are repeated.
            kernel: odd kernel size of new convolutions; that of the layer before, if not given.
            count: how many new layers or blocks each.
            batch_norm: where statistics of new batch norms come from: `estimate` (the batch norm before), `identity`.
            where_possible: globs pass over layers behind which nothing can be inserted.
            inputs: measure them on these inputs instead.
            device: where they are measured.

        Raises:
            UsageError: no such layer or block, an even kernel.
            GrowthRefusedError: no exact insertion is known there; names the layer and the reason.
        """
        from net2net_cli.growth.deepen import DeepenOptions, plan_deepen

        moments: Callable[[Sequence[str]], Mapping[str, Moments]] | None = None
        if inputs is not None:
            from net2net_cli.runtime.statistics import measured_moments

            def moments(values: Sequence[str]) -> Mapping[str, Moments]:
                return measured_moments(self.graph, self.to_module(), values, inputs, device)

        options = DeepenOptions(kernel, count, batch_norm, where_possible)
        return self._grown(plan_deepen(self.graph, layers, options, self.tensors, moments))

    def grow(self, like: Graph | str | Path, *, split: Split = "ownership", seed: int = 0) -> Self:
        """Wider and deeper until it is a given, bigger network of its family, which loads it strictly.

        Args:
            like: the spec of the bigger network.
            split: how copies share what their readers did with the original; `fresh` makes new channels instead.
            seed: of the draws.

        Raises:
            GrowthRefusedError: names the first difference that no rule bridges.
        """
        from net2net_cli.growth.grow import plan_grow

        target = like if isinstance(like, Graph) else read_spec(Path(like))
        return self._grown(plan_grow(self.graph, target, self.tensors, WidenOptions(split, seed=seed)))

    def apply(self, recipe: Sequence[Instruction], target: Callable[[str], Graph] | None = None) -> Self:
        """Several operations, one after the other; tensors are computed in one pass when the result is written.

        Args:
            recipe: as `parse_recipe` reads it.
            target: finds the spec that a `grow` names; a path, if not given.

        Raises:
            UsageError, GrowthRefusedError: as the operations do.
        """
        student = self
        for step in recipe:
            student = student._applied(dict(step.arguments), step.name, target)
        return student

    def _applied(self, arguments: dict[str, Any], name: str, target: Callable[[str], Graph] | None) -> Self:
        if name == "widen":
            return self.widen(arguments.pop("layers"), **arguments)
        if name == "random-pad":
            return self.random_pad(arguments.pop("layers"), **arguments)
        if name == "deepen":
            start = arguments.pop("bn", "estimate")
            return self.deepen(arguments.pop("layers"), batch_norm=start, **arguments)
        like = arguments.pop("like")
        return self.grow(target(like) if target else like, **arguments)

    def _grown(self, plan: Plan) -> Self:
        origin = self.origin
        # Only the first growth since the file was read has that file for a teacher; the digest goes to all of them.
        steps = (
            *with_target(origin.steps, self.graph),
            lineage_step(plan.operation, rounds=plan.rounds, scaled=plan.scaled),
        )
        after = Origin(origin.metadata, origin.aliases, steps, origin.sha256)
        plans, trust = (*self.plans, plan), self.trust_code
        return type(self)(plan.student, Grown(plan, self.tensors), after, plans=plans, trust_code=trust)

    @property
    def exact(self) -> bool:
        """Whether it computes what the network computes that it was first grown from."""
        return all(step.exact for step in self.origin.steps)

    @property
    def rounds(self) -> bool:
        """Whether growing it rounded stored values, so that outputs agree to the stored type's precision alone."""
        return self.exactness != "exact"

    @property
    def exactness(self) -> Exactness:
        """How its stored numbers come about: see `Exactness`."""
        found = [step.arguments.get("rounds") for step in self.origin.steps]
        return "scaled" if "scaled" in found else "rounded" if any(found) else "exact"

    def tensor(self, name: str) -> np.ndarray:
        """One of its tensors; not to be written to."""
        return self.tensors.read(self.origin.aliases.get(name, name))

    def tensor_info(self, name: str) -> TensorInfo:
        """Stored type and shape of a tensor."""
        return self.tensors.info(self.origin.aliases.get(name, name))

    def to_module(self, *, device: str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """A `torch.nn.Module`, in training mode, ready to train.

        Args:
            device: where its tensors go.
            dtype: floating-point tensors are converted to it; None keeps each as it is stored.

        Raises:
            UntrustedCodeError: its spec names code, and was loaded without `trust_code`.
        """
        from net2net_cli.runtime.build import build, load_weights

        network = build(self.graph, trust_code=self.trust_code)
        load_weights(network, self.tensors.read, self.origin.aliases, device=device, dtype=dtype)
        return network.train()

    def verify(self, teacher: Net2Net, *, checking: Checking | None = None, **how: Any) -> Comparison:
        """Run both networks on the same inputs and compare.

        Args:
            teacher: the network it was grown from.
            checking: how.
            **how: or its fields by keyword, as in `verify(teacher, device="cuda", level="train")`.

        Raises:
            MachineError: the device is not there, or its memory does not suffice.
        """
        from net2net_cli.runtime.verifying import compare_models

        checking = checking or Checking(**how)
        known = checking.level == "train" or any(draws_in_evaluation(layer.op) for layer in self.graph.layers)
        return compare_models(teacher, self, checking, self._values(teacher) if known else None)

    def _values(self, teacher: Net2Net) -> Mapping[str, Value] | None:
        """What of the teacher its layers return, where a growth says so: so much of dropout can be shared."""
        from net2net_cli.correspondence import corresponding

        found = corresponding(teacher, self)
        return found.values if found.source == "growth" else None

    def prove(self, teacher: Net2Net, *, on_bytes: Callable[[int], None] | None = None) -> Proof:
        """Grow the teacher again as the lineage says, and compare every bit; nothing is run, and torch is not needed.

        Args:
            teacher: any network that this one descends from by growths that its lineage records.
            on_bytes: told the size of each block that was compared.

        Raises:
            InputError: there is no lineage, it begins at another network, or it cannot be repeated.
        """
        from net2net_cli.proof import prove

        return prove(teacher, self, on_bytes=on_bytes)

    def save(self, path: str | Path, *, force: bool = False, on_bytes: Callable[[int], None] | None = None) -> None:
        """Write `NAME.safetensors` and `NAME.json`; both appear complete or not at all. Nothing is verified.

        Raises:
            UsageError: the file exists, is the teacher, or is no possible name.
            MachineError: it cannot be written.
        """
        with self.publication(Path(path), force=force) as publication:
            publication.commit(self.write(publication.part, on_bytes=on_bytes))

    @contextmanager
    def publication(
        self, path: Path, *, force: bool, teacher: Net2Net | None = None, companions: Sequence[Companion] = ()
    ) -> Iterator[Publication]:
        """The student's place, checked before any work is done."""
        file = (teacher or self).file
        source, spec = (file.path, file.spec_path) if file else (None, None)
        with Publication(path, force=force, teacher=source, spec=spec, companions=companions) as publication:
            yield publication

    def write(self, part: Path, *, noise: bool = True, on_bytes: Callable[[int], None] | None = None) -> str:
        """Write the checkpoint to a temporary file; returns the spec's text.

        Args:
            part: the file.
            noise: whether a growth with noise adds it; without, the file can be verified.
            on_bytes: told the size of each block that was written.
        """
        tensors = self.tensors
        if not noise and isinstance(tensors, Grown):
            tensors = without_noise(tensors)
        return write_model(part, self.graph, tensors, self.origin, on_bytes=on_bytes)
