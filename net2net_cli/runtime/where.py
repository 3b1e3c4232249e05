"""Where in the user's own source something happens, for messages."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import torch

from net2net_cli.errors import TraceError

_FOREIGN = tuple(str(Path(home).parent) + "/" for home in (torch.__file__, __file__))
_FOREIGN_PACKAGES = ("/einops/", "/contextlib.py", "/functools.py")


@dataclass(frozen=True, slots=True)
class Where:
    """A line of the user's source and the module that runs it; parts that are not known are empty."""

    file: str = ""
    line: int = 0
    module: str = ""
    kind: str = ""

    @property
    def code(self) -> str:
        """The line's text."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        module = f"in module `{self.module}` of class `{self.kind}`" if self.module else f"in class `{self.kind}`"
        if not self.file:
            return module if self.kind else ""
        line = f"at {self.file}:{self.line}"
        return f"{line}, {module}: `{self.code}`" if self.kind else f"{line}: `{self.code}`"

    def error(self, problem: str, hint: str | None = None) -> TraceError:
        """The problem, said with the place."""
        return TraceError(f"{problem}, {self}" if str(self) else problem, hint)


def _is_users(file: str) -> bool:
    return not file.startswith((*_FOREIGN, "<frozen")) and not any(part in file for part in _FOREIGN_PACKAGES)


def here(module: str, kind: str, stop: FrameType | None) -> Where:
    """The innermost line of the user's that runs now, looked for up to the frame `stop`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not stop:
        if _is_users(frame.f_code.co_filename):
            return Where(frame.f_code.co_filename, frame.f_lineno, module, kind)
        frame = frame.f_back
    return Where(module=module, kind=kind)


def raised_at(trace: TracebackType | None, module: str, kind: str, entry: str) -> Where:
    """The innermost line of the user's that an exception passed through, after the frame of the function `entry`."""
    found = Where(module=module, kind=kind)
    inside = False
    while trace is not None:
        code = trace.tb_frame.f_code
        if inside and _is_users(code.co_filename):
            found = Where(code.co_filename, trace.tb_lineno, module, kind)
        inside = inside or code.co_name == entry
        trace = trace.tb_next
    return found
