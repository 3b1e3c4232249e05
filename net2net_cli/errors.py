"""What can go wrong, and what the user can do about it.

Every exception of the project derives from `Net2NetError` and carries a message (what is wrong, naming the place),
a hint (the next step to take) and the exit code of the command that it ends.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; scripts rely on them."""

    OK = 0
    DIFFERENT = 1
    USAGE = 2
    INPUT = 3
    REFUSED = 4
    MACHINE = 5
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


class Net2NetError(Exception):
    """Base class: a message in lower case, with backticks around what can be typed, and an optional hint."""

    exit_code = ExitCode.BUG

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class OutputsDifferError(Net2NetError):
    """Two networks were compared and do not compute the same."""

    exit_code = ExitCode.DIFFERENT


class NotProvedError(Net2NetError):
    """A student is not, bit by bit, what its lineage makes of its teacher, or that is no proof of equal outputs."""

    exit_code = ExitCode.DIFFERENT


class UsageError(Net2NetError):
    """The command or call names something that does not exist or cannot be meant."""

    exit_code = ExitCode.USAGE


class InputError(Net2NetError):
    """An input file or module is unreadable or inconsistent."""

    exit_code = ExitCode.INPUT


class SpecError(InputError):
    """A spec breaks its format; the message holds the JSON path."""


class CheckpointError(InputError):
    """A checkpoint is damaged, or does not fit its spec."""


class UntrustedCodeError(InputError):
    """A spec names code, and nobody said that it may be run."""


class TraceError(InputError):
    """A module cannot be turned into a spec; the message holds the user's source line."""


class GrowthRefusedError(Net2NetError):
    """This growth cannot be exact here.

    Attributes:
        layer: the layer that was asked to grow, or at which exactness ends.

    """

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, hint: str | None = None, *, layer: str | None = None) -> None:
        super().__init__(message, hint)
        self.layer = layer


class MachineError(Net2NetError):
    """Sound request, but this machine cannot: disk full, no permission, no CUDA device, out of memory."""

    exit_code = ExitCode.MACHINE
