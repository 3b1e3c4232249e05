"""Where exceptions end: each becomes an exit code, and at most one clear message on stderr."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from typer.core import TyperGroup

from net2net_cli.cli.conversion import read_plainly
from net2net_cli.cli.printing import close_stdout, flush, print_error
from net2net_cli.errors import ExitCode, Net2NetError, UsageError

if TYPE_CHECKING:
    from types import FrameType

REPORT = "this is a bug in net2net; please report it, with the lines above"


class TerminatedError(BaseException):
    """The process was asked to end by a signal; a `BaseException`, so that only clean-up runs on its way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class CommandGroup(TyperGroup):
    """The commands, with one way out for all that can go wrong in them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """What stands in front of a command."""
        return read_plainly(super().get_params(ctx))

    def main(self, args: Any = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command; ends the process unless `standalone_mode` is off."""
        run: Any = super().main
        code = exit_code_of(lambda: run(args, *rest, standalone_mode=False, **extra))
        if standalone_mode:
            _end(code)
        return code

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant; the nearest ones are named where there is no such command."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise unknown_command(name, known)
        return super().resolve_command(ctx, args)


def _end(code: int) -> NoReturn:
    """End the process; at once where it was asked to, since taking torch down takes a second and more.

    Python would also end by SIGINT instead, once an interrupt has passed through code that was compiled from a string.
    """
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED, 128 + getattr(signal, "SIGHUP", 1)):
        end_at_once(code)
    sys.exit(code)


def end_process(code: int) -> NoReturn:
    """End a process that was started for one command, which has been left in good order.

    Without torch there is no code but ours and that of a few packages, which leave nothing for the end: to take all of
    them down would take a tenth of the time of a growth.
    """
    if "torch" not in sys.modules:
        end_at_once(code)
    _end(code)


def end_at_once(code: int) -> NoReturn:
    """End the process without taking down what is loaded."""
    with suppress(OSError, ValueError):
        flush()
    os._exit(code)


def unknown_command(name: str, known: list[str]) -> UsageError:
    """No such command, with the nearest ones."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=2)
    commands = ", ".join(f"`{k}`" for k in known)
    hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else f"the commands are {commands}"
    return UsageError(f"there is no command `{name}`", hint)


def exit_code_of(run: Callable[[], Any]) -> int:
    """Run, tell on stderr what went wrong, if anything did, and return the exit code."""
    try:
        with _signals():
            result = run()
            flush()
        return int(result) if isinstance(result, int) else ExitCode.OK
    except TerminatedError as ended:
        return ended.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BaseException as error:  # noqa: BLE001 # this is the place where every exception ends
        return _told(error)


def _told(error: BaseException) -> int:
    """The exit code of an exception, which is told to the user."""
    cause: BaseException | None = error
    if isinstance(error, SystemExit):
        if error.code is None or (isinstance(error.code, int) and not isinstance(error.__context__, OSError)):
            return error.code or ExitCode.OK  # typer's, when it has served the shell's completion
        cause = error.__context__ if isinstance(error.code, int) else error  # typer exits with 1 on a closed pipe
    if isinstance(cause, BrokenPipeError):
        close_stdout()
        return ExitCode.OK
    if type(cause).__name__ == "Abort":
        return ExitCode.INTERRUPTED
    if type(cause).__name__ == "NoArgsIsHelpError":
        print(getattr(cause, "message", ""), file=sys.stderr)  # noqa: T201 # the help, as typer made it
        return ExitCode.USAGE
    known = as_known(cause)
    if known is None:
        _tell_bug(cause)
        return ExitCode.BUG
    print_error(known.message, known.hint)
    return known.exit_code


def as_known(error: BaseException | None) -> Net2NetError | None:
    """The project's error for an exception; None for what nobody foresaw."""
    from net2net_cli.errors import MachineError

    if isinstance(error, Net2NetError):
        return error if error.exit_code != ExitCode.BUG else None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MachineError("out of memory", "close other programs, or use a machine with more memory")
    if isinstance(error, OSError):
        return _from_os_error(error)
    if hasattr(error, "format_message"):  # typer's own, whose classes have moved between releases
        return _from_typer(error)
    return None


def _from_os_error(error: OSError) -> Net2NetError | None:
    from pathlib import Path

    from net2net_cli.checkpoint.os_errors import explain_os_error
    from net2net_cli.errors import MachineError

    if error.filename is not None:
        return explain_os_error(error, Path(os.fsdecode(error.filename)), "use")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        return MachineError(f"cannot write the output: {os.strerror(error.errno).lower()}", "free some space")
    return None


def _from_typer(error: Any) -> UsageError:
    """A usage error as typer found it, in our words."""
    context: Any = getattr(error, "ctx", None)
    kind = type(error).__name__
    if kind in ("NoSuchOption", "NoSuchOptionError"):
        near = list(error.possibilities or ())  # best first
        message = f"there is no option `{error.option_name}`"
        return UsageError(message, f"did you mean `{near[0]}`?" if near else _help_hint(context))
    if kind == "MissingParameter" and error.param is not None:
        name = error.param.metavar or error.param.name
        return UsageError(f"`{context.command_path}` needs {name}", _example_hint(context))
    return UsageError(_in_our_form(error.format_message()), _help_hint(context))


def _in_our_form(text: str) -> str:
    """Lower case, backticks, no full stop."""
    text = re.sub(r"'([^']+)'", r"`\1`", " ".join(text.split())).rstrip(".").replace("Value error, ", "")
    text = re.sub(r": ([A-Z])(?=[a-z])", lambda match: f": {match[1].lower()}", text)
    return text[:1].lower() + text[1:]


def _help_hint(context: Any) -> str:
    return f"see `{context.command_path if context else 'net2net'} --help`"


def _example_hint(context: Any) -> str:
    """The first example of the command's help."""
    lines = (getattr(context.command, "epilog", None) or "").splitlines()
    example = next((line.strip() for line in lines if line.strip().startswith("net2net ")), None)
    return f"for example `{example}`" if example else _help_hint(context)


def _tell_bug(error: BaseException | None) -> None:
    import traceback

    with suppress(OSError):
        traceback.print_exception(error, file=sys.stderr)
    print_error("unexpected " + type(error).__name__, REPORT)


@contextmanager
def _signals() -> Iterator[None]:
    """Being terminated, or losing the terminal, raises, so that what was begun is cleaned up."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = []
    for number in numbers:
        with suppress(ValueError):  # not in the main thread: the caller's business
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has it ignored, and means it
                signal.signal(number, _terminated)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the clean-up short
    raise TerminatedError(number)
