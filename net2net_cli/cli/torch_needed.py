"""PyTorch, asked for before any work is done that would be in vain without it."""

from __future__ import annotations

from net2net_cli.errors import MachineError

SEE = "`net2net env` shows what this machine has"


def need_torch(otherwise: str | None = None) -> None:
    """Import it.

    Args:
        otherwise: what the user can do without it, for the hint.

    Raises:
        MachineError: it is not installed, or the installation is broken.
    """
    try:
        import torch  # noqa: F401
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = f"{otherwise}; {SEE}" if otherwise else f"install it: `pip install torch`; {SEE}"
        raise MachineError(f"cannot import PyTorch: {reason}", hint) from error
