"""All that is printed goes through here: data to stdout, everything said to a person to stderr.

A closed pipe is silent: what was asked for is still done, and the exit code still tells how it went.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

_BOLD, _DIM, _RED, _YELLOW, _CYAN = "1", "2", "1;31", "1;33", "36"
MOST_SAID = 4000
"""Characters of a message or a hint."""

_ODD = re.compile(r"[^\n\x20-\x7e]")
_OWN_STYLES = re.compile(f"(\x1b\\[(?:0|{_BOLD}|{_DIM})m)")
"""What `bold` and `dim` put into tables."""


@dataclass(frozen=True, slots=True)
class Printer:
    """What a command says, and where.

    Attributes:
        quiet: only errors, and the data that `--json` asks for.
        verbose: details as well.
        json: data as one JSON object, instead of tables.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False

    @property
    def silent(self) -> bool:
        """Whether nobody is told what was done."""
        return self.quiet and not self.json

    def say(self, text: str) -> None:
        """Tell a person what happens."""
        self._say("", text)

    def detail(self, text: str) -> None:
        """Tell a person who wants to know more."""
        if self.verbose:
            self.say(text)

    def note(self, text: str) -> None:
        """Tell a person what is worth knowing."""
        self._say(styled(sys.stderr, "note:", _CYAN) + " ", text)

    def warn(self, text: str) -> None:
        """Tell a person what may be wrong."""
        self._say(styled(sys.stderr, "warning:", _YELLOW) + " ", text)

    def _say(self, prefix: str, text: str) -> None:
        if not self.quiet:
            _write(sys.stderr, f"{prefix}{harmless(text)}\n")

    def summary(self, text: str, payload: Mapping[str, Any]) -> None:
        """What was done: a table that `--quiet` leaves out, or the JSON object."""
        if not self.silent:
            self.data(text, payload)

    def object(self, payload: Mapping[str, Any]) -> None:
        """The JSON object, where a person has been told already."""
        if self.json:
            self.data("", payload)

    def data(self, text: str, payload: Mapping[str, Any]) -> None:
        """What was asked for: a table, or the JSON object."""
        _write(sys.stdout, (_json(payload) if self.json else _harmless_table(text.rstrip("\n"))) + "\n")


def _json(payload: Mapping[str, Any]) -> str:
    import json

    return json.dumps(payload, indent=1, allow_nan=False)


@contextmanager
def code_that_may_print(*, trusted: bool) -> Iterator[None]:
    """Where code of the user's runs, because it is trusted, what it prints goes to stderr: stdout carries data only."""
    with redirect_stdout(sys.stderr) if trusted else nullcontext():
        yield


def print_error(message: str, hint: str | None) -> None:
    """`error: …`, a blank line, `hint: …`."""
    text = f"{styled(sys.stderr, 'error:', _RED)} {harmless(_shortened(message))}\n"
    if hint:
        text += f"\n{styled(sys.stderr, 'hint:', _CYAN)} {harmless(_shortened(hint))}\n"
    _write(sys.stderr, text)


def print_raw(text: str) -> None:
    """Data that is text by itself: a schema, a source file."""
    _write(sys.stdout, text)


def bold(text: str) -> str:
    """Emphasised, where stdout is a terminal."""
    return styled(sys.stdout, text, _BOLD)


def dim(text: str) -> str:
    """Less prominent, where stdout is a terminal."""
    return styled(sys.stdout, text, _DIM)


def styled(stream: TextIO | None, text: str, code: str) -> str:
    """The text in a style, if the stream is a terminal and the user wants colours."""
    return f"\x1b[{code}m{text}\x1b[0m" if text and _coloured(stream) else text


def _coloured(stream: TextIO | None) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches."""
    return stream is not None and not stream.closed and stream.isatty()


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None where output goes to a file or a pipe, which has no width."""
    import shutil

    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def harmless(text: str) -> str:
    """The text with all that would steer a terminal, hide, or turn what follows around, written as an escape.

    Names in files and of files may hold any character.
    """
    return _ODD.sub(lambda found: found[0] if found[0].isprintable() else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _shortened(text: str) -> str:
    """A message that a name in a file cannot make fill the screen."""
    return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID - 400]} … {text[-400:]}"


def _harmless_table(text: str) -> str:
    """Likewise; where stdout is a terminal, a table has styles of its own."""
    if not _coloured(sys.stdout):
        return harmless(text)
    return "".join(part if i % 2 else harmless(part) for i, part in enumerate(_OWN_STYLES.split(text)))


def _write(stream: TextIO | None, text: str) -> None:
    """Write now; a reader that has gone is no error."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        stream.flush()
    except BrokenPipeError:
        close(stream)


def close(stream: TextIO) -> None:
    """Let the rest of a stream go nowhere, also when the interpreter flushes it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def close_stdout() -> None:
    """Let the rest of stdout go nowhere."""
    if sys.stdout is not None:
        close(sys.stdout)


def flush() -> None:
    """Write what is still held back, so that a closed pipe or a full disk is met here and not at the very end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            _write(stream, "")
