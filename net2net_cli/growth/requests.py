"""From `LAYER=WIDTH` as people write it to demands on labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.spec_checks import MAX_CHANNELS
from net2net_cli.channels.counts import Demand, frozen_refusal
from net2net_cli.channels.labels import Labels
from net2net_cli.channels.unions import Ints, distinct
from net2net_cli.errors import GrowthRefusedError, UsageError

_WIDTH = re.compile(r"\+(?P<more>\d+)|(?P<factor>\d+(?:\.\d+)?)x|(?P<width>\d+)")


MOST_DIGITS = 100
"""Longer numbers are too large, or finer than a factor can be; Python may not even read them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One `LAYER=WIDTH`, or `LAYER:NAME=WIDTH` where a layer has more than one width."""

    pattern: str
    width: str

    @property
    def layers(self) -> str:
        """The name or glob, without the name of a width."""
        return self.pattern.partition(":")[0]

    @property
    def part(self) -> str:
        """The name of the width, or nothing for a layer's own."""
        return self.pattern.partition(":")[2]

    @property
    def is_glob(self) -> bool:
        """Whether it may stand for several layers."""
        return any(c in self.pattern for c in "*?[")


def parse_request(text: str) -> Request:
    """`layer1.0.conv1=96`, `layer3.*.conv1=2x`, `**=+8`.

    Raises:
        UsageError: it is not of that form.
    """
    pattern, equals, width = text.rpartition("=")
    if not equals or not pattern:
        raise UsageError(
            f"`{text}` says no width",
            f"write `{text or 'LAYER'}=128`, `{text or 'LAYER'}=2x` or `{text or 'LAYER'}=+32`",
        )
    return check_request(Request(pattern, width))


def check_request(request: Request) -> Request:
    """The request, if its width is one.

    Raises:
        UsageError: it is not.
    """
    if not _WIDTH.fullmatch(request.width):
        raise UsageError(
            f"`{request.width:.40}` is no width for `{request.pattern}`",
            "a width is a number of channels (`128`), a factor (`2x`, `1.5x`) or an addition (`+32`)",
        )
    return request


def requests_from(widths: Mapping[str, str | int]) -> list[Request]:
    """The Python form: `{"layer1.0.conv1": "2x", "layer2.0.conv1": 160}`."""
    return [check_request(Request(layer, str(width))) for layer, width in widths.items()]


def target_width(text: str, now: int, round_to: int) -> int:
    """The width that is asked for, up to any size; factors round to the nearest, `round_to` rounds up."""
    match = _WIDTH.fullmatch(text)
    assert match is not None
    digits = match["more"] or match["factor"] or match["width"]
    if len(digits) > MOST_DIGITS:
        return MAX_CHANNELS + 1
    if match["more"]:
        width = now + int(match["more"])
    elif match["factor"]:
        width = math.floor(now * float(match["factor"]) + 0.5)
    else:
        width = int(match["width"])
    return -(-width // round_to) * round_to


def glob_to_regex(pattern: str) -> re.Pattern[str]:
    """`*` and `?` stay within one dotted part, `**` crosses, `[0-3]` is a set."""
    out = []
    for token in re.findall(r"\*\*|\*|\?|\[[^\]]*\]|.", pattern):
        if token == "**":
            out.append(".*")
        elif token == "*":
            out.append(r"[^.]*")
        elif token == "?":
            out.append(r"[^.]")
        elif token.startswith("[") and len(token) > 1:
            out.append("[" + token[1:-1].replace("\\", r"\\").replace("!", "^", 1) + "]")
        else:
            out.append(re.escape(token))
    try:
        return re.compile("".join(out))
    except re.error as wrong:
        raise UsageError(
            f"`{pattern}` is no pattern: {wrong}", "`*` matches within one part of a name, `**` across parts"
        ) from None


def unknown_layer(graph: Graph, name: str) -> UsageError:
    """No such layer, with the nearest names."""
    from difflib import get_close_matches  # imported when there is something to complain about

    known = list(graph.by_name)
    near = get_close_matches(name, known, n=3, cutoff=0.5) or [k for k in known if name in k][:3]
    hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else "`net2net inspect` lists the layers"
    return UsageError(f"`{name}` names no layer of this network", hint)


def resolve(
    labels: Labels, requests: Sequence[Request], *, round_to: int = 1, where_possible: bool = False
) -> tuple[list[Demand], list[str]]:
    """The demands that the requests mean, one a coupled group, and notes on layers that were passed over.

    Raises:
        UsageError: an unknown layer, a layer without a width of its own, a width not above the present one, or one
            group asked for two widths.
        GrowthRefusedError: a layer whose channels cannot have copies.
    """
    if not requests:
        raise UsageError("nothing to widen", "name a layer and a width, as in `conv1=2x`")
    demands: dict[tuple[int, ...], tuple[Demand, Request]] = {}
    notes: list[str] = []
    for request in requests:
        for layer in _layers(labels, request):
            try:
                demand = _demand(labels, layer, request, round_to)
            except (GrowthRefusedError, UsageError) as refused:
                if not request.is_glob:
                    raise
                if not where_possible:
                    refused.hint = "`--where-possible` passes over layers of a pattern that cannot grow"
                    raise
                notes.append(f"passed over: {refused.message}")
                continue
            _add(labels, demands, demand, request)
    found = [demand for demand, _ in demands.values()]
    if not found:
        raise GrowthRefusedError("none of the layers that match can be widened", "`net2net inspect` shows which can")
    return found, notes


def _layers(labels: Labels, request: Request) -> list[str]:
    graph = labels.graph
    if not request.is_glob:
        if request.layers not in graph.by_name:
            raise unknown_layer(graph, request.layers)
        return [graph.by_name[request.layers].owner]
    regex = glob_to_regex(request.layers)
    named = [name for name in graph.by_name if regex.fullmatch(name)]
    if not named:
        raise UsageError(
            f"`{request.layers}` matches no layer", "`*` stays within one part of a name, `**` crosses dots"
        )
    own = [n for n in named if graph.by_name[n].weights_of is None and _axis(labels, n, request) is not None]
    if not own and request.part:
        raise UsageError(
            f"`{request.layers}` matches no layer with a width named `{request.part}`",
            "`net2net inspect CHECKPOINT LAYER` shows the widths of a layer",
        )
    if not own:
        raise UsageError(
            f"`{request.pattern}` matches no layer with a width of its own", "name convolutions or linear layers"
        )
    return own


def _axis(labels: Labels, layer: str, request: Request) -> Ints | None:
    """The channels whose number is asked for."""
    return labels.named_axes(layer).get(request.part) if request.part else labels.output_axis(layer)


def _demand(labels: Labels, layer: str, request: Request, round_to: int) -> Demand:
    op = labels.graph.by_name[layer].op
    if isinstance(op, Opaque):
        raise GrowthRefusedError(
            f"`{layer}` cannot be widened: it is {op.described}",
            "`net2net inspect` shows which layers can be widened",
            layer=layer,
        )
    axis = _axis(labels, layer, request)
    if axis is None and request.part:
        names = ", ".join(f"`{layer}:{name}`" for name in labels.named_axes(layer))
        raise UsageError(
            f"`{layer}` has no width named `{request.part}`",
            f"it has {names}" if names else f"it has one width: `{layer}={request.width}`",
        )
    if axis is None:
        raise UsageError(
            f"`{layer}` has no width of its own: {follows(labels, layer)}", "name the layer that it follows"
        )
    layer = f"{layer}:{request.part}" if request.part else layer
    freeze = labels.why_frozen(axis)
    if freeze is not None and labels.is_frozen(axis).all():
        raise frozen_refusal(layer, freeze)
    width = target_width(request.width, axis.size, round_to)
    if width > MAX_CHANNELS:
        raise UsageError(
            f"`{layer}` cannot be `{request.width:.40}` wide: an axis has at most {MAX_CHANNELS} entries",
            f"ask for {MAX_CHANNELS} or less",
        )
    if width <= axis.size:
        asked = (
            f"{request.width:.40} is {width}" if not request.width.isdigit() else f"{request.width:.40} is asked for"
        )
        raise UsageError(
            f"`{layer}` is {axis.size} wide already, and {asked}; layers only grow",
            f"ask for more than {axis.size}, as in `{layer}={axis.size * 2}`",
        )
    return Demand(layer, axis, width)


def follows(labels: Labels, layer: str) -> str:
    """Which layers make the channels that a layer without a width of its own carries."""
    groups = {int(g) for axis in labels.found.values[layer] if axis is not None for g in labels.group[axis]}
    makers = [
        place[0]
        for place, made in labels.found.created.items()
        if groups & {int(g) for g in distinct(labels.group[made])}
    ]
    named = ", ".join(f"`{m}`" for m in dict.fromkeys(makers[:3]))
    return f"it follows {named}" if named else "its channels are those of the network's input or of an opaque layer"


def _add(
    labels: Labels, demands: dict[tuple[int, ...], tuple[Demand, Request]], demand: Demand, request: Request
) -> None:
    key = tuple(np.sort(labels.group[demand.labels]).tolist())
    if key not in demands:
        demands[key] = (demand, request)
    elif demands[key][0].width != demand.width:
        first, asked = demands[key]
        raise UsageError(
            f"`{first.layer}` and `{demand.layer}` grow together, and are asked for two widths: "
            f"{first.width} (`{asked.pattern}={asked.width}`) and {demand.width} (`{request.pattern}={request.width}`)",
            f"give both the same width, or name only `{first.layer}`",
        )
