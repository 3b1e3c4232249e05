"""What a person can put right: told as the tool tells it, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from net2net_cli.errors import Net2NetError


class ExperimentError(Exception):
    """Something is missing or does not fit.

    Attributes:
        hint: what to do next.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def exit_code_of(run: Callable[[], None]) -> int:
    """Run it; 0, or 2 after its error was told on stderr."""
    try:
        run()
    except (ExperimentError, Net2NetError) as error:
        sys.stderr.write(f"error: {error}\n\nhint: {error.hint or 'see experiments/README.md'}\n")
        return 2
    return 0
