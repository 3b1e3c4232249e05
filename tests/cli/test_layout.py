from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.running import run
from net2net_cli.cli import completion
from net2net_cli.cli.importing import parse_kwarg
from net2net_cli.cli.names import abbreviated, patterns
from net2net_cli.cli.tables import brief, cells, growth, shortened


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["conv1"], ["conv1"]),
        (["conv1", "fc"], ["conv1", "fc"]),
        (["layer1.0.conv3", "layer1.1.conv3", "layer1.2.conv3"], ["layer1.{0-2}.conv3"]),
        (["a.0.w", "a.7.w"], ["a.{0,7}.w"]),
        ([f"s{i}.{j}.c" for i in (1, 2) for j in (0, 1)], ["s{1,2}.{0,1}.c"]),
        (["s1.0.c", "s1.1.c", "s2.0.c"], ["s1.{0,1}.c", "s2.0.c"]),
    ],
)
def test_names_are_put_together_exactly(names: list[str], found: list[str]) -> None:
    entries = patterns(names)
    assert [text for text, _ in entries] == found
    assert sorted(name for _, same in entries for name in same) == sorted(names)


def test_names_are_never_broken() -> None:
    names = ["layer1.0.downsample.0", "layer1.1.conv3", "layer1.2.conv3"]
    assert abbreviated(names, None) == "layer1.{1,2}.conv3, layer1.0.downsample.0"
    assert abbreviated(names, 24) == "layer1.{1,2}.conv3 +1"
    assert abbreviated(names, 10) == "3 layers"
    assert abbreviated(names[:1], 5) == names[0]


def test_text_is_cut_between_words() -> None:
    assert shortened("is the network's output", 16) == "is the…"
    assert shortened("is the network's output", None) == "is the network's output"
    assert cells(shortened("ネットワーク全体の名前", 9)) <= 9


def test_numbers_for_people() -> None:
    assert [brief(n) for n in (0, 999, 1234, 4_089_000_000)] == ["0", "999", "1.23 k", "4.09 G"]
    assert growth(100, 102) == "+2.0 %"
    assert growth(100, 100) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [("n=10", 10), ("n=0.5", 0.5), ("n=true", True), ("n=None", None), ("n=relu", "relu"), ("n=[1, 2]", [1, 2])],
)
def test_kwargs_are_read_as_python_writes_them(text: str, value: object) -> None:
    assert parse_kwarg(text) == ("n", value)


def context(**params: object) -> SimpleNamespace:
    return SimpleNamespace(params=params)


def test_layer_names_complete_from_the_embedded_spec(teacher: Path) -> None:
    teacher.with_suffix(".json").unlink()
    given = context(teacher=teacher)
    assert completion.complete_growth(given, "block.") == ["block.conv2=2x", "block.conv3=2x"]  # type: ignore[arg-type]
    assert completion.complete_layer(given, "b") == ["block.conv2", "block.conv3", "block"]  # type: ignore[arg-type]


def test_completion_is_silent_where_anything_is_wrong(tmp_path: Path) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        assert completion.complete_growth(context(teacher=path), "") == []  # type: ignore[arg-type]
    assert completion.complete_growth(context(), "") == []  # type: ignore[arg-type]


def test_the_widest_row_of_a_terminal_is_80_columns(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("net2net_cli.cli.tables.terminal_width", lambda: 80)
    done = run("inspect", teacher)
    assert max(cells(line) for line in done.out.splitlines() if "Conv2d" in line) <= 80
