"""Why growth is refused, and which of these reasons are mathematically necessary. What no entry knows is `other`."""

from __future__ import annotations

import re
from dataclasses import dataclass

OUTPUT, INPUT, WIDTH, NO_RULE, OTHER, NO_PLACE = "output", "input", "width", "no rule", "other", "no place"

KINDS = {
    OUTPUT: "the layer's channels are the network's outputs",
    INPUT: "the layer's channels are the network's inputs",
    WIDTH: "the width breaks a divisibility that the network itself needs; the refusal names the next width that fits",
    NO_RULE: "no exact rule exists",
    OTHER: "not known to be necessary",
    NO_PLACE: "nothing to put a new layer behind, or no residual block to repeat: not counted as an attempt",
}

NEXT_WIDTH = re.compile(r"use `[^`]+=(\d+)`")
"""What the hint of a refused width says; the width is its group."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What a refusal may say, the kind that it then is of, and why that is necessary."""

    kind: str
    pattern: re.Pattern[str]
    why: str


BEHIND = "new layers stand behind an activation that the layer has to itself"
LAYER = r"(?:it|`[^`]+`)"

REASONS = tuple(
    Reason(kind, re.compile(pattern), why)
    for kind, pattern, why in (
        (OUTPUT, rf"{LAYER} is the network's output `[^`]+`", "who reads the output must find what was there"),
        (INPUT, r"its channels are those of the network's input", "who calls the network gives it these channels"),
        (WIDTH, rf"{LAYER} needs \d+ sections of equal size", "groups and chunks are equally wide"),
        (
            NO_RULE,
            r"its channels only grow \d+ at a time: a norm averages over them, and `[^`]+` .+",
            "single channels behind whole copies must be at their mean, or zero, and that op does not keep them there",
        ),
        (WIDTH, r"its channels only grow \d+ at a time", "copies of these channels come in wholes alone"),
        (WIDTH, rf"{LAYER} is as wide as its heads of \d+ are together", "heads are copied as wholes"),
        (WIDTH, rf"{LAYER} copies only whole groups of \d+ channels", "a norm takes its statistics over a whole group"),
        (
            NO_RULE,
            rf"{LAYER} sums over neighbouring channels",
            "which channels are neighbours changes with their number",
        ),
        (
            NO_RULE,
            rf"{LAYER} multiplies two activations over it, and no weight can share out the copies",
            "a sum of products of activations has no weight that could hold the shares",
        ),
        (
            NO_RULE,
            r"it ends in `[^`]+`, an? \w+ behind the addition \(post-norm\), and its copy would normalise .+",
            "a norm of normalised channels is another function, whatever the copy's weights",
        ),
        (
            NO_PLACE,
            r"no layer before an? \w+ \(`[^`]+`\) passes every value through unchanged",
            "neither φ(φ(x)) = φ(x) nor φ(x) − φ(−x) = x",
        ),
        (NO_PLACE, r"`[^`]+` \([^)]+\) comes before any activation", BEHIND),
        (NO_PLACE, r"\d+ layers read `[^`]+` before any activation", BEHIND),
        (NO_PLACE, r"the network's output \(`[^`]+`\) comes before any activation", BEHIND),
        (NO_PLACE, r"it does not end in an addition, but in `[^`]+` \([^)]+\)", "it is no residual block"),
    )
)


def classify(cause: str, hint: str | None) -> str:
    """The kind of a refusal.

    Args:
        cause: why it was refused, without the layer that was asked for.
        hint: what the refusal says to do next.
    """
    found = next((reason.kind for reason in REASONS if reason.pattern.fullmatch(cause)), OTHER)
    if found == WIDTH and named(hint) is None:
        return OTHER  # a width that is refused without the next one that fits
    return found


def named(hint: str | None) -> int | None:
    """The width that a refusal says will fit; None where it names none."""
    found = NEXT_WIDTH.search(hint or "")
    return int(found[1]) if found else None


def why(cause: str) -> str:
    """Why a cause is necessary, as far as the table knows."""
    return next((reason.why for reason in REASONS if reason.pattern.fullmatch(cause)), "")


def pattern(cause: str) -> str:
    """A cause without the names and numbers that are its own."""
    return re.sub(r"\d+", "N", re.sub(r"`[^`]+`", "`…`", cause))
