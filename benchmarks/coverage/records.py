"""What a sweep has found, one JSON object a line: so that a sweep can go on where it stopped."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import lzma
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import net2net_cli

EXACT, INSENSITIVE, WRONG, REFUSED, CRASHED = "exact", "insensitive", "wrong", "refused", "crashed"
OUTCOMES = (EXACT, INSENSITIVE, WRONG, REFUSED, CRASHED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One layer or block, and what was asked of it: `2x`, `1.5x`, `+1`, `deepen` or `repeat`; `=8`, a width by name.

    Attributes:
        outcome: `exact`: the student returns what the teacher returns, and scrambling the layer is seen;
            `insensitive`: scrambling is not seen; `wrong`; `refused`; `crashed`.
        error: max |Δ| / standard deviation of the teacher's output, over all outputs and modes.
        allowed: what that may be, where it is more than the usual.
        moved: how far scrambling the layer moved the output, in the same unit.
        through: the layer that was asked for, where this one has no width of its own.
        cause: why it was refused, wrong or crashed.
        hint: what the refusal says to do next.
        named: the growth to the width that the hint names, which is then attempted too.
        together: how many growths the student has that was compared.
    """

    network: str
    layer: str
    growth: str
    outcome: str
    op: str = ""
    split: str | None = None
    error: float | None = None
    allowed: float | None = None
    moved: float | None = None
    through: str | None = None
    cause: str | None = None
    hint: str | None = None
    named: str | None = None
    together: int = 1
    code: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """What is known of a network before anything grows.

    Attributes:
        input: shape of one input.
        layers: layers with parameters.
        attempts: how many there are, of which a sample may have been made.
        unread: parameters of the module that its spec lacks.
        labels: seconds that all coupled groups take, from the text of the spec; a median.
        depgraph: seconds of Torch-Pruning's dependency graph; a median. Or why there is none.
        failed: why it could not be imported; or, where its layers are known, why its process ended.
    """

    network: str
    input: tuple[int, ...] = ()
    parameters: int = 0
    layers: int = 0
    attempts: int = 0
    unread: tuple[str, ...] = ()
    labels: float | None = None
    depgraph: float | str | None = None
    failed: str | None = None
    code: str = ""


Record: TypeAlias = Attempt | Network
Key: TypeAlias = tuple[str, str, str]


@cache
def code_state() -> str:
    """The tool and what it runs on: its version, its sources, and torch."""
    package = Path(net2net_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision"))
    return ", ".join((f"net2net {net2net_cli.__version__} ({digest.hexdigest()[:12]})", *versions))


@dataclass
class Results:
    """The newest record of each network and each attempt; older ones of other code count until they are replaced."""

    networks: dict[str, Network] = field(default_factory=dict)
    attempts: dict[Key, Attempt] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take it in place of an older one; what was known of a network whose process ended is still known."""
        if isinstance(record, Network):
            known = self.networks.get(record.network)
            ended = record.failed and not record.layers and known is not None and known.code == record.code
            self.networks[record.network] = replace(known, failed=record.failed) if known and ended else record
        else:
            self.attempts[record.network, record.layer, record.growth] = record

    def done(self, code: str | None) -> set[Key]:
        """Attempts that need not be made again: those made with this code, or all where `code` is None."""
        return {key for key, attempt in self.attempts.items() if code in (None, attempt.code)}

    def only(self, network: str) -> Results:
        """What is known of one network."""
        networks = {network: self.networks[network]} if network in self.networks else {}
        return Results(networks, {key: one for key, one in self.attempts.items() if key[0] == network})

    def of(self, network: str) -> list[Attempt]:
        """Attempts at a network, in the order they were made."""
        return [attempt for (name, _, _), attempt in self.attempts.items() if name == network]


def line_of(record: Record) -> str:
    """A record as one line."""
    kept = {key: value for key, value in asdict(record).items() if value not in (None, "", ())}
    return json.dumps({"kind": type(record).__name__.lower(), **kept}, ensure_ascii=False)


def read(path: Path, archive: Path | None = None) -> Results:
    """All records of a file; none where there is no file. A last line that was cut off is passed over.

    Args:
        path: of the file.
        archive: of earlier records, compressed, which those of the file replace.
    """
    results = Results()
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if archive is not None and archive.exists():
        lines = lzma.decompress(archive.read_bytes()).decode("utf-8").splitlines() + lines
    for number, line in enumerate(lines, start=1):
        try:
            results.add(_record(json.loads(line)))
        except (json.JSONDecodeError, KeyError, TypeError) as wrong:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is no result of a sweep: {wrong}") from wrong
    return results


def _record(fields: dict[str, Any]) -> Record:
    kind = fields.pop("kind")
    if kind == "attempt":
        return Attempt(**fields)
    for key in {"input", "unread"} & fields.keys():
        fields[key] = tuple(fields[key])
    return Network(**fields)


def archived(results: Results) -> bytes:
    """All records, compressed: a seventieth of their size, since they resemble each other."""
    records: list[Record] = [*results.networks.values(), *results.attempts.values()]
    text = "".join(sorted(line_of(record) + "\n" for record in records))
    return lzma.compress(text.encode("utf-8"), preset=9)


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to the file, behind a torn line if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line_of(record) + "\n" for record in records)


def _drop_torn_line(path: Path) -> None:
    """Cut off what stands behind the last newline: a line that was being written when the sweep was stopped."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        if not size:
            return
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
