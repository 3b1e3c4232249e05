"""Networks as the command line names them: checkpoints, or specs alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from net2net_cli.cli.printing import Printer
from net2net_cli.errors import UsageError

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.model import Net2Net


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, and the model it belongs to where a checkpoint was named."""

    path: Path
    graph: Graph
    model: Net2Net | None

    @property
    def bytes(self) -> int | None:
        """Of all tensors, where they are known."""
        return None if self.model is None else stored_bytes(self.model)


def open_model(
    path: Path, spec: Path | None, allow_nan: bool, printer: Printer, *, trust_code: bool = False
) -> Net2Net:
    """Open a checkpoint and say what is odd about its files."""
    from net2net_cli.model import Net2Net

    model = Net2Net.load(path, spec, allow_nan=allow_nan, trust_code=trust_code)
    for warning in model.warnings:
        printer.warn(warning)
    return model


def open_network(
    path: Path, spec: Path | None, printer: Printer, *, allow_nan: bool = True, trust_code: bool = False
) -> Network:
    """Open a checkpoint, or a spec (`.json`); most commands do not read the weights, and accept any."""
    if path.suffix != ".json":
        model = open_model(path, spec, allow_nan, printer, trust_code=trust_code)
        return Network(path, model.graph, model)
    if spec is not None:
        raise UsageError(f"`{path}` is a spec already", "leave `--spec` out, or name a checkpoint")
    from net2net_cli.model_file import read_spec

    return Network(path, read_spec(path), None)


def stored_bytes(model: Net2Net) -> int:
    """Bytes of all tensors of a model."""
    return sum(int(model.tensor_info(name).nbytes) for name, *_ in model.graph.tensors())
