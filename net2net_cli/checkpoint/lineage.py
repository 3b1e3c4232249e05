"""The metadata of a student: its spec, how it was grown, tied tensors, and what its teacher's metadata said."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from net2net_cli.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

SPEC_KEY = "net2net.spec"
LINEAGE_KEY = "net2net.lineage"
UNKNOWN_SHA256 = "0" * 64
"""Stands for the teacher's digest until it is known; see `late_lineage`."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation in the history of a checkpoint; no path, time or host name.

    Attributes:
        operation: the command, `widen` or the like.
        arguments: what it was asked to do.
        seed: None for an operation that draws nothing.
        exact: whether the student computes what the teacher computes.
        teacher_sha256: of the file that was grown, or `UNKNOWN_SHA256` as long as it is being computed.
        tool_version: of net2net.
        target: the spec that a growth after another network led to, in a history that goes on behind it.
    """

    operation: str
    arguments: Mapping[str, JSON]
    seed: int | None
    exact: bool
    teacher_sha256: str
    tool_version: str
    target: str | None = None

    @property
    def like(self) -> bool:
        """Whether it was done after the spec of another network, of which the arguments say too little to repeat it."""
        return self.operation == "grow" or "like" in self.arguments


def student_metadata(
    teacher_metadata: Mapping[str, str],
    spec_text: str,
    steps: Sequence[Step],
    aliases: Mapping[str, str],
    *,
    teacher_aliases: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The metadata to write into a student.

    Args:
        teacher_metadata: as it was read; its own spec and lineage are not carried over.
        spec_text: the student's spec.
        steps: the whole history, the teacher's first (`read_lineage`).
        aliases: the student's tied tensors, dropped name -> stored name, as `safetensors.torch.save_model` has them.
        teacher_aliases: the teacher's, which are in its metadata and may hold no longer.
    """
    stale = (teacher_aliases or {}).keys()
    carried = {
        key: value for key, value in teacher_metadata.items() if key not in stale and not key.startswith("net2net.")
    }
    own = {"format": "pt", SPEC_KEY: spec_text, LINEAGE_KEY: _lineage_text(steps)}
    return {**carried, **aliases, **own}


def late_lineage(steps: Sequence[Step], teacher_sha256: Callable[[], str]) -> dict[str, Callable[[], str]]:
    """`write_checkpoint`'s `late` for a history in which steps still hold `UNKNOWN_SHA256`: all get the digest."""

    def final() -> str:
        digest = teacher_sha256()
        return _lineage_text(
            [replace(step, teacher_sha256=digest) if step.teacher_sha256 == UNKNOWN_SHA256 else step for step in steps]
        )

    return {LINEAGE_KEY: final}


def read_lineage(metadata: Mapping[str, str]) -> list[Step]:
    """The history of a checkpoint, oldest step first; empty if it was never grown.

    Raises:
        CheckpointError: the entry is there, but not as this project writes it.
    """
    text = metadata.get(LINEAGE_KEY)
    if text is None:
        return []
    try:
        records = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise _malformed("", f"is not JSON ({error})") from error
    if not isinstance(records, list):
        raise _malformed("", "is not a list")
    return [_read_step(f"[{index}]", record) for index, record in enumerate(records)]


def _finite(text: str) -> float:
    """A number of JSON; NaN and infinity, which Python would read, are none, and could not be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is no number")
    return number


def _lineage_text(steps: Sequence[Step]) -> str:
    # ASCII, so that even an argument that is not Unicode (a file name may be that) can be written. The order of
    # arguments is kept: widths are drawn layer by layer as they were named.
    return json.dumps([_record(step) for step in steps], allow_nan=False)


def _record(step: Step) -> dict[str, Any]:
    record: dict[str, Any] = {key: getattr(step, key) for key in sorted(_KINDS)}
    record["arguments"] = {key: step.arguments[key] for key in sorted(step.arguments)}
    return record if step.target is None else {**record, "target": step.target}


def _read_step(place: str, record: Any) -> Step:
    """One record; keys that a later version may have added are passed over."""
    if not isinstance(record, dict):
        raise _malformed(place, "is not an object")
    values = {key: _field(place, record, key, kinds) for key, kinds in _KINDS.items()}
    if not _SHA256.fullmatch(values["teacher_sha256"]):
        raise _malformed(f"{place}.teacher_sha256", "is not a SHA-256 in hex")
    target = _field(place, record, "target", (str,)) if "target" in record else None
    return Step(**values, target=target)


_KINDS: dict[str, tuple[type, ...]] = {
    "operation": (str,),
    "arguments": (dict,),
    "seed": (int, type(None)),
    "exact": (bool,),
    "teacher_sha256": (str,),
    "tool_version": (str,),
}


_SAID = {str: "a text", dict: "an object", int: "a whole number or null", bool: "true or false"}


def _field(place: str, record: dict[str, Any], key: str, kinds: tuple[type, ...]) -> Any:
    if key not in record:
        raise _malformed(f"{place}.{key}", "is missing")
    value = record[key]
    if type(value) not in kinds:  # not isinstance: JSON's `true` is an int to Python
        raise _malformed(f"{place}.{key}", f"is {value!r:.60}; {_SAID[kinds[0]]} is needed")
    return value


def _malformed(place: str, problem: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's `{LINEAGE_KEY}{place}` {problem}",
        "the metadata was edited; restore it, or remove this entry",
    )
