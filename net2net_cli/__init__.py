"""Grow trained neural networks, wider or deeper, without changing what they compute.

The public surface is `Net2Net`, `__version__` and `net2net_cli.errors`; everything else may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from net2net_cli.version import __version__

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

__all__ = ["Net2Net", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that `net2net --help` costs no numpy.
    if name == "Net2Net":
        from net2net_cli.model import Net2Net

        return Net2Net
    raise AttributeError(f"module `net2net_cli` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
