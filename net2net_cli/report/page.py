"""The page as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from net2net_cli.report.charts import Bars, Point, error_by_depth, histogram
from net2net_cli.report.markup import Facts, facts, prose, table, text
from net2net_cli.report.network import Node, network

MARK = "<!-- net2net report -->"
"""Stands in every page, so that the next one may replace it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; `numbers` says which columns hold numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Report:
    """What a page shows.

    Attributes:
        title: names both networks.
        passed: whether both compute the same.
        verdict: that in a few words, and in a sentence.
        facts: how it was found.
        where: where the networks part.
        grown: what the growth changed; `sizes` of both networks beside it.
        outputs: figures of each output.
        points: the layers that were compared.
        tolerance: the largest error that is allowed.
        histograms: of outputs and differences, two in a row.
        nodes: all layers, in order.
    """

    title: str
    passed: bool
    verdict: tuple[str, str]
    facts: Facts
    where: Facts
    grown: Table
    sizes: Facts
    outputs: Table
    points: Sequence[Point]
    tolerance: float
    histograms: Sequence[Bars]
    nodes: Sequence[Node]


def page(report: Report) -> str:
    """The page as HTML."""
    return _template().substitute(
        title=text(report.title),
        style=_style(),
        verdict_class="agree" if report.passed else "differ",
        verdict=prose(report.verdict[0]),
        headline=prose(report.verdict[1]),
        facts=facts(report.facts),
        sections="\n".join(section for section in _sections(report) if section),
    )


def _sections(report: Report) -> list[str]:
    return [
        _section("What grew", _grown(report)),
        _section("Where they part", facts(report.where)),
        _section("Error by depth", _errors(report)),
        _section("Outputs", _outputs(report)),
        _section("The student, layer by layer", _network(report)),
    ]


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{text(heading)}</h2>\n{body}\n</section>" if body else ""


def _grown(report: Report) -> str:
    rows = report.grown
    shown = table(rows.header, rows.rows, rows.numbers) if rows.rows else ""
    return shown + facts(report.sizes)


def _errors(report: Report) -> str:
    if not report.points:
        return ""
    legend = (
        ('<span class="own">● a layer\'s own error</span>', "own"),
        ('<span class="inherited">● inherited from its inputs</span>', "inherited"),
        ("<span>● rounding</span>", "equal"),
    )
    kinds = {point.state for point in report.points}
    shown = "".join(said for said, kind in legend if kind in kinds)
    about = "Largest difference of what each layer returns, in standard deviations of what the teacher's returns."
    chart = error_by_depth(report.points, report.tolerance)
    return f'<p class="hint">{about}</p>\n<div class="wide">{chart}</div>\n<p class="legend">{shown}</p>'


def _outputs(report: Report) -> str:
    rows = report.outputs
    shown = table(rows.header, rows.rows, rows.numbers) if rows.rows else ""
    if not report.histograms:
        return shown
    legend = '<p class="legend"><span class="teacher">■ teacher</span><span class="student">▬ student</span></p>'
    charts = "\n".join(histogram(bars) for bars in report.histograms)
    return f'{shown}\n{legend}\n<div class="pair">{charts}</div>'


def _network(report: Report) -> str:
    if not report.nodes:
        return ""
    own = any(node.state == "own" for node in report.nodes)
    jump = '<p><a href="#first">Go to the first layer that differs</a></p>' if own else ""
    legend = (
        '<p class="legend"><span class="wider">● wider</span><span class="new">■ new</span>'
        '<span class="adapted">● adapted to its neighbours</span><span>● as in the teacher</span>'
    )
    legend += "<span>┊ what is allowed</span></p>" if report.points else "</p>"
    return f'{jump}{legend}\n<div class="scroll">{network(report.nodes, report.tolerance)}</div>'


@cache
def _template() -> Template:
    return Template((files("net2net_cli.report") / "page.html").read_text(encoding="utf-8"))


@cache
def _style() -> str:
    return (files("net2net_cli.report") / "style.css").read_text(encoding="utf-8").rstrip("\n")
