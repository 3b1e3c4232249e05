"""Tails: what stands behind the copies of a stream whose width is no multiple of its teacher's.

A norm over channels sees every channel equally often, or it is another function. The widths between the multiples are
reached with slices that leave its statistics as they are but for a known factor: k copies of h channels and a *tail* of
r = H − k·h slices that hold the mean of all channels (layer norm), or zero (RMS norm). The variance about the mean (the
mean square) is then k·h/H of the teacher's. Every layer that writes into the stream is scaled by s = √(H/(k·h)), which
leaves the norm's own eps alone, and what multiplies the normalised slices by 1/s. In the norm's output the tail is 0.

In positions, tails are negative: `MEAN` and `NIL` on a scaled stream, `ZERO` behind its norm, where nothing is scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from net2net_cli.architecture.flow import Axis, Tail
from net2net_cli.channels.unions import Ints, distinct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from net2net_cli.channels.collected import Collected, Freeze

MEAN: Final = -1
"""The mean of all slices, on a scaled stream."""
NIL: Final = -2
"""Zero, on a scaled stream."""
ZERO: Final = -3
"""Zero, behind the norm."""

CODES: dict[Tail, int] = {"mean": MEAN, "zero": NIL}


Barred: TypeAlias = "Mapping[int, Freeze]"
"""For classes over which norms take averages: why no tail can stand behind their copies."""


@dataclass(frozen=True, slots=True)
class TailRule:
    """What a class of labels may have behind its copies.

    Attributes:
        tail: the mean of all channels, or zero.
        size: channels of the stream; every axis of the class has as many, or none of them.
        slot: where the length of the tail is counted.
    """

    tail: Tail
    size: int
    slot: int


def find_tails(found: Collected, group: Ints, frozen: Mapping[int, Freeze]) -> tuple[dict[int, TailRule], Barred]:
    """The classes all of whose averages are norms of one kind, and whose channels otherwise only linear ops touch.

    And the other classes over which norms take averages: what bars tails there.
    """
    if not any(a.tail for a in found.averaged):
        return {}, {}
    rules: dict[int, set[tuple[Tail | None, int]]] = {}
    for one in found.averaged:
        rules.setdefault(int(group[one.labels[0]]), set()).add((one.tail, one.labels.size))
    barred = _barred(found, group, set(rules))
    tails: dict[int, TailRule] = {}
    first = int(group.max()) + 1
    for number, kinds in rules.items():
        tail, size = next(iter(kinds))
        if len(kinds) == 1 and tail is not None and number not in barred and number not in frozen:
            tails[number] = TailRule(tail, size, first + len(tails))
    return tails, barred


def _barred(found: Collected, group: Ints, wanted: set[int]) -> Barred:
    """For each of the wanted classes that an op takes channel by channel, the first such op."""
    barred: dict[int, Freeze] = {}
    for one in found.plain:
        for number in wanted.intersection(distinct(group[one.labels]).tolist()):
            barred.setdefault(number, one)
    return barred


def has_tail(channels: Axis) -> bool:
    """Whether slices of an axis stand for no channel of the teacher."""
    return channels is not None and bool((channels < 0).any())


def scale_of(channels: Ints) -> float:
    """The s by which a stream with this axis is scaled."""
    copies = int((channels >= 0).sum())
    return float(np.sqrt(channels.size / copies)) if (channels == MEAN).any() or (channels == NIL).any() else 1.0
