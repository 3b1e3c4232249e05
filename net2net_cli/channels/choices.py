"""Which factor of a split axis grows: tried until none that grows is left frozen for another factor's sake.

`(h d)` may grow in h or in d. What comes later decides: a product over d freezes d, so h is tried. Where heads meet
those of another tensor that was split the other way, the other split gives way, and takes back what it gave if that
does not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

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
        self._tried: dict[Site, set[int]] = {}
        self._given: dict[Site, int] = {}
        self._settled: set[Site] = set()

    def improve(self, labels: Labels) -> bool:
        """Choose anew what turned out frozen; whether there was anything to choose."""
        before = dict(self.choices)
        frozen = {}
        for site, candidates in labels.found.options.items():
            now = self.choices.get(site, candidates[0][0])
            self._tried.setdefault(site, set()).add(now)
            chosen = dict(candidates)[now]
            if labels.is_frozen(chosen).all():
                frozen[site] = chosen
        giving = {other for chosen in frozen.values() for other in self._in_the_way(labels, chosen, frozen)}
        for site in giving:
            self._given[site] = self.choices.get(site, labels.found.options[site][0][0])
            self._next(site, labels)
        for site in frozen:
            if not giving:
                self._next(site, labels)
        return self.choices != before

    def _next(self, site: Site, labels: Labels) -> None:
        """The next candidate; after all in vain, what it was before it gave way, or the first: its reason says most."""
        left = [i for i, _ in labels.found.options[site] if i not in self._tried[site]]
        if left:
            self.choices[site] = left[0]
        elif site in self._given:
            self.choices[site] = self._given.pop(site)
            self._settled.add(site)
        elif site in self.choices:
            self.choices[site] = labels.found.options[site][0][0]

    def _in_the_way(self, labels: Labels, chosen: Ints, frozen: dict[Site, Ints]) -> Iterator[Site]:
        """Sites that chose another factor than these labels need, where nothing else freezes them."""
        classes = set(distinct(labels.group[chosen]).tolist())
        layers = set()
        for freeze in labels.found.frozen:
            if classes.isdisjoint(distinct(labels.group[freeze.labels]).tolist()):
                continue
            if freeze.why != MEETS:
                return
            layers.add(freeze.layer)
        upstream = self._upstream(labels, layers)
        for site, candidates in labels.found.options.items():
            able = any(i not in self._tried[site] for i, _ in candidates) and site not in self._settled
            if site[0] in upstream and able and site not in frozen:
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
