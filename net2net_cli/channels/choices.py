"""Which factor of a split axis grows: tried until none that grows is left frozen for another factor's sake.

`(h d)` may grow in h or in d. What comes later decides: a product over d freezes d, so h is tried. Where heads meet
those of another tensor that was split the other way, the other split gives way, and takes back what it gave if that
does not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from net2net_cli.architecture.ops.join import Select
from net2net_cli.channels.unions import Ints, distinct

if TYPE_CHECKING:
    from net2net_cli.channels.labels import Labels

MEETS = "meets channels there that cannot change"
"""Why labels are frozen that meet an axis without labels: it may be one that another split did not choose."""

Site: TypeAlias = tuple[str, str]


class Choosing:
    """The choices so far: `choices` holds, for each site, the factor that grows in the next run."""

    def __init__(self) -> None:
        self.choices: dict[Site, int] = {}
        self._tried: dict[Site, list[int]] = {}
        self._taken: dict[Site, set[int]] = {}
        self._given: dict[Site, int] = {}
        self._settled: set[Site] = set()
        self._done = False

    def improve(self, labels: Labels) -> bool:
        """Choose anew what turned out frozen; whether there was anything to choose."""
        before = dict(self.choices)
        if self._done:
            return False
        frozen = self._frozen(labels)
        giving = {other for site, chosen in frozen.items() for other in self._in_the_way(labels, site, chosen, frozen)}
        for site in giving - frozen.keys():
            self._given[site] = self._now(site, labels)
        for site in giving or frozen:
            self._next(site, labels)
        if self.choices == before:
            self._done = True
            self._explain(frozen)
        return self.choices != before

    def _now(self, site: Site, labels: Labels) -> int:
        return self.choices.get(site, labels.found.options[site][0][0])

    def _frozen(self, labels: Labels) -> dict[Site, Ints]:
        """Sites whose present choice cannot grow, and the labels that it has."""
        found = {}
        for site, candidates in labels.found.options.items():
            now = self._now(site, labels)
            chosen = dict(candidates)[now]
            tried = self._tried.setdefault(site, [])
            if now not in tried:
                tried.append(now)
            if labels.is_frozen(chosen).all():
                found[site] = chosen
                why = labels.why_frozen(chosen)
                reader = labels.graph.by_name.get(why.layer) if why is not None else None
                if reader is not None and isinstance(reader.op, Select):
                    self._taken.setdefault(site, set()).add(now)
        return found

    def _next(self, site: Site, labels: Labels) -> None:
        """The next candidate; where all were in vain, what the site was before it gave way."""
        left = self._left(site, labels)
        if left:
            self.choices[site] = left[0]
        elif site in self._given:
            self.choices[site] = self._given.pop(site)
            self._settled.add(site)

    def _left(self, site: Site, labels: Labels) -> list[int]:
        return [i for i, _ in labels.found.options[site] if i not in self._tried[site]]

    def _explain(self, frozen: dict[Site, Ints]) -> None:
        """Of the factors that were tried in vain, keep one whose reason tells something.

        That single slices are taken of an axis, as of the three in `(three h d)`, is no reason why heads cannot grow.
        """
        for site in frozen:
            telling = [i for i in self._tried[site] if i not in self._taken.get(site, ())]
            if telling and self.choices.get(site) in self._taken.get(site, ()):
                self.choices[site] = telling[-1]

    def _in_the_way(self, labels: Labels, own: Site, chosen: Ints, frozen: dict[Site, Ints]) -> Iterator[Site]:
        """Sites that may choose another factor than now, for the sake of labels that nothing else freezes."""
        classes = set(distinct(labels.group[chosen]).tolist())
        layers = set()
        for freeze in labels.found.frozen:
            if classes.isdisjoint(distinct(labels.group[freeze.labels]).tolist()):
                continue
            if freeze.why != MEETS:
                return
            layers.add(freeze.layer)
        upstream = self._upstream(labels, layers)
        for site in labels.found.options:
            able = site != own and site[0] in upstream and (site in frozen or site not in self._settled)
            if able and self._left(site, labels):
                yield site

    @staticmethod
    def _upstream(labels: Labels, layers: set[str]) -> set[str]:
        """The layers before these, back to those that make channels."""
        graph, makers = labels.graph, {owner for owner, _, _ in labels.found.created}
        found: set[str] = set()
        waiting = list(layers)
        while waiting:
            name = waiting.pop()
            if name not in found and name in graph.by_name and graph.by_name[name].owner not in makers:
                found.add(name)
                waiting.extend(graph.by_name[name].inputs)
        return found
