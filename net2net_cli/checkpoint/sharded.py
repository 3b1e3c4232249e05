"""The index of a checkpoint in several files, as `transformers` writes it (`model.safetensors.index.json`).

{"metadata": {"total_size": 123}, "weight_map": {"fc.weight": "model-00001-of-00002.safetensors", …}}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from net2net_cli.checkpoint.text_file import MOST_INDEX_BYTES, read_text
from net2net_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_MOST_NAME = 255
_HINT = "fetch the index again, or give the file with the tensors"


def read_index(path: Path) -> dict[str, Path]:
    """Tensor -> the file that holds it. All lie in the folder of the index: it cannot point anywhere else.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is no index.
        MachineError: it may not be read.
    """
    try:
        document = json.loads(read_text(path, MOST_INDEX_BYTES))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"`{path}` is no index of shards: it is not valid JSON ({error!s:.100})", _HINT) from None
    found = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"`{path}` is no index of shards: it has no `weight_map`", _HINT)
    for name, file in found.items():
        if not _is_file_name(file):
            raise CheckpointError(
                f"`{path}` says that `{name:.100}` is in {json.dumps(file)[:100]}, which is no file name", _HINT
            )
    return {name: path.with_name(file) for name, file in found.items()}


def _is_file_name(value: Any) -> bool:
    """Whether it is one on every system, and leads nowhere else."""
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_NAME or not value.isprintable():
        return False
    return not set(value) & set("/\\:") and value.strip(".") != "" and not value.endswith(".json")
