"""What a command does while it runs, seen by Python's audit hook and by the kernel's accounts."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

STARTS = (
    *(
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "subprocess.Popen",
    ),
    *(
        "socket.connect",
        "socket.bind",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "urllib.Request",
        "webbrowser.open",
    ),
    *("pickle.find_class", "ctypes.dlopen", "code.__new__", "sys.addaudithook", "sys.setprofile", "sys.settrace"),
)
"""Events that no input may bring about."""

CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *(
        "os.utime",
        "os.setxattr",
        "shutil.rmtree",
        "shutil.move",
        "shutil.copyfile",
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
    ),
)
"""Events that change the file system; each path among their arguments has to be in the output folder."""

CODE_MAKERS = (
    *("collections/__init__.py", "dataclasses.py", "enum.py", "functools.py", "typing.py", "<frozen importlib"),
    *("/torch/fx/", "/torch/_jit_internal.py", "/ast.py", "/typer/", "/linecache.py", "/inspect.py", "/click/"),
)
"""Where code is compiled or run that no file has a say in."""


@dataclass
class Watch:
    """Notes what happens outside of what a command may do.

    Attributes:
        out: the folder in which alone anything may change.
        trusted: Python files that the command line itself names, which may run.
        unread: files that must not even be opened.
        seen: what happened, in words.
    """

    out: str = ""
    trusted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    seen: list[str] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    active: bool = False
    hooked: bool = False

    @contextmanager
    def watching(self, out: str, trusted: tuple[str, ...] = (), unread: tuple[str, ...] = ()) -> Iterator[None]:
        """Watch what happens inside; the hook stays for as long as the process lives."""
        self.out, self.trusted, self.unread, self.seen = out, trusted, unread, []
        self.known = frozenset(name.partition(".")[0] for name in sys.modules)
        if not self.hooked:
            sys.addaudithook(self._hook)
            self.hooked = True
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active:
            self.active = False  # what the hook itself does
            try:
                self._judge(event, arguments)
            finally:
                self.active = True

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(*arguments)
        elif event in STARTS or event.startswith("socket."):
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in CHANGES:
            for path in arguments:
                if isinstance(path, (str, bytes, os.PathLike)) and not self._inside(path):
                    self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "import":
            self._imported(arguments[0])
        elif event in ("exec", "compile"):
            self._made_code(event, arguments)

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        if flags & WRITES and not self._inside(path) and os.fsdecode(path) != os.devnull:
            self.seen.append(f"opened for writing: {path!r:.200}")
        if os.path.realpath(os.fsdecode(path)) in self.unread:
            self.seen.append(f"opened for reading: {path!r:.200}")

    def _inside(self, path: Any) -> bool:
        with suppress(ValueError):
            return Path(os.path.realpath(Path(os.fsdecode(path)).parent)).is_relative_to(self.out)
        return False

    def _imported(self, module: str) -> None:
        top = module.partition(".")[0]
        trusted = {Path(file).stem for file in self.trusted}
        if top not in self.known and top not in trusted:
            self.seen.append(f"imported `{module}`")

    def _made_code(self, event: str, arguments: tuple[Any, ...]) -> None:
        frame = sys._getframe(3)
        maker = frame.f_code.co_filename
        name = getattr(arguments[0], "co_filename", "") if event == "exec" else str(arguments[1])
        if name in self.trusted or any(part in maker for part in CODE_MAKERS):
            return
        self.seen.append(f"{event} of `{name}` by {maker}:{frame.f_lineno}")


def status(key: str) -> int:
    """A line of this process's status in bytes: `VmRSS` is what it has in memory, `VmHWM` the most that it had."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def measured(run: Callable[[], None]) -> int:
    """Run, and return how far above the memory of before it went, in bytes."""
    with suppress(OSError, AttributeError):  # what earlier tests freed would be used again, and not be counted
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most so far is what there is now
    before = status("VmRSS")
    run()
    return status("VmHWM") - before
