"""`docs/COVERAGE.md` from the results, the same text from the same results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.coverage.networks import is_slim, setting
from benchmarks.coverage.reasons import INPUT, KINDS, NO_PLACE, OTHER, OUTPUT, classify, named, pattern, why
from benchmarks.coverage.records import CRASHED, EXACT, INSENSITIVE, REFUSED, WRONG, Attempt, Network, Results
from benchmarks.coverage.survey import GROWTHS, NAMED
from benchmarks.coverage.teachers import ROUNDINGS, SENSITIVE, TOLERANCE

INTRODUCTION = f"""\
# Coverage

Every layer of every classification, segmentation and video network of torchvision, grown one at a time: twice as wide,
1.5 times as wide, wider by one channel, and as wide as a refusal of these says it can be; a new layer put behind it;
every residual and transformer block repeated.
`make coverage-sweep` makes the attempts and writes this file. Do not edit it.

**How an attempt is judged.** The teacher is torchvision's own module, with ten classes and random weights that hide
nothing: trained-looking batch norms, no layer at zero. The student is written to a file, read back and rebuilt from
what was read. Both see the same two inputs in float64, in eval and in training mode (dropout and stochastic depth at
0).

- **exact**: all outputs agree to {TOLERANCE:.0e} of the standard deviation of the teacher's (or, where that is more, to
  {ROUNDINGS} times as far as they move when the teacher's inputs change by their last place), *and* scrambling the
  grown layer moves them by more than {SENSITIVE:.0e} of it;
- **insensitive**: they agree, but scrambling the grown layer hardly moves them, so that the check says nothing;
- **wrong**: they do not agree;
- **refused**: the tool says that no exact student exists, and why;
- **crashed**: anything else.

A new layer with a batch norm is compared in eval mode alone, since the statistics that it starts with are an estimate
(in training mode the student is as good as that). A layer without a width of its own, such as a norm, is widened
through the layer that it follows. Layers that grow together are asked for one by one; where they get the same student,
it is run once, and each of them is scrambled. Copies share by `ownership`, `random` and `equal` in turn.

Every attempt is planned, and its plan proved, by itself. Files are written and networks run for many at once: growths
that copy nothing in common are made in one student, which returns what the teacher returns only if all of them are
exact. Where it does not, it is halved until what is wrong stands alone. A layer is scrambled in the first student in
which it grows; how far that moves the outputs counts for its other widths as well. `--alone` makes a student for each.
"""

AGAIN = """
Each can be made again: `make coverage-sweep SWEEP="--again --networks NETWORK --layers LAYER --growths GROWTH"`.
"""

Row = tuple[str | int, ...]


def render(results: Results, every: Sequence[str], code: str) -> str:
    """The document.

    Args:
        results: all records.
        every: names of all networks that there are.
        code: the present state of the tool; records of another one are told.
    """
    parts = [
        INTRODUCTION,
        _what_was_run(results, every, code),
        _outcomes(results),
        refusals(results),
        _listed("Wrong and crashed", _of(results, WRONG, CRASHED), "None."),
        _listed("Insensitive", _of(results, INSENSITIVE), "None."),
        _networks(results, every),
        _inputs(results),
    ]
    return "\n".join(part for part in parts if part)


def _of(results: Results, *outcomes: str) -> list[Attempt]:
    return [one for one in results.attempts.values() if one.outcome in outcomes]


def kind_of(attempt: Attempt) -> str:
    """The kind of a refusal."""
    return classify(attempt.cause or "", attempt.hint)


def _what_was_run(results: Results, every: Sequence[str], code: str) -> str:
    whole, part, missing = [], [], []
    for name in sorted(every):
        known, made = results.networks.get(name), len(_usual(results.of(name)))
        if known is None or (not made and not known.failed):
            missing.append(name)
        elif known.layers and made >= known.attempts:
            whole.append(name)
        elif known.layers:
            part.append(f"`{name}` ({made} of {known.attempts})")
    failed = [f"`{n.network}`" for n in _sorted(results) if n.failed and not n.layers]
    said = [
        "## What was run",
        "",
        f"Of {len(every)} networks {len(whole)} were run whole, {len(part)} in part, {len(missing)} not at all; "
        f"{len(failed)} could not be imported. What follows speaks of what was run.",
        "",
        *(f"- {what}: {', '.join(names)}" for what, names in _lists(whole, part, missing, failed) if names),
        "",
        f"With {code}.",
    ]
    stale = Counter(one.code for one in results.attempts.values() if one.code != code)
    compared = [one for one in results.attempts.values() if one.error is not None]
    if compared:
        most = max(one.together for one in compared)
        said.append(f"{len(compared)} attempts were compared by running them, at most {most} growths in one student.")
    said += _beyond([one for one in compared if one.outcome != WRONG and one.allowed is not None])
    said += [f"{count} of the attempts were made with an older state: {old}." for old, count in sorted(stale.items())]
    return "\n".join((*said, ""))


def _usual(attempts: Iterable[Attempt]) -> list[Attempt]:
    """All but those at widths that refusals named."""
    return [one for one in attempts if not one.growth.startswith(NAMED)]


def _beyond(attempts: Sequence[Attempt]) -> Iterator[str]:
    """What rounding alone explains."""
    if attempts:
        where = ", ".join(f"`{name}`" for name in sorted({one.network for one in attempts}))
        most = max(one.error or 0.0 for one in attempts)
        least = min(one.allowed or TOLERANCE for one in attempts)
        yield (
            f"{len(attempts)} of them, at {where}, were off by more than {TOLERANCE:.0e} and by {most:.1e} at most; "
            f"{ROUNDINGS} times what the last place of the inputs does to the teacher is {least:.1e} at least."
        )


def _lists(whole: list[str], part: list[str], missing: list[str], failed: list[str]) -> Iterable[tuple[str, list[str]]]:
    yield "whole", [f"`{name}`" for name in whole]
    yield "in part (attempts made, of all)", part
    yield "not at all", [f"`{name}`" for name in missing]
    yield "not imported", failed


def _outcomes(results: Results) -> str:
    columns = (EXACT, INSENSITIVE, WRONG, CRASHED, REFUSED)
    rows: list[Row] = []
    every = [one for one in results.attempts.values() if not _no_place(one)]
    kinds = {f"`{growth}`": [one for one in every if one.growth == growth] for growth in GROWTHS}
    kinds["another width that a refusal names"] = [one for one in every if one.growth.startswith(NAMED)]
    for kind, mine in kinds.items():
        counts = Counter(one.outcome for one in mine)
        rows.append((kind, *(counts[c] for c in columns)))
    rows.append(("**all**", *(sum(int(row[i]) for row in rows) for i in range(1, len(columns) + 1))))
    table = _table(("growth", *columns), rows)
    return f"## Outcomes\n\n{table}\n{_share(results)}"


def _no_place(one: Attempt) -> bool:
    return one.outcome == REFUSED and kind_of(one) == NO_PLACE


def _share(results: Results) -> str:
    """Refusals among the attempts that count: stricter than all, since layers that follow another one are left out."""
    counted = [
        one
        for one in _usual(results.attempts.values())
        if one.through is None and not (one.outcome == REFUSED and kind_of(one) in (OUTPUT, INPUT, NO_PLACE))
    ]
    kinds = Counter(kind_of(one) for one in counted if one.outcome == REFUSED)
    refused = kinds.total()
    share = f"{100 * refused / len(counted):.2f} %" if counted else "none"
    if refused:
        parts = (f"{kind} {100 * kinds[kind] / len(counted):.2f} %" for kind in KINDS if kinds[kind])
        share += f": {', '.join(parts)}"
    places = sum(_no_place(one) for one in results.attempts.values())
    return (
        f"Of the {len(counted)} attempts at layers with a width of their own and at blocks, apart from those at the "
        f"network's inputs and outputs, {refused} were refused ({share}). {places} times there is no place for a new "
        "layer, or no residual block to repeat; these are not in the table.\n"
        f"{_advice(results, counted)}"
    )


def _advice(results: Results, counted: Sequence[Attempt]) -> str:
    """What became of the widths that refusals name."""
    refused = [one for one in counted if one.outcome == REFUSED]
    telling = [one for one in refused if named(one.hint) is not None]
    if not telling:
        return ""
    found = Counter(_followed(results, one) for one in telling)
    told = ", ".join(f"{count} {outcome}" for outcome, count in found.most_common())
    return (
        f"\n{len(telling)} of these {len(refused)} refusals name a width that fits. Growing the layer to the width "
        f"that is named: {told}.\n"
    )


def _followed(results: Results, refusal: Attempt) -> str:
    """The outcome at the width that a refusal names."""
    made = results.attempts.get((refusal.network, refusal.layer, refusal.named or ""))
    return "not made" if made is None else made.outcome


def refusals(results: Results) -> str:
    """Refusals by kind, and in full those that are not known to be necessary."""
    refused = _of(results, REFUSED)
    counts = Counter((kind_of(one), pattern(one.cause or ""), why(one.cause or "")) for one in refused)
    order = list(KINDS)
    rows: list[Row] = [
        (kind, cause, reason, count)
        for (kind, cause, reason), count in sorted(counts.items(), key=lambda c: (order.index(c[0][0]), -c[1], c[0][1]))
    ]
    kinds = "\n".join(f"- **{kind}**: {meaning}" for kind, meaning in KINDS.items())
    table = _table(("kind", "what the refusal says", "why it is necessary", "times"), rows) if rows else "None.\n"
    others = [one for one in refused if kind_of(one) == OTHER]
    listed = _listed("Refusals that are not known to be necessary", others, "None.")
    return f"## Refusals\n\n{kinds}\n\n{table}\n{listed}"


def _listed(title: str, attempts: Sequence[Attempt], none: str) -> str:
    """Attempts in full; layers that differ in numbers alone stand in one row, with `*` for the numbers."""
    groups: dict[tuple[str, str, str, str], list[Attempt]] = {}
    for one in attempts:
        key = (one.network, re.sub(r"\d+", "*", one.layer), one.growth, pattern(_said(one)))
        groups.setdefault(key, []).append(one)
    rows: list[Row] = []
    for (network, layers, growth, said), members in sorted(groups.items()):
        alone = len(members) == 1
        name = members[0].layer if alone else layers
        rows.append((network, f"`{name}`", growth, len(members), _said(members[0]) if alone else said))
    table = _table(("network", "layers", "growth", "times", "what is known"), rows) + AGAIN if rows else f"{none}\n"
    return f"## {title}\n\n{table}"


def _said(one: Attempt) -> str:
    if one.outcome == REFUSED:
        return f"{one.cause}; hint: {one.hint}" if classify(one.cause or "", "use `x=1`") != OTHER else one.cause or ""
    if one.outcome == CRASHED:
        return one.cause or ""
    if one.outcome == WRONG:
        return f"off by {one.error}"
    return f"scrambling moves the output by {one.moved}"


def _networks(results: Results, every: Sequence[str]) -> str:
    header = (
        *("network", "layers", "attempts", "exact", "insensitive", "wrong", "crashed"),
        *(f"refused: {kind}" for kind in KINDS if kind != NO_PLACE),
        NO_PLACE,
        *("worst error", "groups, ms", "Torch-Pruning, ms"),
    )
    rows = [_network_row(results, name) for name in sorted(every) if name in results.networks]
    said = (
        "`attempts` says how many were made, of how many that there are; where nothing is said, there were none. "
        "`groups` is the time to find all coupled groups from the text of the spec, beside Torch-Pruning's "
        "`DependencyGraph().build_dependency` for the module; medians of 3."
    )
    notes = [f"- `{n.network}`: {n.failed}" for n in _sorted(results) if n.failed]
    notes += [f"- `{n.network}`: its spec lacks {', '.join(n.unread)}" for n in _sorted(results) if n.unread]
    notes += [f"- `{n.network}`: Torch-Pruning: {n.depgraph}" for n in _sorted(results) if isinstance(n.depgraph, str)]
    return "\n".join(("## Networks", "", said, "", _table(header, rows), *notes, ""))


def _network_row(results: Results, name: str) -> Row:
    known, made = results.networks[name], _usual(results.of(name))
    if not known.layers:
        return (name, f"import: {known.failed}", *("",) * (8 + len(KINDS)))
    outcomes = Counter(one.outcome for one in made)
    kinds = Counter(kind_of(one) for one in made if one.outcome == REFUSED)
    errors = [one.error for one in made if one.error is not None]
    return (
        *(name, known.layers, f"{len(made)} of {known.attempts}"),
        *(outcomes[o] or "" for o in (EXACT, INSENSITIVE, WRONG, CRASHED)),
        *(kinds[kind] or "" for kind in KINDS),
        f"{max(errors):.1e}" if errors else "",
        *(_milliseconds(known.labels), _milliseconds(known.depgraph)),
    )


def _milliseconds(seconds: float | str | None) -> str:
    return f"{1000 * seconds:.0f}" if isinstance(seconds, float) else "" if seconds is None else "fails"


def _inputs(results: Results) -> str:
    slim = [f"`{n.network}`" for n in _sorted(results) if is_slim(n.network)]
    other = [n for n in _sorted(results) if n.input != (3, 64, 64)]
    rows: list[Row] = [(n.network, " × ".join(map(str, n.input)), setting(n.network).why) for n in other]
    table = f", but for these:\n\n{_table(('network', 'input', 'because'), rows)}" if rows else ".\n"
    said = f"Inputs are 3 × 64 × 64{table}"
    if slim:
        said += (
            f"\nThe linear layers of {', '.join(slim)}, which hold nearly all their weights, are 48, 32 and 10 wide.\n"
        )
    return f"## Inputs\n\n{said}"


def _sorted(results: Results) -> list[Network]:
    return sorted(results.networks.values(), key=lambda network: network.network)


def _table(header: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)
