"""What people write becomes demands: names, globs, widths, rounding, and errors that say what to write instead."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from channels.sketch import conv, layer, linear, make, network, norm

from net2net_cli.channels.labels import find_labels
from net2net_cli.errors import GrowthRefusedError, UsageError
from net2net_cli.growth.requests import (
    Request,
    glob_to_regex,
    parse_request,
    requests_from,
    resolve,
    target_width,
)

GRAPH = network(
    (3, 4, 4),
    layer("stem", conv(3, 4), "x"),
    layer("bn", norm(4), "stem"),
    layer("layer1.0.conv1", conv(4, 6), "bn"),
    layer("layer1.0.conv2", conv(6, 4), "layer1.0.conv1"),
    layer("layer1.0.add", make("add"), "layer1.0.conv2", "bn"),
    layer("layer1.1.conv1", conv(4, 6), "layer1.0.add"),
    layer("layer1.1.conv2", conv(6, 4), "layer1.1.conv1"),
    layer("layer1.1.add", make("add"), "layer1.1.conv2", "layer1.0.add"),
    layer("pool", make("mean", (2, 3)), "layer1.1.add"),
    layer("fc", linear(4, 2), "pool"),
)
LABELS = find_labels(GRAPH)


def widths(*texts: str, round_to: int = 1, where_possible: bool = False) -> dict[str, int]:
    demands, _ = resolve(LABELS, [parse_request(t) for t in texts], round_to=round_to, where_possible=where_possible)
    return {d.layer: d.width for d in demands}


@pytest.mark.parametrize(
    ("pattern", "matches", "passes"),
    [
        ("layer1.0.conv1", ["layer1.0.conv1"], ["layer1x0xconv1", "layer1.0.conv12"]),
        ("layer1.*.conv1", ["layer1.0.conv1", "layer1.12.conv1"], ["layer1.0.1.conv1", "layer1.conv1"]),
        ("layer1.**", ["layer1.0", "layer1.0.conv1"], ["layer2.0", "layer10"]),
        ("**conv1", ["conv1", "a.b.conv1", "myconv1"], ["conv10"]),
        ("conv?", ["conv1"], ["conv", "conv.", "conv12"]),
        ("layer[1-3].0", ["layer1.0", "layer3.0"], ["layer4.0"]),
        ("layer[!1].0", ["layer2.0"], ["layer1.0"]),
        ("*", ["stem"], ["layer1.0"]),
        ("**", ["stem", "layer1.0.conv1"], []),
    ],
)
def test_a_glob_stays_within_one_dotted_part_unless_it_is_doubled(
    pattern: str, matches: Sequence[str], passes: Sequence[str]
) -> None:
    regex = glob_to_regex(pattern)
    assert [m for m in matches if not regex.fullmatch(m)] == []
    assert [p for p in passes if regex.fullmatch(p)] == []


@pytest.mark.parametrize(
    ("text", "now", "round_to", "width"),
    [
        ("96", 64, 1, 96),
        ("+1", 64, 1, 65),
        ("2x", 7, 1, 14),
        ("1.5x", 7, 1, 11),  # 10.5 rounds up
        ("1.5x", 5, 1, 8),  # 7.5 rounds up
        ("1.1x", 4, 1, 4),
        ("1.25x", 10, 1, 13),
        ("65", 64, 8, 72),
        ("64", 64, 8, 64),
        ("1.5x", 7, 8, 16),
        ("+1", 64, 32, 96),
    ],
)
def test_a_width_is_a_number_a_factor_or_an_addition(text: str, now: int, round_to: int, width: int) -> None:
    assert target_width(text, now, round_to) == width


def test_a_request_is_split_at_its_last_equals_sign() -> None:
    assert parse_request("layer1.*.conv1=1.5x") == Request("layer1.*.conv1", "1.5x")
    assert requests_from({"a": 12, "b": "2x"}) == [Request("a", "12"), Request("b", "2x")]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("stem", "`stem` says no width", "`stem=128`"),
        ("=64", "`=64` says no width", ""),
        ("", "`` says no width", "`LAYER=128`"),
        ("stem=", "`` is no width for `stem`", "`2x`"),
        ("stem=wide", "`wide` is no width for `stem`", "`1.5x`"),
        ("stem=-4", "`-4` is no width for `stem`", "`+32`"),
        ("stem=2.5", "`2.5` is no width for `stem`", ""),
        ("stem=x2", "`x2` is no width for `stem`", ""),
        ("stem=1e3", "`1e3` is no width for `stem`", ""),
    ],
)
def test_what_is_no_request_is_refused_with_an_example(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as wrong:
        parse_request(text)
    assert wrong.value.message == message
    assert hint in (wrong.value.hint or "")


def test_a_glob_asks_each_coupled_group_once() -> None:
    assert widths("layer1.*.conv1=2x") == {"layer1.0.conv1": 12, "layer1.1.conv1": 12}
    assert widths("layer1.*.conv2=6") == {"layer1.0.conv2": 6}  # both are added to one stream


def test_two_names_of_one_group_with_one_width_count_once() -> None:
    assert widths("stem=6", "layer1.0.conv2=1.5x", "layer1.1.conv2=+2") == {"stem": 6}


def test_two_names_of_one_group_with_two_widths_are_an_error_that_names_both() -> None:
    with pytest.raises(UsageError) as wrong:
        widths("stem=6", "layer1.1.conv2=8")
    assert "`stem` and `layer1.1.conv2` grow together" in wrong.value.message
    assert "6 (`stem=6`) and 8 (`layer1.1.conv2=8`)" in wrong.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stm=6", "`stm` names no layer of this network"),
        ("layer9.*=6", "`layer9.*` matches no layer"),
        ("bn=6", "`bn` has no width of its own: it follows `stem`, `layer1.0.conv2`, `layer1.1.conv2`"),
        ("b*=6", "`b*` matches no layer with a width of its own"),
        ("stem=4", "`stem` is 4 wide already, and 4 is asked for; layers only grow"),
        ("stem=1.1x", "`stem` is 4 wide already, and 1.1x is 4; layers only grow"),
        ("stem=+0", "`stem` is 4 wide already, and +0 is 4; layers only grow"),
    ],
)
def test_what_cannot_be_meant_is_an_error(text: str, message: str) -> None:
    with pytest.raises(UsageError) as wrong:
        widths(text)
    assert wrong.value.message == message
    assert wrong.value.hint


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError) as wrong:
        widths("layer1.0.conv=6")
    assert "`layer1.0.conv1`" in (wrong.value.hint or "")


def test_the_output_layer_is_refused() -> None:
    with pytest.raises(GrowthRefusedError) as refused:
        widths("fc=4")
    assert refused.value.message == "`fc` cannot be widened: it is the network's output `out`"


def test_a_glob_is_all_or_nothing_unless_it_may_pass_over() -> None:
    with pytest.raises(GrowthRefusedError):
        widths("**=2x")
    demands, notes = resolve(LABELS, [Request("**", "2x")], where_possible=True)
    assert {d.layer: d.width for d in demands} == {"stem": 8, "layer1.0.conv1": 12, "layer1.1.conv1": 12}
    assert notes == ["passed over: `fc` cannot be widened: it is the network's output `out`"]


def test_a_named_layer_is_never_passed_over() -> None:
    with pytest.raises(GrowthRefusedError):
        widths("fc=4", where_possible=True)


def test_nothing_to_widen_is_an_error() -> None:
    with pytest.raises(UsageError):
        resolve(LABELS, [])


def test_a_second_use_of_shared_weights_stands_for_the_first() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("a_1", conv(3, 4), "x", weights_of="a"),
        layer("cat", make("cat", 1), "a", "a_1"),
        layer("out", conv(8, 2), "cat"),
    )
    demands, _ = resolve(find_labels(graph), [parse_request("a_1=6")])
    assert [(d.layer, d.width) for d in demands] == [("a", 6)]
