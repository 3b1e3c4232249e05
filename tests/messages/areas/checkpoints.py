"""Checkpoints and PyTorch files that are damaged, or do not fit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.conftest import residual, weights

from messages.areas.specs import short
from messages.example import Area, Example, api
from net2net_cli import Net2Net

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


class Runs:
    """A pickle that runs code when it is loaded without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


TORCH = (
    raw("nothing at all", b""),
    raw("plain text", b"plain text"),
    raw("an HDF5 file", b"\x89HDF\r\n"),
    raw("the beginning of a file that `torch.save` wrote", b"PK\x03\x04" * 9, vague=r"(?<=torch.save` \().*?(?=\)\n)"),
    imports("a TorchScript program", script),
    weights_file("the whole network: `torch.save(model, …)`", lambda torch: torch.nn.Linear(2, 2)),
    raw("a pickle of protocol 4", pickle.dumps({"w": Runs()}, protocol=4)),
    weights_file("a list of tensors", lambda torch: [torch.zeros(2)]),
    weights_file(
        '{"encoder": {…}, "decoder": {…}}',
        lambda torch: {"encoder": {"w": torch.zeros(2)}, "decoder": {"w": torch.zeros(2)}},
    ),
    weights_file("{0: tensor}", lambda torch: {0: torch.zeros(2)}),
    weights_file("a sparse tensor", lambda torch: {"w": torch.eye(3).to_sparse()}),
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
    Area("torch-files", "Weights that PyTorch saved", 3, "", TORCH, "where `net.pt` is or holds"),
)
