"""What programs trip over: numbers, names and nestings at the edge."""

from __future__ import annotations

import random
from typing import Any

CANARY = "PWNED"
"""Part of every text that would be code if somebody ran it; in an exported file it may stand in strings alone."""

NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 5, 7, 64, 255, 256, 1000, 65_536, 10**6, 2**26, 2**26 + 1),
    *(
        2**31 - 1,
        2**31,
        2**32,
        2**40,
        2**53 + 1,
        2**62,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**70),
        10**300,
    ),
    *(0.0, -0.0, 0.5, -0.5, 1.5, 1e-320, 1e300, -1e300, float("inf"), float("-inf"), float("nan")),
]

NAMES: list[str] = [
    *(
        "",
        " ",
        ".",
        "..",
        "...",
        "a..b",
        ".a",
        "a.",
        "x",
        "n",
        "0",
        "-1",
        "self",
        "class",
        "None",
        "__class__",
        "x.y.z",
    ),
    *(
        "../../outside",
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "C:\\windows\\x",
        "\\\\host\\share",
        "~/x",
        "in/a.json",
    ),
    *(
        "a\x00b",
        "a\nb",
        "a\rb",
        "a\tb",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x9b2J",
        "\x7f",
        "a\u2028b",
        "\ufeffa",
    ),
    *(
        "\u202eabc",
        "\u200b",
        "e\u0301",
        "ñ",
        "名前",
        "\U0001f600",
        "\ud800",
        "a\udcffb",
        "[red]x[/red]",
        "[/]",
        "[link=x]y",
    ),
    *("%s%n", "{0}", "{x.__class__}", "${HOME}", "$(touch PWNED)", "`touch PWNED`", "; touch PWNED", "| touch PWNED"),
    *(
        '")\nPWNED()#',
        "'); PWNED(); ('",
        '"""\nPWNED()\n"""',
        "x\\",
        "\\N{DIGIT ONE}",
        "__import__('os').system('PWNED')",
    ),
    *("os:system", "trap:PWNED", "trap.py:PWNED", "builtins:exec", "subprocess:Popen", "net2net_cli.cli.main:main"),
    *("this", "antigravity", "__metadata__", "net2net.spec", "format", "weight", "running_var", "num_batches_tracked"),
    *("*", "**", "[a-z]*", "?", "=", "a=2x", "conv1", "fc", "out", "a" * 255, "a" * 256, "a" * 5000, "a." * 2000 + "a"),
]

WORDS: list[str] = ["same", "valid", "zeros", "reflect", "circular", "train", "always", "float32", "inf", "nan", "eval"]

PATTERNS: list[str] = [
    *("n c -> n c", "n c h w -> n (c h w)", "n (c a) h w -> n c (a h) w", "n c h w -> n h w c", "n c -> c n", "->", ""),
    *(
        "n c h w",
        "n c -> n",
        "n -> n c",
        "n c c -> n c",
        "n c -> n c c",
        "... -> ...",
        "n ... -> n ... 1",
        "(n c) -> n c",
    ),
    *(
        "n (c -> n c",
        "n c) -> n c",
        "n ((c) d) -> n c d",
        "n 1 -> n 1",
        "n 2 -> n",
        "n _ -> n _",
        "() -> ()",
        "n c -> (n c)",
    ),
    "n " + " ".join(f"a{i}" for i in range(60)) + " -> n " + " ".join(f"a{i}" for i in range(60)),
]


def nested(depth: int, *, of: str = "list") -> Any:
    """A value inside so many lists or objects."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if of == "list" else {"a": value}
    return value


def number(chance: random.Random) -> Any:
    """Some number."""
    return chance.choice(NUMBERS)


def name(chance: random.Random) -> str:
    """Some text, at times put together from two."""
    if chance.random() < 0.1:
        return chance.choice(NAMES)[:300] + chance.choice(NAMES)[:300]
    return chance.choice(NAMES)


def anything(chance: random.Random) -> Any:
    """Some value that JSON can hold, or cannot quite."""
    match chance.randrange(9):
        case 0 | 1 | 2:
            return number(chance)
        case 3 | 4:
            return name(chance)
        case 5:
            return chance.choice([*WORDS, *PATTERNS])
        case 6:
            return chance.choice([None, True, False, [], {}, [[]], {"": None}, [None], {"size_of": "x", "axis": 1}])
        case 7:
            return [number(chance) for _ in range(chance.choice([1, 2, 3, 4, 33]))]
        case _:
            return nested(chance.choice([2, 50, 120]), of=chance.choice(["list", "object"]))
