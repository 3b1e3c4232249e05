"""A large checkpoint of random bytes: growing it beside copying the student, proving it beside reading both, memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.commands import NET2NET
from benchmarks.timing import Command, Row, environment, medians, process_seconds, timed
from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops.activation import ReLU
from net2net_cli.architecture.ops.base import Op
from net2net_cli.architecture.ops.conv import Conv2d, Linear
from net2net_cli.architecture.ops.norm import BatchNorm2d
from net2net_cli.architecture.ops.reduce import Mean
from net2net_cli.architecture.shapes import Batch
from net2net_cli.checkpoint.safetensors_file import open_checkpoint
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.model import Net2Net
from net2net_cli.model_file import Origin

CHANNELS, FEATURES = 1536, 4096
LARGEST_BASE = 250e6
"""Bytes that a process may hold beside twice its largest tensor."""


SCRATCH_BYTES = 3 << 29

STATED_GIB = 4
"""The size for which the target is stated: below, the start of Python and the teacher's digest weigh more."""

PROOF_TARGET = 2.0
"""How many times the time that reading both files takes, from the page cache, a proof of that size may take."""

GROWTHS = {
    "every 2nd layer 1.25x": ["**.first=1.25x"],
    "every layer 1.125x": ["convolutions.*.*=1.125x", "linears.*.*=1.125x", "stem=1.125x", "between=1.125x"],
}


@dataclass
class RandomTensors:
    """Float tensors of random bits, NaN among them; each is made when it is read."""

    graph: Graph

    def info(self, name: str) -> TensorInfo:
        """Stored type and shape."""
        slot = {n: slot for n, _, _, slot in self.graph.tensors()}[name]
        return TensorInfo("I64" if slot.integer else "F32", slot.shape)

    def read(self, name: str) -> np.ndarray:
        """Random bits."""
        info = self.info(name)
        words = np.random.default_rng(len(name)).integers(0, 1 << 32, max(1, info.nbytes // 4), np.uint32)
        return np.zeros(info.shape, np.int64) if info.dtype == "I64" else words.view(np.float32).reshape(info.shape)


def large_network(gib: float) -> Graph:
    """Convolutions with batch norms, then linear layers; half of the bytes each."""
    pair = 2 * 4 * CHANNELS * CHANNELS * 9, 2 * 4 * FEATURES * FEATURES
    convolutions, linears = (max(1, round(gib * 2**30 / 2 / size)) for size in pair)
    layers: list[Layer] = []

    def add(name: str, op: Op, *inputs: str) -> str:
        layers.append(Layer(name, op, inputs or (layers[-1].name if layers else "x",)))
        return name

    add("stem", _conv(3, CHANNELS))
    for i in range(convolutions):
        for part in ("first", "second"):
            add(f"convolutions.{i}.{part}", _conv(CHANNELS, CHANNELS))
            add(f"convolutions.{i}.{part}_norm", BatchNorm2d(CHANNELS, 1e-5, 0.1, True, True))
            add(f"convolutions.{i}.{part}_relu", ReLU())
    add("mean", Mean((2, 3)))
    add("between", Linear(CHANNELS, FEATURES, True))
    for i in range(linears):
        for part in ("first", "second"):
            add(f"linears.{i}.{part}", Linear(FEATURES, FEATURES, True))
            add(f"linears.{i}.{part}_relu", ReLU())
    add("head", Linear(FEATURES, 10, True))
    return Graph("large", "", (NetworkInput("x", (Batch(), 3, 32, 32)),), tuple(layers), {"out": "head"})


def _conv(inner: int, outer: int) -> Conv2d:
    return Conv2d(inner, outer, (3, 3), (1, 1), (1, 1), (1, 1), 1, False, "zeros")


def measure_large(folder: Path, gib: float, rounds: int) -> Iterator[Row]:
    """Whole processes, hashing of the teacher and waiting for the disk included; `cp` does neither. Caches are warm."""
    teacher, student, copy = (folder / f"large_{name}.safetensors" for name in ("teacher", "student", "copy"))
    graph = large_network(gib)
    try:
        Net2Net(graph, RandomTensors(graph), Origin({}, {}, (), str)).save(teacher, force=True)
        for name, widths in GROWTHS.items():
            command: Command = [
                NET2NET,
                "widen",
                teacher,
                *widths,
                "--no-verify",
                "--allow-nan",
                "--quiet",
                "-o",
                student,
            ]
            target = 1.5 if gib >= STATED_GIB else None
            yield from _measure_growth(f"{name}, {gib:g} GiB", command, teacher, student, copy, rounds, target)
    finally:
        for path in (teacher, student, copy):
            _remove(path)


def _measure_growth(
    name: str, command: Command, teacher: Path, student: Path, copy: Path, rounds: int, target: float | None
) -> Iterator[Row]:
    def grow() -> float:
        _remove(student)
        _touch_memory(copy)
        return process_seconds(command, student.parent)

    def duplicate() -> float:
        _remove(copy)
        _touch_memory(copy)
        return process_seconds(["cp", "--reflink=never", student, copy], student.parent)

    runs = {"net2net": grow, "cp": duplicate, "sha256": lambda: _digest(teacher)}
    seconds = medians(runs, rounds)
    yield Row(name, seconds["net2net"], seconds["cp"], "cp of the student", target)
    yield Row("  sha256 of the teacher alone", seconds["sha256"], seconds["cp"], "cp of the student", None)
    _remove(student)
    _remove(copy)
    yield _memory("  its memory", command, student)
    yield from _measure_proof(teacher, student, rounds, target and PROOF_TARGET)


def _measure_proof(teacher: Path, student: Path, rounds: int, target: float | None) -> Iterator[Row]:
    prove: Command = [NET2NET, "verify", teacher, student, "--level", "proof", "--quiet"]
    runs = {
        "net2net": lambda: process_seconds(prove, student.parent),
        "cat": lambda: process_seconds(["cat", teacher, student], student.parent),
    }
    seconds = medians(runs, rounds)
    yield Row("  its proof", seconds["net2net"], seconds["cat"], "cat of both files", target)
    yield _memory("  the proof's memory", prove, student)


def _memory(name: str, command: Command, student: Path) -> Row:
    peak = peak_anonymous(command, student.parent)
    return Row(name, peak / 1e6, (LARGEST_BASE + 2 * _largest(student)) / 1e6, "250 MB + 2 largest", 1.0, "MB")


def _touch_memory(scratch: Path) -> None:
    """Write a file of a teacher's size and remove it, so that the next one finds pages that the host need not fetch.

    Where the machine is a virtual one, the first touch of a page costs more than all that is done with it; whoever ran
    second would find the pages that the first one left.
    """
    zeros = bytes(16 << 20)
    with scratch.open("wb", buffering=0) as file:
        for _ in range(SCRATCH_BYTES // len(zeros)):
            file.write(zeros)
    scratch.unlink()


def _remove(path: Path) -> None:
    for file in (path, path.with_suffix(".json")):
        file.unlink(missing_ok=True)


def _largest(path: Path) -> int:
    """Bytes of the largest tensor in a file."""
    with open_checkpoint(path) as checkpoint:
        return max(info.nbytes for info in checkpoint.tensors.values())


def _digest(path: Path) -> float:
    """Seconds that the teacher's SHA-256 takes, which its student records."""
    with open_checkpoint(path) as checkpoint:
        return timed(checkpoint.sha256)


def peak_anonymous(command: Command, folder: Path) -> int:
    """The most bytes of its own (RssAnon: neither files nor shared) that a process held, looked at every 5 ms."""
    peak = 0
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.005)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
