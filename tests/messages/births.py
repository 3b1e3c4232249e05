"""Where messages are born: every place in the package that says words which a user may come to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias

import net2net_cli

PACKAGE = Path(net2net_cli.__file__).parent
GAP = "…"
"""Stands in a template for what is filled in."""


def _derived(*bases: str) -> set[str]:
    """The names of classes of the package that derive from others, and of these."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py"))
    classes = [
        (n.name, set(map(ast.unparse, n.bases))) for t in trees for n in ast.walk(t) if isinstance(n, ast.ClassDef)
    ]
    found, before = set(bases), 0
    while len(found) > before:
        before = len(found)
        found |= {name for name, above in classes if above & found}
    return found


FAILS = {**dict.fromkeys(_derived("ValueError"), 0), "NoAbsorberError": 0, "NoCountsError": 1}
"""Exceptions whose words become a part of a message: name -> which argument holds them."""

_ERRORS = dict.fromkeys(_derived("Net2NetError"), 0)

_SAYERS = {
    **dict.fromkeys((".fail", ".error", ".data_dependent", ".refuse", "_none"), 0),
    **dict.fromkeys(("fail", ".expect", "refusal", "_refusal", "_malformed", "_no_counterpart", "_unlike"), 1),
    "._equal": 3,
    **dict.fromkeys((".mix", ".uniform", ".known", ".plain", ".freeze", "_WrongModeError.of"), 1),
    **dict.fromkeys(("._without_tail", "._uniform", "._averaged"), 1),
}
"""Functions that make messages of the words they are given: name -> which argument holds the words."""

_BY_NAME = ("why", "problem", "needed", "difference", "reason")
"""Arguments that hold such words wherever they are named."""

REASONS = ("mix", "uniform", "known", "plain", "freeze", "same_width", "refuse", "_equal", "_none", "return")
"""Those whose words are kept in labels or plans, and said later if at all."""

_TELLERS = (
    *("_explain", "_reason", "cuda_problem", "mps_problem", "follows", "_sidecar_warning"),
    *("_first_change", "_other_attributes", "_spec_problems", "_type_problems", "_norm_problems"),
)
"""Functions that return or yield such words."""

_OF_CLASSES = ("reading", "averages")
"""Attributes of ops that hold such words."""

Piece: TypeAlias = str | None
"""Text as it stands in the code; None for what is filled in."""


@dataclass(frozen=True)
class Birth:
    """Words that stand at one place in the code, and can come before a user."""

    file: str
    first: int
    last: int
    error: str
    words: tuple[Piece, ...]

    @property
    def key(self) -> str:
        """The words with gaps; the same words at two places are one message."""
        return "".join(GAP if piece is None else piece for piece in self.words)

    @property
    def whole(self) -> bool:
        """Whether these words are the message, and not a clause of it."""
        return self.error in _ERRORS

    @property
    def letters(self) -> int:
        """How many letters of its words are always the same."""
        return sum(c.isalpha() for piece in self.words for c in piece or "")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the words look like in a message, with anything in the gaps; a reason is a whole clause."""
        text = "".join(".*?" if piece is None else re.escape(piece) for piece in self.words)
        return re.compile(text + ("(?=[,:;]|$)" if self.error in REASONS else ""), re.DOTALL)

    def holds(self, file: str, line: int) -> bool:
        """Whether a line of a file is within the call."""
        return self.file == file and self.first <= line <= self.last

    def said_in(self, message: str) -> bool:
        """Whether the message, or a part of it, has these words."""
        found = self.pattern.fullmatch(message) if self.whole else self.pattern.search(message)
        return found is not None


@cache
def all_births() -> tuple[Birth, ...]:
    """Of the whole package, by file and line."""
    files = sorted(PACKAGE.rglob("*.py"))
    return tuple(birth for file in files for birth in _of_file(file) if birth.key.strip(f"{GAP} ,:`"))


def _of_file(file: Path) -> Iterator[Birth]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    constants = {**_constants(), **_texts(tree.body)}
    name = file.relative_to(PACKAGE).as_posix()
    for function, known in _functions(tree, constants):
        if getattr(function, "name", None) in _TELLERS:
            yield from _returned(function, known, name)
        for node in _calls(function):
            if (given := _given(node)) is None:
                continue
            called, words = given
            for variant in _variants(words, known):
                yield Birth(name, node.lineno, node.end_lineno or node.lineno, called, variant)
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in _OF_CLASSES:
            for variant in _variants(statement.value, constants):
                yield Birth(name, statement.lineno, statement.lineno, "mix", variant)


def _returned(function: ast.AST, known: Mapping[str, list[ast.expr]], name: str) -> Iterator[Birth]:
    for node in ast.walk(function):
        if isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            for variant in _variants(node.value, known):
                yield Birth(name, node.lineno, node.end_lineno or node.lineno, "return", variant)


@cache
def _constants() -> dict[str, list[ast.expr]]:
    """Texts that any module of the package gives a name in capitals."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py"))
    return {name: texts for tree in trees for name, texts in _texts(tree.body).items() if name.isupper()}


def _functions(
    tree: ast.Module, constants: Mapping[str, list[ast.expr]]
) -> Iterator[tuple[ast.AST, dict[str, list[ast.expr]]]]:
    """The module's own statements and each function, each with the expressions that its names may stand for."""
    yield tree, dict(constants)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            body = node.body if isinstance(node, ast.FunctionDef) else []
            yield node, {**constants, **_texts(list(_statements(body)))}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.stmt):
                yield node


def _texts(body: list[ast.stmt]) -> dict[str, list[ast.expr]]:
    """Names that are given a text, and the texts."""
    found: dict[str, list[ast.expr]] = {}
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        for target in targets:
            names, values = [target], [value]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                names, values = list(target.elts), list(value.elts)
            for one, text in zip(names, values, strict=False):
                if isinstance(one, ast.Name) and isinstance(text, (ast.Constant, ast.JoinedStr, ast.IfExp, ast.BinOp)):
                    found.setdefault(one.id, []).append(text)
    return found


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    """Calls in a function, but not in functions inside of it."""
    todo = list(ast.iter_child_nodes(function))
    while todo:
        node = todo.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call):
            yield node
        todo[:0] = ast.iter_child_nodes(node)


def _given(node: ast.Call) -> tuple[str, ast.expr] | None:
    """What a call is, and its argument that holds words; None for a call that says nothing."""
    called = ast.unparse(node.func)
    short = called.rpartition(".")[2]
    names = (called, f".{short}" if isinstance(node.func, ast.Attribute) else short)
    place = next((t[n] for t in (_ERRORS, FAILS, _SAYERS) for n in names if n in t), None)
    named = {k.arg: k.value for k in node.keywords}
    words = next((named[name] for name in ("message", *_BY_NAME) if name in named), None)
    if place is not None and len(node.args) > place:
        words = node.args[place]
    return None if words is None or (place is None and short[:1].isupper()) else (short, words)


def _variants(words: ast.expr, known: Mapping[str, list[ast.expr]], depth: int = 0) -> list[tuple[Piece, ...]]:
    """All that an expression may say, as far as the code around it shows."""
    if isinstance(words, ast.Constant):
        return [(words.value,)] if isinstance(words.value, str) else []
    if isinstance(words, ast.IfExp):
        return [v for part in (words.body, words.orelse) for v in _variants(part, known, depth)]
    if isinstance(words, ast.BoolOp):
        return [v for part in words.values for v in _variants(part, known, depth)]
    if isinstance(words, ast.List):
        return [v for part in words.elts for v in _variants(part, known, depth)]
    if isinstance(words, ast.JoinedStr):
        return [tuple(_piece(v) for v in words.values)]
    if isinstance(words, ast.BinOp) and isinstance(words.op, ast.Add):
        left, right = (_variants(part, known, depth) for part in (words.left, words.right))
        return [a + b for a in left for b in right]
    if isinstance(words, ast.Name) and words.id in known and depth < 3:
        return [v for text in known[words.id] for v in _variants(text, known, depth + 1)]
    return [(None,)]


def _piece(value: ast.expr) -> Piece:
    return str(value.value) if isinstance(value, ast.Constant) else None


def unknown_sayers() -> list[str]:
    """Functions that make messages of words that they are given, and whose callers nobody looks at."""
    known = {name.rpartition(".")[2] for name in _SAYERS}
    return [
        f"{file.relative_to(PACKAGE).as_posix()}: {node.name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name not in known and _passes_words_on(node)
    ]


def _passes_words_on(function: ast.FunctionDef) -> bool:
    """Whether words of a message are a parameter that is not given by name wherever the function is called."""
    texts = {
        a.arg
        for a in function.args.args
        if a.annotation is not None and ast.unparse(a.annotation) in ("str", "str | None")
    }
    places = texts & set(_BY_NAME)
    said = [given[1] for given in map(_given, _calls(function)) if given is not None]
    return any(isinstance(part, ast.Name) and part.id in places for words in said for part in ast.walk(words))
