"""What any input must keep to, and where it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzz.sandbox import SECONDS, Done
from fuzz.values import CANARY

CODES = (0, 1, 2, 3, 4)
"""DESIGN's exit codes that an input can bring about; 5 would be the machine's fault, 70 ours."""

ALLOWANCE = 32 << 20
"""Bytes of memory that are not looked at: the interpreter's own ups and downs."""

BYTES_A_CHANNEL = 96
"""What a command keeps of each channel of a network; a spec has at most `spec_checks.MAX_CHANNELS`."""

MOST_SAID = 8100
"""Characters of a message; a hostile name must not fill the screen."""


@dataclass(frozen=True)
class Finding:
    """A rule that was broken: which, and where in our code (what tells one cause from another)."""

    rule: str
    where: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}"


def findings(done: Done, folder: Path, usual: Mapping[str, int]) -> list[Finding]:
    """Every rule that a case broke.

    Args:
        done: what came of it.
        folder: where it ran.
        usual: command -> memory that it takes with a sound input of next to no size.
    """
    found = [Finding("watched", re.sub(r"\d+|/tmp/\S+", "N", what)[:120]) for what in done.seen]
    found += [Finding("changed outside of the output folder", path) for path in done.changed]
    if done.escaped:
        last = (done.escaped.strip().splitlines() or ["?"])[-1]
        return [*found, Finding("hang" if last == "hang" else "escaped", f"{command(done)} {last}"[:160])]
    short_of_memory = done.runs_network and done.code == 5 and "not enough memory" in done.err
    too_large = command(done) == "apply" and done.code == 5 and "disk full: the file needs" in done.err
    if done.code not in CODES and not short_of_memory and not too_large:  # a recipe may ask for any size
        found.append(Finding(f"exit code {done.code}", cause(done.err)))
    if done.seconds > SECONDS:
        found.append(Finding("slow", f"{command(done)} {done.kind}"))
    return found + _memory(done, usual) + _said(done) + _written(done, folder)


def command(done: Done) -> str:
    """The command's name."""
    return done.arguments[0] if done.arguments else "?"


def cause(err: str) -> str:
    """The innermost place in our own code of a traceback, and the exception; or the error."""
    places = re.findall(r'File ".*?net2net_cli/([^"]+)", line (\d+), in (\S+)', err)
    lines = [line for line in err.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit|Warning)\b", line)]
    if places:
        file, line, function = places[-1]
        return f"{file}:{line} in {function}: {re.sub(r'[0-9]+', 'N', lines[-1] if lines else '')[:100]}"
    return re.sub(r"\d+", "N", err.strip())[:120]


def _memory(done: Done, usual: Mapping[str, int]) -> list[Finding]:
    if done.runs_network or (done.code == 0 and command(done) == "apply"):  # a recipe may ask for a large student
        return []
    allowed = usual.get(command(done), 0) + 2 * done.hostile + BYTES_A_CHANNEL * done.channels + ALLOWANCE
    if done.memory <= allowed:
        return []
    return [Finding("memory", f"{command(done)} of a hostile {done.kind}")]


def _said(done: Done) -> list[Finding]:
    found = []
    if "Traceback" in done.err and done.code != 70:
        found.append(Finding("traceback", cause(done.err)))
    odd = next((c for c in done.out + done.err if c != "\n" and not c.isprintable()), None)
    if odd is not None:
        found.append(Finding("raw control character", f"{command(done)} {done.kind} {odd!r}"))
    if done.code in (2, 3, 4) and not re.search(r"^error: \S", done.err, re.MULTILINE):
        found.append(Finding("no message", f"{command(done)} {done.err!r:.60}"))
    if done.code in (2, 3, 4) and done.out:
        found.append(Finding("data beside an error", f"{command(done)}"))
    if done.code and len(done.err) > MOST_SAID:
        found.append(Finding("long message", re.sub(r"\d+", "N", done.err)[:60]))
    return found


def _written(done: Done, folder: Path) -> list[Finding]:
    """A command that fails writes nothing; another leaves no temporary file, and no source that holds a trap."""
    if done.code and done.left:
        return [Finding("written in spite of an error", f"{command(done)} {re.sub('[0-9]+', 'N', done.left[0])}")]
    if any(name.endswith(".part") for name in done.left):
        return [Finding("temporary file left", command(done))]
    return [
        Finding("hostile source", problem)
        for name in done.left
        if name.endswith(".py") and (problem := _hostile(folder / "out" / name))
    ]


def _hostile(path: Path) -> str:
    """Why an exported file cannot be trusted: it is no Python, or text of the spec stands in it as code."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        return f"not Python: {error}"[:100]
    for node in ast.walk(tree):
        for name in ("id", "attr", "arg", "name", "module"):
            value = getattr(node, name, None)
            if isinstance(node, ast.ClassDef) or not isinstance(value, str):  # a class may be called anything
                continue
            if CANARY in value or "__import__" in value:
                return f"{type(node).__name__}.{name}"
    return ""
