"""Text files of a bounded size: specs, recipes, indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net2net_cli.checkpoint.os_errors import explain_os_error, size
from net2net_cli.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MOST_SPEC_BYTES = 64 << 20
MOST_RECIPE_BYTES = 1 << 20
MOST_INDEX_BYTES = 64 << 20


def read_text(path: Path, most: int) -> str:
    """The text of a file, of which no more than `most` bytes are read: a device or a pipe may have no end.

    Raises:
        UsageError: there is no such file.
        InputError: it is longer, or is not UTF-8 text.
        MachineError: it may not be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    if len(data) > most:
        raise InputError(
            f"`{path}` is longer than the {size(most)} that are read", "check that this is the file you mean"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"`{path}` is not UTF-8 text", "check that this is the file you mean") from error
