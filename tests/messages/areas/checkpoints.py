"""Checkpoints and PyTorch files that are damaged, or do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from cli.conftest import residual, weights

from messages.areas.specs import short
from messages.example import Area, Example, api
from net2net_cli import Net2Net
from net2net_cli.checkpoint import safetensors_file

WIDEN = "net2net widen teacher.safetensors block.conv2=2x --no-verify -o student.safetensors"


def header(row: str, entries: Any, data: int = 16) -> Example:
    """A safetensors file with this header, and so many bytes behind it."""

    def write(folder: Path) -> None:
        content = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        (folder / "net.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(data))

    return Example("net2net inspect net.safetensors", before=write, row=row)


def entry(**changes: Any) -> Example:
    """A header with one tensor."""
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **changes}
    return header(short({"fc.weight": tensor}), {"fc.weight": tensor})


def two(start: int) -> dict[str, Any]:
    """Two tensors, the second of which starts there."""
    a = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    b = {"dtype": "F32", "shape": [1], "data_offsets": [start, start + 4]}
    return {"a": a, "b": b}


def content(name: str, row: str, made: bytes) -> Example:
    """A file with these bytes."""
    return Example(f"net2net inspect {name}", before=lambda here: (here / name).write_bytes(made), row=row)


SOUND = {"fc.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}

HEADERS = (
    content("net.safetensors", "nothing at all", b""),
    content("net.safetensors", "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\n"),
    content("net.safetensors", "random bytes", bytes(range(100, 200))),
    content(
        "net.safetensors",
        "a length of the header beyond the end of the file",
        (900).to_bytes(8, "little") + b"{}      ",
    ),
    header("a header that is Latin-1", '{"größe": 1}'.encode("latin-1")),
    header("a header that is cut short", b'{"fc.weight": '),
    header('{"fc.weight": …, "fc.weight": …}', b'{"a": 1, "a": 2}'),
    header('{"fc.weight": NaN}', b'{"a": NaN}'),
    header("a header that is a list", b"[]      "),
    header('{"__metadata__": 3}', {"__metadata__": 3}),
    header('{"__metadata__": {"epoch": 3}}', {"__metadata__": {"epoch": 3}}),
    header('{"fc.weight": {"dtype": "F32"}}', {"fc.weight": {"dtype": "F32"}}),
    entry(dtype="F33"),
    entry(shape=[-4]),
    entry(shape=[2**40, 2**40]),
    entry(data_offsets=[0]),
    entry(data_offsets=[0, 12]),
    header("two tensors, the second of which begins inside of the first", two(4)),
    header("the last bytes are missing", SOUND, data=8),
    header("bytes behind the last tensor", SOUND, data=24),
)


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """The sample with other tensors: the spec stays in `teacher.json`, the file holds none."""

    def write(folder: Path) -> None:
        from safetensors.numpy import save_file

        tensors = weights(residual())
        change(tensors)
        save_file(tensors, folder / "teacher.safetensors")

    return write


def rename(tensors: dict[str, Any]) -> None:
    tensors["head.weight"] = tensors.pop("fc.weight")


def cut(tensors: dict[str, Any]) -> None:
    tensors["fc.weight"] = tensors["fc.weight"][:3].copy()


def quantise(tensors: dict[str, Any]) -> None:
    tensors["fc.weight"] = tensors["fc.weight"].astype("int8")


def add(tensors: dict[str, Any]) -> None:
    tensors["head.weight"] = tensors["fc.weight"].copy()


def spoil(tensors: dict[str, Any]) -> None:
    tensors["block.conv2.weight"][0, 0, 0, 0] = float("nan")


def lineage(records: Any) -> Callable[[Path], None]:
    """The sample with this in its metadata."""

    def write(folder: Path) -> None:
        from safetensors.numpy import save_file

        said = records if isinstance(records, str) else json.dumps(records)
        spec = (folder / "teacher.json").read_text()
        save_file(weights(residual()), folder / "teacher.safetensors", {"net2net.spec": spec, "net2net.lineage": said})

    return write


def overwritten() -> AbstractContextManager[Any]:
    """The teacher is emptied once a tensor is written."""
    real = safetensors_file._write_tensor

    def write(*arguments: Any) -> None:
        real(*arguments)
        Path("teacher.safetensors").write_bytes(b"")

    return patch.object(safetensors_file, "_write_tensor", write)


STEP = {
    "operation": "widen",
    "arguments": {},
    "seed": 0,
    "exact": True,
    "teacher_sha256": "0" * 64,
    "tool_version": "1",
}


def grown(records: Any) -> Example:
    return Example(
        "net2net diff teacher.json teacher.safetensors --recipe",
        before=lineage(records),
        row=f'"net2net.lineage": {records if isinstance(records, str) else short(records)}',
    )


CONTENTS = (
    api('teacher.tensor("fc.scale")'),
    Example(WIDEN, given="The checkpoint has `head.weight` in place of `fc.weight`.", before=changed(rename)),
    Example(WIDEN, given="`fc.weight` has three rows in the checkpoint.", before=changed(cut)),
    Example(WIDEN, given="`fc.weight` is quantised in the checkpoint.", before=changed(quantise)),
    Example(WIDEN, given="The checkpoint has `head.weight` beside all others.", before=changed(add)),
    Example(WIDEN, given="`block.conv2.weight` holds NaN.", before=changed(spoil)),
    Example(WIDEN, given="`cp` writes another network to `teacher.safetensors` meanwhile.", fault=overwritten),
    Example("net2net diff teacher.safetensors teacher.safetensors --recipe"),
    Example(
        "net2net diff student.safetensors teacher.safetensors --recipe",
        given="`student.safetensors` was grown from `teacher.safetensors`, and they are named the wrong way round.",
        before=lambda here: (
            Net2Net.load(here / "teacher.safetensors").widen({"conv1": "2x"}).save(here / "student.safetensors")
        ),
    ),
)

LINEAGES = (
    grown("[{"),
    grown('[{"seed": NaN}]'),
    grown({}),
    grown([3]),
    grown([{"operation": "widen"}]),
    grown([{**STEP, "seed": "0"}]),
    grown([{**STEP, "teacher_sha256": "abc"}]),
)


def saved(make: Callable[[Any], Any], name: str = "net.pt") -> Callable[[Path], None]:
    """What `torch.save` makes of something."""

    def write(folder: Path) -> None:
        import warnings

        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(make(torch), folder / name)

    return write


def imports(row: str, before: Callable[[Path], Any], **more: Any) -> Example:
    """Weights for LeNet-5."""
    return Example(
        "net2net import net2net_cli.networks:lenet5 --weights net.pt -o lenet.safetensors",
        before=before,
        row=row,
        **more,
    )


def weights_file(row: str, make: Callable[[Any], Any], **more: Any) -> Example:
    return imports(row, saved(make), **more)


def raw(row: str, made: bytes, **more: Any) -> Example:
    return imports(row, lambda here: (here / "net.pt").write_bytes(made), **more)


def script(folder: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(folder / "net.pt"))  # type: ignore[no-untyped-call]


def freed(torch: Any) -> dict[str, Any]:
    """As sharded training leaves them."""
    tensor = torch.zeros(4)
    tensor.untyped_storage().resize_(0)
    return {"w": tensor}


def shards(index: Any, **files: tuple[str, ...]) -> Callable[[Path], None]:
    """An index of shards, and shards of a few tensors each; `b=a` says that `b` is the tensor `a`."""

    def write(folder: Path) -> None:
        from safetensors.numpy import save_file

        text = index if isinstance(index, str) else json.dumps(index)
        (folder / "net.safetensors.index.json").write_text(text)
        for name, tensors in files.items():
            kept = [t for t in tensors if "=" not in t]
            tied = dict(t.split("=") for t in tensors if "=" in t)
            save_file({t: np.zeros(2, dtype=np.float32) for t in kept}, folder / f"{name}.safetensors", tied)

    return write


def sharded(index: Any, more: str = "", **files: tuple[str, ...]) -> Example:
    """Weights in several files."""
    return Example(
        "net2net import net2net_cli.networks:lenet5 --weights net.safetensors.index.json -o lenet.safetensors",
        before=shards(index, **files),
        row=(index if isinstance(index, str) else short(index)) + more,
    )


A_AND_B = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}

SHARDS = (
    sharded('{"weight_map":'),
    sharded({"metadata": {"total_size": 16}}),
    sharded({"weight_map": {"a": "../1.safetensors"}}),
    sharded(A_AND_B, ", and `2.safetensors` holds `c`", **{"1": ("a",), "2": ("c",)}),
    sharded(A_AND_B, ", and in both files `b` is the tensor `a`", **{"1": ("a", "b=a"), "2": ("a", "b=a")}),
)


TORCH = (
    raw("nothing at all", b""),
    raw("plain text", b"plain text"),
    raw("an HDF5 file", b"\x89HDF\r\n"),
    raw("the beginning of a file that `torch.save` wrote", b"PK\x03\x04" * 9, vague=r"(?<=torch.save` \().*?(?=\)\n)"),
    imports("a TorchScript program", script),
    weights_file("the whole network: `torch.save(model, …)`", lambda torch: torch.nn.Linear(2, 2)),
    raw("a pickle that names an object by a number, as `copyreg.add_extension` gives it", b"\x80\x02\x82\x01."),
    weights_file("a list of tensors", lambda torch: [torch.zeros(2)]),
    weights_file(
        '{"encoder": {…}, "decoder": {…}}',
        lambda torch: {"encoder": {"w": torch.zeros(2)}, "decoder": {"w": torch.zeros(2)}},
    ),
    weights_file("{0: tensor}", lambda torch: {0: torch.zeros(2)}),
    weights_file("a sparse tensor", lambda torch: {"w": torch.eye(3).to_sparse()}),
    weights_file("no numbers, of a shape of 0 × 2⁶²", lambda torch: {"w": torch.empty(0, 2**62)}),
    weights_file("a tensor whose storage was freed", freed),
    weights_file("one number that was expanded to a million", lambda torch: {"w": torch.zeros(1).expand(10**6)}),
    weights_file("complex numbers", lambda torch: {"w": torch.zeros(2, dtype=torch.complex128)}),
)

AREAS = (
    Area(
        "headers",
        "Checkpoints: the file",
        3,
        "A safetensors file is a length, a header in JSON, and the numbers.",
        HEADERS,
        "where `net.safetensors` is or holds",
    ),
    Area("contents", "Checkpoints: tensors and lineage", 3, "", CONTENTS),
    Area(
        "lineages",
        "Checkpoints: an edited lineage",
        3,
        "What was done to a student is kept in its metadata.",
        LINEAGES,
        "where the metadata holds",
    ),
    Area("shards", "Weights in several files", 3, "", SHARDS, "where `net.safetensors.index.json` holds"),
    Area("torch-files", "Weights that PyTorch saved", 3, "", TORCH, "where `net.pt` is or holds"),
)
