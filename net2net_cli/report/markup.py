"""Small pieces of HTML and SVG. Whatever comes from outside, such as a layer's name, goes through `text`."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

Facts = Sequence[tuple[str, str]]


def text(said: str) -> str:
    """Escaped, for contents and for attributes; control characters are shown as such."""
    return html.escape("".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in said))


def prose(said: str) -> str:
    """Escaped, and what stands between backticks set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(said))


def facts(rows: Facts) -> str:
    """Names and what is said of them; a name that is that of the row before is not repeated."""
    lines = []
    before = None
    for name, said in rows:
        if said:
            lines.append(f"<dt>{text(name) if name != before else ''}</dt><dd>{prose(said)}</dd>")
            before = name
    return f"<dl>{''.join(lines)}</dl>" if lines else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]) -> str:
    """A table; `numbers` says which columns hold numbers."""
    kinds = [' class="n"' if number else "" for number in numbers]
    head = "".join(f"<th{kind}>{text(cell)}</th>" for kind, cell in zip(kinds, header, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{text(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def number(x: float) -> str:
    """A coordinate: at most one digit behind the point, so that the same page has the same bytes everywhere."""
    return f"{x:.1f}".removesuffix(".0")


def label(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    """SVG text."""
    classes = f' class="{kind}"' if kind else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{number(x)}" y="{number(y)}"{classes}{where}>{text(said)}</text>'


def drawing(width: float, height: float, named: str, parts: Sequence[str], kind: str = "") -> str:
    """An SVG of that size, with a name for those who do not see it."""
    return (
        f'<svg role="img" aria-label="{text(named)}" class="{kind}" width="{number(width)}" height="{number(height)}" '
        f'viewBox="0 0 {number(width)} {number(height)}">\n' + "\n".join(parts) + "\n</svg>"
    )
