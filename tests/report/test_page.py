"""The page: one file that needs nothing else, in which nothing that it names can act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from net2net_cli.report.charts import Bars, Point
from net2net_cli.report.network import Node
from net2net_cli.report.page import MARK, Report, Table, page

EVIL = "<script>alert('1')</script>\"'&<img src=x onerror=alert(1)>\x1b[31m"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Elements that are open, and all that were met."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data.append(data)


def report(name: str = "layer", *, passed: bool = False) -> Report:
    node = Node(name, name, ("x",), "wider", f"{name} → 8", 0.5, 0.5, "own", name)
    return Report(
        title=name,
        passed=passed,
        verdict=("The outputs differ.", f"`{name}`"),
        facts=[("device", name), (name, name)],
        where=[("first that differs", f"`{name}`"), ("none", "")],
        grown=Table(("layer", name), [(name, "1")], (False, True)),
        sizes=[("parameters", name)],
        outputs=Table(("output",), [(name,)], (False,)),
        points=[Point(name, name, 0.5, "own"), Point("b", "add", 0.0, "equal"), Point("c", "add", float("inf"), "own")],
        tolerance=1e-12,
        histograms=[Bars(name, [0.0, 1.0, 2.0], [(name, [1, 2]), ("student", [2, 1])], logarithms=False, note=name)],
        nodes=[Node("x", "input", (), "input"), node, Node("new", "ReLU", (name,), "new")],
    )


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_nothing_that_a_page_names_becomes_markup() -> None:
    met = read(page(report(EVIL))).met
    plain = read(page(report())).met
    assert [tag for tag, _ in met] == [tag for tag, _ in plain]
    assert not {"script", "img"} & {tag for tag, _ in met}
    assert [sorted(attributes) for _, attributes in met] == [sorted(attributes) for _, attributes in plain]
    assert "\x1b" not in page(report(EVIL))


def test_what_it_names_is_there_to_be_read() -> None:
    data = "".join(read(page(report("a<b>&c"))).data)
    assert data.count("a<b>&c") >= 10


def test_a_page_needs_nothing_from_elsewhere() -> None:
    text = page(report())
    for _, attributes in read(text).met:
        assert not {"src", "onclick", "onload", "style"} & attributes.keys()
        assert attributes.get("href", "#first") == "#first"
    assert not re.search(r"url\(|@import|https?://|javascript:", text)
    assert "default-src 'none'" in text


def test_drawings_are_well_formed_and_have_names() -> None:
    drawings = re.findall(r"<svg.*?</svg>", page(report(EVIL)), flags=re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "nan" not in drawing
        assert "inf" not in drawing.replace("infinite", "")


def test_the_same_findings_give_the_same_bytes() -> None:
    assert page(report()) == page(report())


def test_a_page_is_known_by_its_beginning() -> None:
    assert MARK in page(report())[:200]


@pytest.mark.parametrize(("passed", "kind"), [(True, "agree"), (False, "differ")])
def test_the_verdict_is_told(passed: bool, kind: str) -> None:
    assert f'class="verdict {kind}"' in page(report(passed=passed))


def test_the_first_layer_that_differs_can_be_gone_to() -> None:
    met = read(page(report())).met
    assert [a["href"] for tag, a in met if tag == "a"] == ["#first"]
    assert [a.get("id") for _, a in met if "id" in a] == ["first"]


def test_colours_follow_the_reader() -> None:
    text = page(report())
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    names = re.findall(r"(--[a-z]+):", light.split(":root")[1].split("}")[0])
    assert names
    assert all(f"{name}:" in dark.split("}")[0] for name in names)
