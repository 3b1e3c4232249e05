"""Which channels must grow together, and which cannot grow: read off small graphs whose answer is known by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from channels.sketch import N, chain, conv, deconv, layer, linear, make, network, norm
from net2net_cli.architecture.graph import Graph
from net2net_cli.channels.groups import Groups
from net2net_cli.channels.labels import Labels, find_labels


def classes(labels: Labels, name: str) -> list[int]:
    """The class of each channel that a layer makes."""
    axis = labels.output_axis(name)
    assert axis is not None
    return [int(c) for c in labels.group[axis]]


def coupled(labels: Labels, first: str, second: str) -> list[tuple[int, int]]:
    """Which channels of two layers are of one class."""
    a, b = classes(labels, first), classes(labels, second)
    return [(i, j) for i, x in enumerate(a) for j, y in enumerate(b) if x == y]


def frozen(labels: Labels, name: str) -> list[bool]:
    axis = labels.output_axis(name)
    assert axis is not None
    return [bool(f) for f in labels.is_frozen(axis)]


def pairs(count: int, *, start: int = 0) -> list[tuple[int, int]]:
    return [(i, i + start) for i in range(count)]


def test_channels_of_a_plain_layer_are_classes_of_their_own() -> None:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 5), relu=make("ReLU"), b=conv(5, 2)))
    assert len(set(classes(labels, "a"))) == 5
    assert coupled(labels, "a", "b") == []
    assert frozen(labels, "a") == [False] * 5


def test_the_output_is_frozen_and_named() -> None:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 5), b=conv(5, 2), relu=make("ReLU")))
    axis = labels.output_axis("b")
    assert axis is not None
    freeze = labels.why_frozen(axis)
    assert freeze is not None
    assert (freeze.layer, freeze.why) == ("relu", "is the network's output `out`")


def test_an_addition_couples_channel_by_channel() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("b", conv(4, 4), "a"),
        layer("sum", make("add"), "a", "b"),
        layer("out", conv(4, 2), "sum"),
    )
    assert coupled(find_labels(graph), "a", "b") == pairs(4)


def test_an_addition_with_the_networks_input_freezes() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 3), "x"),
        layer("sum", make("add"), "a", "x"),
        layer("out", conv(3, 2), "sum"),
    )
    labels = find_labels(graph)
    assert frozen(labels, "a") == [True] * 3
    axis = labels.output_axis("a")
    assert axis is not None
    freeze = labels.why_frozen(axis)
    assert freeze is not None
    assert freeze.why == "meets channels there that cannot change"


def test_a_dual_path_couples_parts() -> None:
    """`cat([a, d]) + o`: o's first 3 channels are a's, its last 2 are d's."""
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 3), "x"),
        layer("d", conv(3, 2), "x"),
        layer("o", conv(3, 5), "x"),
        layer("cat", make("cat", 1), "a", "d"),
        layer("sum", make("add"), "cat", "o"),
        layer("out", conv(5, 2), "sum"),
    )
    labels = find_labels(graph)
    assert coupled(labels, "a", "o") == [(0, 0), (1, 1), (2, 2)]
    assert coupled(labels, "d", "o") == [(0, 3), (1, 4)]
    assert coupled(labels, "a", "d") == []


def test_concatenation_alone_couples_nothing() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 3), "x"),
        layer("d", conv(3, 3), "x"),
        layer("cat", make("cat", 1), "a", "d"),
        layer("out", conv(6, 2), "cat"),
    )
    assert coupled(find_labels(graph), "a", "d") == []


def test_crossed_concatenations_couple_both_ways() -> None:
    """`cat([a, b]) + cat([b, a])` ties a[i] with b[i]."""
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 2), "x"),
        layer("b", conv(3, 2), "x"),
        layer("ab", make("cat", 1), "a", "b"),
        layer("ba", make("cat", 1), "b", "a"),
        layer("sum", make("add"), "ab", "ba"),
        layer("out", conv(4, 2), "sum"),
    )
    assert coupled(find_labels(graph), "a", "b") == pairs(2)


def test_sections_of_a_split_are_the_channels_they_cut_out() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 8), "x"),
        layer("p", make("split", (3, 5), 1, 0), "a"),
        layer("q", make("split", (3, 5), 1, 1), "a"),
        layer("b", conv(3, 3), "x"),
        layer("sum", make("add"), "p", "b"),
        layer("out", conv(3, 2), "sum"),
        layer("out2", conv(5, 2), "q"),
        layer("total", make("add"), "out", "out2"),
    )
    assert coupled(find_labels(graph), "a", "b") == pairs(3)


def test_a_gate_couples_both_halves() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 6), "x"),
        layer("p", make("chunk", 2, 1, 0), "a"),
        layer("q", make("chunk", 2, 1, 1), "a"),
        layer("mul", make("mul"), "p", "q"),
        layer("out", conv(3, 2), "mul"),
    )
    found = classes(find_labels(graph), "a")
    assert found[:3] == found[3:]
    assert len(set(found)) == 3


def test_a_layer_used_twice_in_a_row_couples_its_input_with_its_output() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("twice", conv(4, 4, 3), "a"),
        layer("again", conv(4, 4, 3), "twice", weights_of="twice"),
        layer("out", conv(4, 2), "again"),
    )
    assert coupled(find_labels(graph), "a", "twice") == pairs(4)


def test_a_siamese_branch_couples_what_enters_it() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("b", conv(3, 4), "x"),
        layer("branch", conv(4, 5), "a"),
        layer("branch_1", conv(4, 5), "b", weights_of="branch"),
        layer("cat", make("cat", 1), "branch", "branch_1"),
        layer("out", conv(10, 2), "cat"),
    )
    labels = find_labels(graph)
    assert coupled(labels, "a", "b") == pairs(4)
    assert coupled(labels, "a", "branch") == []


def test_flattened_channels_are_copied_in_blocks_of_their_pixels() -> None:
    graph = chain((3, 2, 3), a=conv(3, 4), flat=make("rearrange", "n c h w -> n (c h w)"), out=linear(24, 2))
    labels = find_labels(graph)
    flat = labels.found.values["flat"][1]
    assert flat is not None
    own = classes(labels, "a")
    assert labels.group[flat].tolist() == [c for c in own for _ in range(6)]
    assert labels.block_length[labels.block[flat]].tolist() == [6] * 24


def test_heads_of_a_viewed_axis_are_copied_whole_where_attention_scores_fix_their_size() -> None:
    """(heads × size) channels; scores multiply over `size`, which therefore keeps its slices."""
    heads, size = 2, 3
    to_heads = make("rearrange", "n t (h d) -> n h t d", {"h": heads})
    graph = network(
        (5, 4),
        layer("q", linear(4, heads * size), "x"),
        layer("k", linear(4, heads * size), "x"),
        layer("qh", to_heads, "q"),
        layer("kh", to_heads, "k"),
        layer("kt", make("rearrange", "n h t d -> n h d t"), "kh"),
        layer("scores", make("matmul"), "qh", "kt"),
        layer("flat", make("rearrange", "n h s t -> n s (h t)"), "scores"),
        layer("out", linear(heads * 5, 2), "flat"),
    )
    labels = find_labels(graph)
    own = classes(labels, "q")
    assert own == [own[0]] * size + [own[size]] * size
    assert own[0] != own[size]
    assert frozen(labels, "q") == [False] * 6
    axis = labels.output_axis("q")
    assert axis is not None
    assert labels.block_length[labels.block[axis]].tolist() == [size] * 6
    assert coupled(labels, "q", "k") == [(i, j) for i in range(6) for j in range(6) if i // size == j // size]


def test_a_depthwise_convolution_follows_its_channels_in_blocks_of_its_multiplier() -> None:
    graph = chain((3, 4, 4), a=conv(3, 4), deep=conv(4, 8, 3, groups=4), out=conv(8, 2))
    labels = find_labels(graph)
    own = classes(labels, "a")
    assert classes(labels, "deep") == [c for c in own for _ in range(2)]
    assert Groups(labels).followers("a") == []
    assert [m.layer for m in Groups(labels).members("a")] == ["deep"]


def test_a_convolution_of_one_channel_is_no_depthwise_one() -> None:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 1), b=conv(1, 4, 3), out=conv(4, 2)))
    assert coupled(labels, "a", "b") == []


def test_a_one_channel_gate_that_is_stretched_keeps_its_channel() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("gate", conv(4, 1), "a"),
        layer("mul", make("mul"), "a", "gate"),
        layer("out", conv(4, 2), "mul"),
    )
    labels = find_labels(graph)
    assert frozen(labels, "gate") == [True]
    assert frozen(labels, "a") == [False] * 4


def test_a_position_embedding_is_tied_to_the_tokens_it_is_added_to() -> None:
    graph = network(
        (5, 3),
        layer("embed", linear(3, 4), "x"),
        layer("position", make("Parameter", (1, 5, 4))),
        layer("sum", make("add"), "embed", "position"),
        layer("out", linear(4, 2), "sum"),
    )
    assert coupled(find_labels(graph), "embed", "position") == pairs(4)


def test_padded_channels_are_frozen_by_what_they_are_added_to_no_more_than_others() -> None:
    """Option A: 2 zero channels on each side of 4 channels are added to 8 channels of another layer."""
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("padded", make("pad", (0, 0, 0, 0, 2, 2)), "a"),
        layer("b", conv(3, 8), "x"),
        layer("sum", make("add"), "padded", "b"),
        layer("out", conv(8, 2), "sum"),
    )
    labels = find_labels(graph)
    assert coupled(labels, "a", "b") == pairs(4, start=2)
    assert frozen(labels, "b") == [False] * 8


def test_a_transposed_convolution_makes_channels_like_any_other() -> None:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 4), up=deconv(4, 6, groups=2), out=conv(6, 2)))
    assert len(set(classes(labels, "up"))) == 6
    assert coupled(labels, "a", "up") == []


def test_a_batch_norm_follows_and_a_consumer_reads() -> None:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 4), bn=norm(4), relu=make("ReLU"), b=conv(4, 5), out=conv(5, 2)))
    groups = Groups(labels)
    assert groups.followers("a") == ["bn"]
    assert groups.readers("a") == ["b"]
    assert groups.members("a") == []


def test_members_of_a_group_name_the_op_that_couples_them() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("b", conv(4, 4), "a"),
        layer("sum", make("add"), "a", "b"),
        layer("out", conv(4, 2), "sum"),
    )
    (member,) = Groups(find_labels(graph)).members("a")
    assert (member.layer, member.why) == ("b", "`sum` ties its operands (add)")


MIXING = {
    "sum": (make("sum", (1,), True), "sums over it, and no weight can share out the copies"),
    "softmax": (make("Softmax", 1), "normalises over it"),
    "softmax2d": (make("Softmax2d"), "normalises over it"),
    "unbiased variance": (make("var", (1,), True, unbiased=True), "takes the variance over it"),
    "normalize": (make("normalize", 2.0, 1, 1e-12), "divides by the norm over it"),
    "local response norm": (make("LocalResponseNorm", 3), "sums over neighbouring channels"),
    "select": (make("select", 1, 2), "takes a single slice of it"),
    "stride": (make("slice", 1, 0, 6, 2), "takes one slice of every 2 of it"),
    "reflected padding": (make("pad", (0, 0, 0, 0, 1, 1), "reflect"), "pads it in mode `reflect`"),
    "cropping": (make("pad", (0, 0, 0, 0, -1, 0)), "pads it in mode `constant`"),
    "uneven chunks": (make("chunk", 4, 1, 0), "cuts it into chunks of unequal size"),
    "pooling over channels": (make("MaxPool3d", (2, 1, 1), (2, 1, 1)), "pools over it"),
}


@pytest.mark.parametrize("name", MIXING)
def test_an_op_that_lets_channels_act_on_each_other_freezes_them_and_says_why(name: str) -> None:
    op, why = MIXING[name]
    labels = find_labels(chain((3, 4, 4), a=conv(3, 6), mixing=op))
    assert frozen(labels, "a") == [True] * 6
    axis = labels.output_axis("a")
    assert axis is not None
    freeze = labels.why_frozen(axis)
    assert freeze is not None
    assert (freeze.layer, freeze.why) == ("mixing", why)


def test_a_product_of_activations_freezes_the_axis_it_sums_over() -> None:
    graph = network(
        (5, 3),
        layer("q", linear(3, 4), "x"),
        layer("k", linear(3, 4), "x"),
        layer("kt", make("rearrange", "n t d -> n d t"), "k"),
        layer("scores", make("matmul"), "q", "kt"),
    )
    labels = find_labels(graph)
    assert frozen(labels, "q") == [True] * 4
    assert frozen(labels, "k") == [True] * 4


def test_an_axis_that_is_merged_before_the_batch_is_frozen() -> None:
    graph = chain(
        (3, 4),
        a=make("Conv1d", 3, 4, (1,), (1,), (0,), (1,), 1, True, "zeros"),
        merged=make("rearrange", "n c l -> (c n) l"),
        apart=make("rearrange", "(c n) l -> n (c l)", {"c": 4}),
        out=linear(16, 2),
    )
    labels = find_labels(graph)
    assert frozen(labels, "a") == [True] * 4


def test_an_axis_that_is_merged_behind_the_batch_keeps_its_labels() -> None:
    graph = chain(
        (3, 4),
        a=make("Conv1d", 3, 4, (1,), (1,), (0,), (1,), 1, True, "zeros"),
        merged=make("rearrange", "n c l -> (n c) l"),
        soft=make("Softmax", 1),
        apart=make("rearrange", "(n c) l -> n c l", {"c": 4}),
        b=make("Conv1d", 4, 2, (1,), (1,), (0,), (1,), 1, True, "zeros"),
    )
    labels = find_labels(graph)
    assert frozen(labels, "a") == [False] * 4
    assert labels.found.values["merged"][0] is labels.found.values["a"][1]


def test_an_op_that_takes_merged_channels_for_samples_freezes_them() -> None:
    graph = chain(
        (3, 4),
        a=make("Conv1d", 3, 4, (1,), (1,), (0,), (1,), 1, True, "zeros"),
        merged=make("rearrange", "n c l -> (n c) 1 l"),
        pool=make("MaxPool1d", (1,), (1,), (0,), (1,), False),
        apart=make("rearrange", "(n c) 1 l -> n c l", {"c": 4}),
        b=make("Conv1d", 4, 2, (1,), (1,), (0,), (1,), 1, True, "zeros"),
    )
    labels = find_labels(graph)
    assert frozen(labels, "a") == [True] * 4
    why = labels.why_frozen(labels.found.created["a", "weight", 0])
    assert why is not None
    assert (why.layer, why.why) == ("pool", "takes it for samples of the batch")


def test_a_convolution_over_channels_freezes_them() -> None:
    """Efficient channel attention: a Conv1d slides over the channel axis."""
    slide = make("Conv1d", 1, 1, (3,), (1,), (1,), (1,), 1, False, "zeros")
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 6), "x"),
        layer("mean", make("mean", (2, 3)), "a"),
        layer("row", make("rearrange", "n c -> n 1 c"), "mean"),
        layer("eca", slide, "row"),
        layer("out", linear(6, 2), "eca"),
    )
    labels = find_labels(graph)
    axis = labels.output_axis("a")
    assert axis is not None
    freeze = labels.why_frozen(axis)
    assert freeze is not None
    assert (freeze.layer, freeze.why) == ("eca", "slides over it")


def test_a_linear_layer_over_tokens_carries_the_channels_beside_them() -> None:
    """Token mixing on [N, C, T]: the linear layer reads T; C passes through."""
    graph = network(
        (3, 5),
        layer("a", make("Conv1d", 3, 4, (1,), (1,), (0,), (1,), 1, True, "zeros"), "x"),
        layer("mix", linear(5, 5), "a"),
        layer("out", make("Conv1d", 4, 2, (1,), (1,), (0,), (1,), 1, True, "zeros"), "mix"),
    )
    labels = find_labels(graph)
    carried = labels.found.values["mix"][1]
    assert carried is not None
    assert labels.group[carried].tolist() == classes(labels, "a")
    assert frozen(labels, "a") == [False] * 4


def test_the_largest_over_channels_frees_them_and_the_mean_makes_them_one_class() -> None:
    largest = find_labels(chain((3, 4, 4), a=conv(3, 4), most=make("amax", (1,), True), out=conv(1, 2)))
    assert len(set(classes(largest, "a"))) == 4
    assert frozen(largest, "a") == [False] * 4
    mean = find_labels(chain((3, 4, 4), a=conv(3, 4), mean=make("mean", (1,), True), out=conv(1, 2)))
    assert len(set(classes(mean, "a"))) == 1
    assert frozen(mean, "a") == [False] * 4


def test_a_layer_norm_makes_its_channels_one_class() -> None:
    graph = chain((5, 3), a=linear(3, 4), norm=make("LayerNorm", (4,), 1e-5, True, True), out=linear(4, 2))
    assert len(set(classes(find_labels(graph), "a"))) == 1


@pytest.mark.parametrize(("groups", "unit"), [(2, 3), (3, 2), (6, 1)])
def test_a_group_norm_copies_whole_groups(groups: int, unit: int) -> None:
    graph = chain((3, 4, 4), a=conv(3, 6), norm=make("GroupNorm", groups, 6, 1e-5, True), out=conv(6, 2))
    labels = find_labels(graph)
    axis = labels.output_axis("a")
    assert axis is not None
    own = classes(labels, "a")
    assert [own.index(c) // unit for c in own] == [i // unit for i in range(6)]
    assert labels.block_length[labels.block[axis]].tolist() == [unit] * 6


def test_a_split_lets_the_other_factor_grow_where_the_first_is_frozen() -> None:
    """(3 × 4) features: softmax freezes the 4, so the 3 grow in blocks of 4."""
    graph = chain(
        (5,),
        a=linear(5, 12),
        view=make("rearrange", "n (g c) -> n g c", {"g": 3}),
        soft=make("Softmax", 2),
        flat=make("rearrange", "n g c -> n (g c)"),
        out=linear(12, 2),
    )
    labels = find_labels(graph)
    own = classes(labels, "a")
    assert [own.index(c) for c in own] == [0] * 4 + [4] * 4 + [8] * 4
    assert frozen(labels, "a") == [False] * 12


def test_labels_of_a_shared_layer_are_made_once() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("b", conv(3, 4), "x", weights_of="a"),
        layer("sum", make("add"), "a", "b"),
        layer("out", conv(4, 2), "sum"),
    )
    labels = find_labels(graph)
    first, second = labels.found.values["a"][1], labels.found.values["b"][1]
    assert first is not None
    assert second is not None
    assert np.array_equal(labels.group[first], labels.group[second])


def test_no_rule_depends_on_the_batch_size() -> None:
    graph: Graph = chain((3, 4, 4), a=conv(3, 4), out=conv(4, 2))
    labels = find_labels(graph)
    assert labels.graph.shapes["a"][0] == N
    assert labels.found.values["a"][0] is None


def test_an_axis_that_is_squeezed_away_keeps_its_one_slice() -> None:
    squeeze = make("rearrange", "n 1 h w -> n h w")
    graph = chain((3, 4, 4), first=conv(3, 4), one=conv(4, 1), squeezed=squeeze, out=linear(4, 2))
    labels = find_labels(graph)
    axis = labels.output_axis("one")
    assert axis is not None
    freeze = labels.why_frozen(axis)
    assert freeze is not None
    assert (freeze.layer, freeze.why) == ("squeezed", "drops it as an axis of a single slice")


def attention(*, values: str = "v") -> Graph:
    """Three linear layers seen as (2 heads × 3): scores multiply over the 3, so that the 2 grow everywhere."""
    heads = make("rearrange", "n t (h d) -> n h t d", {"h": 2})
    return network(
        (5, 4),
        *(layer(name, linear(4, 6), "x") for name in ("q", "k", "v")),
        *(layer(f"{name}h", heads, name) for name in ("q", "k", "v")),
        layer("kt", make("rearrange", "n h t d -> n h d t"), "kh"),
        layer("scores", make("matmul"), "qh", "kt"),
        layer("mixed", make("matmul"), "scores", f"{values}h"),
        layer("flat", make("rearrange", "n h t d -> n t (h d)"), "mixed"),
        layer("out", linear(6, 2), "flat"),
    )


def test_a_split_gives_way_to_heads_that_cannot_grow_without_it() -> None:
    """Nothing holds the values' 3, but heads of queries and keys meet those of the values."""
    labels = find_labels(attention())
    for name in ("q", "k", "v"):
        own = classes(labels, name)
        assert own == [own[0]] * 3 + [own[3]] * 3
        assert frozen(labels, name) == [False] * 6
    assert classes(labels, "q") == classes(labels, "v")


def test_a_split_takes_back_what_it_gave_where_that_is_in_vain() -> None:
    """The queries' heads are the network's output too, so that the values' 3 may as well grow."""
    graph = attention()
    shown = layer("shown", make("rearrange", "n h t d -> n (t d) h"), "qh")
    graph = replace(graph, layers=(*graph.layers, shown), outputs={"out": "out", "heads": "shown"})
    labels = find_labels(graph)
    assert frozen(labels, "q") == frozen(labels, "k") == [True] * 6
    own = classes(labels, "v")
    assert own == own[:3] * 2
    assert frozen(labels, "v") == [False] * 6


def test_query_heads_that_share_a_key_form_sections_of_equal_size() -> None:
    graph = network(
        (5, 4),
        *(layer(name, linear(4, size), "x") for name, size in (("q", 12), ("k", 6), ("v", 6))),
        *(
            layer(f"{name}h", make("rearrange", "n t (h d) -> n h t d", {"h": heads}), name)
            for name, heads in (("q", 4), ("k", 2), ("v", 2))
        ),
        layer("sdpa", make("scaled_dot_product_attention", 0.0, False, None, True), "qh", "kh", "vh"),
        layer("flat", make("rearrange", "n h t d -> n t (h d)"), "sdpa"),
        layer("out", linear(12, 2), "flat"),
    )
    labels = find_labels(graph)
    assert len(set(classes(labels, "q"))) == 4
    assert len(set(classes(labels, "k"))) == 1  # each key head has as many copies as the other
    assert classes(labels, "k") == classes(labels, "v")
    (parts,) = labels.found.parts
    assert (parts.layer, parts.labels.shape) == ("sdpa", (2, 2))
