"""Examples, by what they are about."""

ORDER = (
    *("usage", "inputs", "checkpoints", "specs", "ops", "importing", "tracing", "modules", "code"),
    *("widening", "fresh", "proof", "deepening", "targets", "machine", "proving", "training"),
)
"""The modules, in the order in which `docs/MESSAGES.md` shows them within one exit code."""
