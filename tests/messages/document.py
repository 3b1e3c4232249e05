"""`docs/MESSAGES.md`: made of the examples, and of what they print."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

from messages import areas
from messages.births import GAP
from messages.example import Area, Example, Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "MESSAGES.md"

HEAD = """# Messages

Every error that `net2net` can end with, and an example that produces it. Search this page for the words that you see:
`…` stands for what is different each time, such as a name, a number or a file. Made from the code by `make messages`;
a test runs all examples and holds this page to what they print.

An error is one message on stderr, an empty line, and a hint: the next step to take. A command that fails leaves
nothing behind. Scripts can rely on the exit code:

"""

SAMPLE = """Where an example names `teacher.safetensors`, it is a small residual network: `conv1`, `bn1` and `relu1`,
then a block of `block.conv2`, `block.relu2`, `block.conv3` and `block.add`, then `pool` and `fc`. It reads images of
3×6×6 and has 4 channels, 6 inside of the block. `net.safetensors`, `net.json` and `net.py` are other networks, made for
one example each.

"""

CODES = {
    1: ("the answer is no", "two networks were compared, and their outputs differ, or that they do not is not proved"),
    2: ("usage", "the command names something that does not exist or cannot be meant"),
    3: ("unreadable or inconsistent input", "a checkpoint, a spec, a network to import, inputs or a recipe"),
    4: ("refused", "sound input, but this growth cannot be exact; the message names the layer and the reason"),
    5: ("the machine", "a sound request, but this machine cannot: disk, permission, device, memory"),
}
REST = """| 70 | a mistake in net2net: a traceback, and `this is a bug in net2net; please report it` |
| 130, 143 | interrupted or terminated; nothing is said, and no partial file remains |

"""


@cache
def all_areas() -> tuple[Area, ...]:
    """Those of all modules of `messages.areas`, by exit code, in the order in which they are documented."""
    modules = (importlib.import_module(f"{areas.__name__}.{name}") for name in areas.ORDER)
    found = [area for module in modules for area in module.AREAS]
    return tuple(sorted(found, key=lambda area: area.code))


def section(area: Area, outcomes: list[Outcome]) -> str:
    """The part of the document for one area."""
    seen: set[str] = set()
    parts, rows = [], []
    for outcome in outcomes:
        new = [key for key in _keys(outcome) if key not in seen]
        seen.update(new)
        if outcome.example.row is None:
            parts.append(_entry(outcome, new))
        else:
            rows.append(_row(outcome, new))
    head = f"### {area.title}\n\n" + (f"{area.intro}\n\n" if area.intro else "")
    table = f"{_first(outcomes)}| words | {area.rows} | message |\n|---|---|---|\n{''.join(rows)}\n" if rows else ""
    return head + "".join(parts) + table


def new_keys(outcomes: list[Outcome]) -> list[list[str]]:
    """For each outcome, what none before it has shown."""
    seen: set[str] = set()
    found = []
    for outcome in outcomes:
        found.append([key for key in _keys(outcome) if key not in seen])
        seen.update(found[-1])
    return found


def _keys(outcome: Outcome) -> list[str]:
    """Whole messages first, then their clauses."""
    return list(dict.fromkeys(b.key for b in sorted(outcome.births, key=lambda b: not b.whole)))


def _entry(outcome: Outcome, keys: list[str]) -> str:
    head = "".join(f"#### {escaped(key)}\n\n" for key in keys[:1])
    rest = "".join(f"It ends: {code(key)}\n\n" for key in keys[1:])
    return f"{head}{rest}{_given(outcome.example)}{_console(outcome)}\n"


def _given(example: Example) -> str:
    text = f"{example.given}\n\n" if example.given else ""
    for name, content in example.files.items():
        if not name.startswith("."):
            text += f"`{name}`:\n\n```{name.rpartition('.')[2]}\n{content.strip()}\n```\n\n"
    return text


def _console(outcome: Outcome) -> str:
    command = outcome.example.command.strip()
    if outcome.example.vague:
        command = re.sub(outcome.example.vague, GAP, command)
    if outcome.example.python:
        return f"```python\n{command}\n```\n\n```text\n{outcome.text}\n```\n"
    return f"```console\n$ {command}\n{outcome.text}\n```\n"


def _first(outcomes: list[Outcome]) -> str:
    """What all rows of a table have in common: the command."""
    outcome = next(o for o in outcomes if o.example.row is not None)
    return f"{_console(outcome)}\n"


def _row(outcome: Outcome, keys: list[str]) -> str:
    said = outcome.text.removeprefix("error: ").replace("\n\nhint: ", "<br>hint: ")
    words = "".join(f"{in_table(key)} " for key in keys)
    return f"| {words}| {in_table(outcome.example.row or '')} | {escaped(said, breaks=True)} |\n"


def code(text: str) -> str:
    """In a code span, whatever the text holds."""
    marks = "`" * (max((len(found) for found in re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in (text[:1], text[-1:]) else ""
    return f"{marks}{pad}{text}{pad}{marks}"


def in_table(text: str) -> str:
    """In a code span in a table."""
    return code(text).replace("|", "\\|")


def escaped(text: str, *, breaks: bool = False) -> str:
    """Text that Markdown shows as it is; what stands in backticks is code there too."""
    parts = re.split("(`[^`]*`|<br>)" if breaks else "(`[^`]*`)", text)
    shown = "".join(p if p.startswith("`") or p == "<br>" else re.sub(r"([*_<>\[\]])", r"\\\1", p) for p in parts)
    return shown.replace("|", "\\|") if breaks else shown


def document(sections: dict[str, str]) -> str:
    """The whole document, of sections by the names of their areas."""
    text = f"{HEAD}| code | |\n|---|---|\n"
    text += (
        "".join(f"| [{n}](#{_anchor(_title(n))}) | {meaning} |\n" for n, (_, meaning) in CODES.items()) + REST + SAMPLE
    )
    for number in CODES:
        of_code = [area for area in all_areas() if area.code == number]
        places = " · ".join(f"[{area.title}](#{_anchor(area.title)})" for area in of_code)
        text += f"## {_title(number)}\n\n{places}\n\n" + "".join(sections[area.name] for area in of_code)
    return text.rstrip() + "\n"


def _title(number: int) -> str:
    return f"Exit code {number}: {CODES[number][0]}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
