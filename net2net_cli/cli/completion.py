"""Layer names for the shell, read from the spec alone: no numpy, and silence where anything is wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer import Context

SPEC_KEY = "net2net.spec"
MOST_BYTES = 1 << 26
_WIDTHS = ("out_channels", "out_features")


def complete_layer(ctx: Context, incomplete: str) -> list[str]:
    """Layers that have a width of their own, and the blocks they stand in."""
    names = _names(ctx)
    blocks = {name[:i] for name in names for i, c in enumerate(name) if c == "."}
    return [name for name in dict.fromkeys([*names, *sorted(blocks)]) if name.startswith(incomplete)]


def complete_growth(ctx: Context, incomplete: str) -> list[str]:
    """The same layers with a width, which is easily changed: `conv1=2x`."""
    return [f"{name}=2x" for name in _names(ctx) if f"{name}=2x".startswith(incomplete)]


def _names(ctx: Context) -> list[str]:
    with suppress(Exception):  # completion has nobody to tell
        layers = _document(ctx.params)["layers"]
        return [layer["name"] for layer in layers if any(key in layer for key in _WIDTHS)]
    return []


def _document(params: dict[str, Any]) -> dict[str, Any]:
    """The spec as JSON: given, embedded, or beside the checkpoint."""
    checkpoint = Path(params.get("teacher") or params["checkpoint"])
    source = params.get("spec") or (checkpoint if checkpoint.suffix == ".json" else None)
    text = Path(source).read_text(encoding="utf-8") if source else _embedded(checkpoint)
    found: dict[str, Any] = json.loads(text or checkpoint.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def _embedded(checkpoint: Path) -> str | None:
    with checkpoint.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length)) if length <= MOST_BYTES else {}
    spec: str | None = header.get("__metadata__", {}).get(SPEC_KEY)
    return spec
