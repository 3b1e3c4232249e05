"""Exports: files of other formats, each complete or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.opening import Network
from net2net_cli.cli.printing import code_that_may_print
from net2net_cli.cli.torch_needed import need_torch
from net2net_cli.errors import MachineError, UsageError

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

FORMATS = {"python": ".py", "torch": ".pt"}
LATER = ("onnx",)


def check_format(name: str) -> None:
    """Refuse a format that there is not.

    Raises:
        UsageError: it is none, or none yet.
    """
    if name in FORMATS:
        return
    yet = " yet" if name in LATER else ""
    raise UsageError(
        f"`--to {name}` is not available{yet}", f"the formats are {' and '.join(f'`{f}`' for f in FORMATS)}"
    )


def check_place(checkpoint: Path, to: str, out: Path | None, *, force: bool) -> Path:
    """The place of the export, checked before any work.

    Raises:
        UsageError: none was given, it exists, it is a folder or the checkpoint, or its folder does not exist.
        MachineError: its folder cannot be written.
    """
    if out is None:
        example = checkpoint.with_suffix(FORMATS[to])
        raise UsageError("no place for the export was given", f"add `-o {example}`")
    if out.is_dir():
        raise UsageError(f"`{out}` is a folder, a file is needed", f"use `-o {out / ('model' + FORMATS[to])}`")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder `{out.parent}`", f"make it: `mkdir -p '{out.parent}'`")
    if out.exists() and any(p.exists() and out.samefile(p) for p in (checkpoint, checkpoint.with_suffix(".json"))):
        raise UsageError(f"`{out}` is what is exported, which is never overwritten", "give another name with `-o`")
    if os.path.lexists(out) and not force:
        raise UsageError(f"`{out}` exists", "replace it with `--force`, or give another name with `-o`")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise MachineError(f"no permission to write in the folder `{out.parent}`", "choose another folder with `-o`")
    return out


def write_complete(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `out`, and rename it once it has reached the disk.

    Raises:
        MachineError: it cannot be written.
    """
    from net2net_cli.checkpoint.os_errors import explain_os_error
    from net2net_cli.checkpoint.parts import Part, locked, sweep

    try:
        with locked(out.parent):
            sweep(out.parent)
        with Part(out.parent) as part:
            write(part.path)
            part.sync()
            with locked(out.parent) as folder:
                part.path.replace(out)
                folder.sync()
    except OSError as error:
        raise explain_os_error(error, out, "write") from error


def export_to(network: Network, to: str, out: Path, class_name: str | None) -> dict[str, Any]:
    """Write the export; returns what `--json` prints: `checkpoint`, `to`, `file`, and `class_name` for source.

    Raises:
        UsageError: a state dict is wanted of a spec, which has no tensors.
        MachineError: it cannot be written.
    """
    if to == "python":
        return _python(network, out, class_name)
    if network.model is None:
        raise UsageError(f"`{network.path}` is a spec, and has no tensors to export", "name the checkpoint")
    need_torch("`--to python` works without it")
    model = network.model
    with code_that_may_print(trusted=model.trust_code):
        write_complete(out, lambda part: _torch(model, part))
    return {"checkpoint": str(network.path), "to": "torch", "file": str(out)}


def _python(network: Network, out: Path, class_name: str | None) -> dict[str, Any]:
    from net2net_cli.architecture.python_source import class_name_for, python_source

    file = network.model.file if network.model else None
    name = class_name or class_name_for(network.graph)
    text = python_source(network.graph, class_name=name, aliases=file.aliases if file else None)

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_complete(out, write)
    return {"checkpoint": str(network.path), "to": "python", "file": str(out), "class_name": name}


def _torch(model: Net2Net, part: Path) -> None:
    import torch

    with part.open("wb") as file:
        torch.save(model.to_module().state_dict(), file)
