"""New layers start as the identity, and repeated blocks silent: in tensors, names and what the network returns."""

from __future__ import annotations

import re
from collections.abc import Sequence

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from channels.sketch import N, chain, conv, layer, linear, make, network, norm
from torch import Tensor, nn

from growth.teachers import Array, grown_tensors, random_tensors
from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.shapes import concrete
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.errors import GrowthRefusedError, UsageError
from net2net_cli.growth.batch_norm import Moments
from net2net_cli.growth.deepen import DeepenOptions, plan_deepen
from net2net_cli.growth.plan import Plan

RELU, GELU = make("ReLU"), make("GELU", "none")
IMAGE = (3, 6, 6)


def deepened(
    graph: Graph, layers: Sequence[str], options: DeepenOptions | None = None, dtype: npt.DTypeLike = np.float64
) -> tuple[Plan, dict[str, Array], dict[str, Array]]:
    """The plan, the teacher's tensors and the student's."""
    teacher = random_tensors(graph, dtype)
    plan = plan_deepen(graph, layers, options, MemoryTensors(teacher, {}))
    return plan, teacher, grown_tensors(plan, teacher)


def error(plan: Plan, teacher: dict[str, Array], student: dict[str, Array], *, mode: str = "eval") -> float:
    """Largest difference of the outputs in float64, in standard deviations of the teacher's."""
    torch.set_num_threads(1)
    x = torch.randn(concrete(plan.teacher.inputs[0].shape, 5), generator=torch.Generator().manual_seed(0)).double()
    made = []
    for graph, tensors in ((plan.teacher, teacher), (plan.student, student)):
        network = Net2Net.from_tensors(graph, tensors).to_module(dtype=torch.float64).train(mode == "train")
        with torch.no_grad():
            made.append(network(x))
    return float((made[0] - made[1]).abs().max() / made[0].std())


def names(plan: Plan) -> list[str]:
    known = set(plan.teacher.by_name)
    return [one.name for one in plan.student.layers if one.name not in known]


def test_behind_relu_a_convolution_is_a_dirac_kernel_and_the_outputs_are_bit_equal() -> None:
    graph = chain(IMAGE, a=conv(3, 4, 3), relu=RELU, out=conv(4, 2))
    plan, teacher, student = deepened(graph, ["a"])
    assert names(plan) == ["a_deeper1", "a_deeper1_act"]
    weight = np.zeros((4, 4, 3, 3))
    weight[range(4), range(4), 1, 1] = 1
    assert np.array_equal(student["a_deeper1.weight"], weight)
    assert not student["a_deeper1.bias"].any()
    assert error(plan, teacher, student) == 0
    assert not plan.rounds


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_kernel_can_be_chosen(kernel: int) -> None:
    graph = chain(IMAGE, a=conv(3, 4, 3), relu=RELU, out=conv(4, 2))
    plan, teacher, student = deepened(graph, ["a"], DeepenOptions(kernel=kernel))
    assert student["a_deeper1.weight"].shape == (4, 4, kernel, kernel)
    assert error(plan, teacher, student) == 0


def test_a_grouped_convolution_gets_an_identity_inside_each_group() -> None:
    graph = chain((4, 6, 6), a=conv(4, 6, 3, groups=2), relu=RELU, out=conv(6, 2))
    plan, teacher, student = deepened(graph, ["a"])
    assert student["a_deeper1.weight"].shape == (6, 3, 3, 3)
    assert error(plan, teacher, student) == 0


def test_stride_dilation_and_padding_mode_of_the_layer_before_are_not_repeated() -> None:
    odd = make("Conv2d", 3, 4, (3, 3), (2, 2), (2, 2), (2, 2), 1, False, "circular")
    plan, teacher, student = deepened(chain(IMAGE, a=odd, relu=RELU, out=conv(4, 2)), ["a"])
    assert plan.student.by_name["a_deeper1"].op == make(
        "Conv2d", 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1, False, "zeros"
    )
    assert "a_deeper1.bias" not in student
    assert error(plan, teacher, student) == 0


def test_a_linear_layer_gets_an_identity_matrix() -> None:
    plan, teacher, student = deepened(chain((5,), a=linear(5, 4), relu=RELU, out=linear(4, 2)), ["a"])
    assert np.array_equal(student["a_deeper1.weight"], np.eye(4))
    assert error(plan, teacher, student) == 0


def test_pooling_and_dropout_before_the_activation_are_passed() -> None:
    graph = chain(
        IMAGE,
        a=conv(3, 4, 3),
        pool=make("MaxPool2d", (2, 2), (2, 2)),
        drop=make("Dropout", 0.5),
        relu=RELU,
        out=conv(4, 2),
    )
    plan, teacher, student = deepened(graph, ["a"])
    assert [one.name for one in plan.student.layers] == [
        "a", "pool", "drop", "relu", "a_deeper1", "a_deeper1_act", "out",
    ]  # fmt: skip
    assert error(plan, teacher, student) == 0


IDEMPOTENT: dict[str, Op] = {
    "ReLU": RELU,
    "ReLU6": make("ReLU6"),
    "Hardtanh": make("Hardtanh", -0.4, 1.2),
    "clamp": make("clamp", -0.5, None),
    "Identity": make("Identity"),
    "abs": make("abs"),
}


@pytest.mark.parametrize("name", IDEMPOTENT)
def test_idempotent_activations_are_passed_unchanged_by_one_layer(name: str) -> None:
    graph = chain(IMAGE, a=conv(3, 4, 3), act=IDEMPOTENT[name], out=conv(4, 2))
    if name == "Identity":  # it is passed over in search of an activation
        with pytest.raises(GrowthRefusedError):
            deepened(graph, ["a"])
        return
    plan, teacher, student = deepened(graph, ["a"])
    assert len(names(plan)) == 2
    assert error(plan, teacher, student) == 0


PAIRED: dict[str, Op] = {
    "GELU": GELU,
    "GELU by tanh": make("GELU", "tanh"),
    "SiLU": make("SiLU"),
    "Hardswish": make("Hardswish"),
    "LeakyReLU": make("LeakyReLU", 0.2),
}


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("reader", ["one", "two", "flatten"])
def test_other_activations_are_passed_by_a_pair(name: str, reader: str) -> None:
    head: list[Layer] = [layer("out", conv(4, 2), "act")]
    if reader == "two":
        head = [
            layer("p", conv(4, 2), "act"),
            layer("q", conv(4, 2), "act"),
            layer("out", make("add"), "p", "q"),
        ]
    if reader == "flatten":
        head = [layer("flat", make("rearrange", "n c h w -> n (c h w)"), "act"), layer("out", linear(144, 2), "flat")]
    graph = network(IMAGE, layer("a", conv(3, 4, 3), "x"), layer("act", PAIRED[name], "a"), *head)
    plan, teacher, student = deepened(graph, ["a"])
    assert error(plan, teacher, student) <= 1e-14
    assert error(plan, teacher, student, mode="train") <= 1e-14
    joined = any(one.endswith("_join") for one in names(plan))
    assert joined == (reader != "one" or name == "LeakyReLU")


def test_a_pair_into_one_reader_is_the_identity_and_its_negative_read_with_both_signs() -> None:
    plan, teacher, student = deepened(chain((5,), a=linear(5, 4), act=GELU, out=linear(4, 2)), ["a"])
    assert np.array_equal(student["a_deeper1.weight"], np.concatenate([np.eye(4), -np.eye(4)]))
    both = np.concatenate([teacher["out.weight"], -teacher["out.weight"]], axis=1)
    assert np.array_equal(student["out.weight"], both)
    assert np.array_equal(student["out.bias"], teacher["out.bias"])
    assert plan.student.by_name["out"].op == linear(8, 2)


def test_a_pair_with_a_join_reads_the_difference() -> None:
    graph = network(
        (5,),
        layer("a", linear(5, 4), "x"),
        layer("act", GELU, "a"),
        layer("sum", make("add"), "act", "act"),
        layer("out", linear(4, 2), "sum"),
    )
    plan, teacher, student = deepened(graph, ["a"])
    assert np.array_equal(student["a_deeper1_join.weight"], np.concatenate([np.eye(4), -np.eye(4)], axis=1))
    assert np.array_equal(student["out.weight"], teacher["out.weight"])
    assert error(plan, teacher, student) <= 1e-14


@pytest.mark.parametrize("name", ["Tanh", "Sigmoid", "ELU", "Mish", "Softplus", "PReLU"])
def test_activations_that_no_layer_passes_are_refused(name: str) -> None:
    act = make(name, 4) if name == "PReLU" else make(name)
    with pytest.raises(GrowthRefusedError) as refused:
        deepened(chain(IMAGE, a=conv(3, 4, 3), act=act, out=conv(4, 2)), ["a"])
    assert refused.value.message == (
        f"nothing can be inserted behind `a`: no layer before a {name} (`act`) passes every value through unchanged"
    )


def with_norm(dtype: npt.DTypeLike, act: Op = RELU, *, eps: float = 1e-5) -> Graph:
    return chain(IMAGE, a=conv(3, 4, 3, bias=False), bn=norm(4, eps=eps), act=act, b=conv(4, 4, 3), out=conv(4, 2))


@pytest.mark.parametrize("act", [RELU, GELU], ids=["ReLU", "GELU"])
@pytest.mark.parametrize(("dtype", "allowed"), [(np.float64, 1e-12), (np.float32, 5e-8)])
def test_an_inserted_batch_norm_is_the_identity_in_eval_mode(act: Op, dtype: type, allowed: float) -> None:
    plan, teacher, student = deepened(with_norm(dtype, act), ["a"], dtype=dtype)
    assert "a_deeper1_bn" in names(plan)
    assert student["a_deeper1_bn.weight"].dtype == dtype
    assert error(plan, teacher, student) <= allowed
    assert plan.rounds


def test_an_inserted_batch_norm_holds_the_statistics_of_what_enters_it() -> None:
    """Behind a batch norm with weight γ and bias β and a ReLU: those of max(0, N(β, γ²)), here of a million draws."""
    plan, teacher, student = deepened(with_norm(np.float64), ["a"])
    rng = np.random.default_rng(0)
    draws = np.maximum(0, teacher["bn.bias"][:, None] + teacher["bn.weight"][:, None] * rng.normal(size=(4, 250_000)))
    scale = np.abs(teacher["bn.weight"])
    assert (np.abs(student["a_deeper1_bn.running_mean"] - draws.mean(axis=1)) <= 0.01 * scale).all()
    assert (np.abs(student["a_deeper1_bn.running_var"] - draws.var(axis=1)) <= 0.02 * scale**2).all()
    assert np.array_equal(student["a_deeper1_bn.bias"], student["a_deeper1_bn.running_mean"])
    assert int(student["a_deeper1_bn.num_batches_tracked"]) == 0
    assert names(plan) == ["a_deeper1", "a_deeper1_bn", "a_deeper1_act"]


def test_measured_statistics_take_the_place_of_estimated_ones() -> None:
    graph = with_norm(np.float64)
    mean, variance = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 3.0, 4.0])
    asked: list[Sequence[str]] = []

    def measure(values: Sequence[str]) -> dict[str, Moments]:
        asked.append(values)
        return {"act": Moments(mean, variance)}

    teacher = random_tensors(graph, np.float64)
    student = grown_tensors(plan_deepen(graph, ["a"], None, MemoryTensors(teacher, {}), measure), teacher)
    assert asked == [["act"]]
    assert np.array_equal(student["a_deeper1_bn.running_mean"], mean)
    assert np.allclose(student["a_deeper1_bn.running_var"], variance, rtol=1e-8)


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_a_plain_batch_norm_has_variance_one_minus_eps(eps: float) -> None:
    plan, teacher, student = deepened(with_norm(np.float64, eps=eps), ["a"], DeepenOptions(batch_norm="identity"))
    assert student["a_deeper1_bn.running_var"].tolist() == [1 - eps] * 4
    assert student["a_deeper1_bn.weight"].tolist() == [1.0] * 4
    assert not student["a_deeper1_bn.running_mean"].any()
    assert not student["a_deeper1_bn.bias"].any()
    assert error(plan, teacher, student) <= 1e-15


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_batch_norms_of_half_precision_networks_are_kept_in_float32_and_said(dtype: npt.DTypeLike) -> None:
    plan, teacher, student = deepened(with_norm(dtype), ["a"], dtype=dtype)
    assert student["a_deeper1_bn.running_var"].dtype == np.float32
    assert student["a_deeper1.weight"].dtype == np.dtype(dtype)
    assert any("a_deeper1_bn" in note for note in plan.notes)
    assert error(plan, teacher, student) <= 5e-8


def test_a_batch_norm_that_cannot_be_the_identity_is_refused() -> None:
    bare = make("BatchNorm2d", 4, 1e-5, 0.1, False, True)
    with pytest.raises(GrowthRefusedError) as refused:
        deepened(chain(IMAGE, a=conv(3, 4), bn=bare, relu=RELU, out=conv(4, 2)), ["a"])
    assert "a batch norm like `bn` without weights cannot be the identity" in refused.value.message


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("act", [RELU, GELU], ids=["ReLU", "GELU"])
def test_several_layers_are_named_in_the_order_they_run(count: int, act: Op) -> None:
    plan, teacher, student = deepened(with_norm(np.float64, act), ["a"], DeepenOptions(count=count))
    firsts = [n for n in names(plan) if re.fullmatch(r"a_deeper\d+", n)]
    assert firsts == [f"a_deeper{i + 1}" for i in range(count)]
    assert error(plan, teacher, student) <= 1e-12


@pytest.mark.parametrize("act", [RELU, GELU], ids=["ReLU", "GELU"])
def test_a_student_deepened_again_has_no_name_twice(act: Op) -> None:
    graph = with_norm(np.float64, act)
    plan, _, student = deepened(graph, ["a"])
    again = plan_deepen(plan.student, ["a"], None, MemoryTensors(student, {}))
    third = grown_tensors(again, student)
    every = [one.name for one in again.student.layers]
    assert len(every) == len(set(every))
    assert error(again, student, third) <= 1e-12


def test_a_new_name_avoids_every_name_and_path_there_is() -> None:
    graph = network(
        IMAGE,
        layer("a", conv(3, 4), "x"),
        layer("relu", RELU, "a"),
        layer("a_deeper1_act", conv(4, 4), "relu"),
        layer("a_deeper2.inner", conv(4, 4), "a_deeper1_act"),
        layer("out", conv(4, 2), "a_deeper2.inner"),
    )
    plan, teacher, student = deepened(graph, ["a"])
    assert names(plan) == ["a_deeper3", "a_deeper3_act"]
    assert error(plan, teacher, student) == 0


def test_a_shared_layer_is_deepened_at_every_use_with_the_same_new_weights() -> None:
    graph = network(
        (3, 6, 6),
        layer("a", conv(3, 3, 3), "x"),
        layer("relu", RELU, "a"),
        layer("a_1", conv(3, 3, 3), "relu", weights_of="a"),
        layer("relu_1", RELU, "a_1"),
        layer("out", conv(3, 2), "relu_1"),
    )
    plan, teacher, student = deepened(graph, ["a"])
    uses = [one for one in plan.student.layers if one.owner == "a_deeper1"]
    assert len(uses) == 2
    assert error(plan, teacher, student) == 0
    # Both uses run: with other weights, both change what comes out.
    scrambled = {n: t.copy() for n, t in student.items()}
    scrambled["a_deeper1.weight"] += 0.1
    assert error(plan, teacher, scrambled) > 1e-3


def test_a_shared_layer_whose_uses_differ_in_activation_is_refused() -> None:
    graph = network(
        (3, 6, 6),
        layer("a", conv(3, 3, 3), "x"),
        layer("relu", RELU, "a"),
        layer("a_1", conv(3, 3, 3), "relu", weights_of="a"),
        layer("gelu", GELU, "a_1"),
        layer("out", conv(3, 2), "gelu"),
    )
    with pytest.raises(GrowthRefusedError) as refused:
        deepened(graph, ["a"])
    assert "its uses are followed by different activations or norms" in refused.value.message


def block(name: str, value: str, act: Op = RELU) -> list[Layer]:
    return [
        layer(f"{name}.conv1", conv(4, 4, 3), value),
        layer(f"{name}.bn1", norm(4), f"{name}.conv1"),
        layer(f"{name}.act1", act, f"{name}.bn1"),
        layer(f"{name}.conv2", conv(4, 4, 3), f"{name}.act1"),
        layer(f"{name}.bn2", norm(4), f"{name}.conv2"),
        layer(f"{name}.add", make("add"), f"{name}.bn2", value),
        layer(f"{name}.act2", RELU, f"{name}.add"),
    ]


def residual(act: Op = RELU, *, prefix: str = "stage") -> Graph:
    return network(
        IMAGE,
        layer("stem", conv(3, 4, 3), "x"),
        layer("relu", RELU, "stem"),
        *block(f"{prefix}.0", "relu", act),
        *block(f"{prefix}.1", f"{prefix}.0.act2", act),
        layer("out", conv(4, 2), f"{prefix}.1.act2"),
    )


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["stage.0", "stage.1"])
@pytest.mark.parametrize("act", [RELU, make("Tanh")], ids=["ReLU", "tanh"])
def test_a_repeated_block_is_silent_in_both_modes(mode: str, name: str, act: Op) -> None:
    plan, teacher, student = deepened(residual(act), [name])
    assert error(plan, teacher, student, mode=mode) == 0


def test_a_repeated_block_copies_all_but_the_last_norms_weights() -> None:
    plan, teacher, student = deepened(residual(), ["stage.1"])
    assert {n.rpartition(".")[0] for n in names(plan)} == {"stage.2"}
    for tensor in teacher:
        if tensor.startswith("stage.1."):
            twin = student[tensor.replace("stage.1.", "stage.2.")]
            silent = tensor in ("stage.1.bn2.weight", "stage.1.bn2.bias")
            assert np.array_equal(twin, np.zeros_like(twin) if silent else teacher[tensor]), tensor


def test_a_block_in_the_middle_gets_a_twin_rather_than_a_neighbours_number() -> None:
    plan, _, _ = deepened(residual(), ["stage.0"])
    assert {n.rpartition(".")[0] for n in names(plan)} == {"stage.0_twin1"}


def test_a_block_repeated_twice_counts_on() -> None:
    plan, teacher, student = deepened(residual(), ["stage.1"], DeepenOptions(count=2))
    assert {n.rpartition(".")[0] for n in names(plan)} == {"stage.2", "stage.3"}
    assert error(plan, teacher, student) == 0


REFUSED = {
    "an add": (
        network(
            IMAGE,
            layer("b.a", conv(3, 3), "x"),
            layer("sum", make("add"), "b.a", "x"),
            layer("relu", RELU, "sum"),
            layer("out", conv(3, 2), "relu"),
        ),
        "`sum` (add) comes before any activation",
    ),
    "two readers": (
        network(
            IMAGE,
            layer("b.a", conv(3, 3), "x"),
            layer("relu", RELU, "b.a"),
            layer("cat", make("cat", 1), "relu", "b.a"),
        ),
        "2 layers read `b.a` before any activation",
    ),
    "the output": (chain(IMAGE, **{"b.a": conv(3, 2)}), "the network's output (`b.a`) comes before any activation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_no_activation_follows_alone_it_is_refused_and_the_block_offered(name: str) -> None:
    graph, why = REFUSED[name]
    with pytest.raises(GrowthRefusedError) as refused:
        deepened(graph, ["b.a"])
    assert refused.value.message == f"nothing can be inserted behind `b.a`: {why}"
    assert refused.value.hint == "name the block instead, as in `b`"


def test_a_block_that_changes_its_shape_is_refused() -> None:
    graph = network(
        IMAGE,
        layer("b.conv", conv(3, 5), "x"),
        layer("b.down", conv(3, 5), "x"),
        layer("b.add", make("add"), "b.conv", "b.down"),
        layer("out", conv(5, 2), "b.add"),
    )
    with pytest.raises(GrowthRefusedError) as refused:
        deepened(graph, ["b"])
    assert f"it changes the shape from {N}×3×6×6 to {N}×5×6×6" in refused.value.message


def channels_last(back: str) -> Graph:
    return network(
        IMAGE,
        layer("stem", conv(3, 4, 3), "x"),
        layer("b.turn", make("rearrange", "n c h w -> n h w c"), "stem"),
        layer("b.linear", linear(4, 4), "b.turn"),
        layer("b.add", make("add"), "b.turn", "b.linear"),
        layer("b.back", make("rearrange", back), "b.add"),
        layer("out", conv(4, 2, 3), "b.back"),
    )


def test_a_block_that_moves_its_axes_and_moves_them_back_is_repeated() -> None:
    plan, teacher, student = deepened(channels_last("n h w c -> n c h w"), ["b"])
    assert error(plan, teacher, student) == 0
    assert not student["b_twin1.linear.weight"].any()


def test_a_block_that_hands_its_input_on_in_another_order_is_refused() -> None:
    with pytest.raises(GrowthRefusedError) as refused:
        deepened(channels_last("n h w c -> n c w h"), ["b"])
    assert "it hands its input on in another order" in refused.value.message


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (["a"], DeepenOptions(kernel=4), "a kernel of size 4 has no centre"),
        (["a"], DeepenOptions(count=0), "`count` is 0; at least one new layer is needed"),
        ([], None, "nothing to deepen"),
        (["nothing"], None, "`nothing` names no layer of this network"),
        (["z*"], None, "`z*` matches no convolution or linear layer"),
    ],
)
def test_what_cannot_be_meant_is_an_error(layers: list[str], options: DeepenOptions | None, message: str) -> None:
    with pytest.raises(UsageError) as wrong:
        deepened(with_norm(np.float64), layers, options)
    assert wrong.value.message == message


def unlike() -> Graph:
    """`a1` and `a3` have an activation behind them, `a2` and `b` have none."""
    middle = {"a2": linear(4, 4), "a3": linear(4, 4), "r3": RELU}
    return chain((5,), a1=linear(5, 4), r1=RELU, **middle, b=linear(4, 2))


def test_a_glob_is_all_or_nothing_unless_it_may_pass_over_what_cannot_be_deepened() -> None:
    with pytest.raises(GrowthRefusedError, match="nothing can be inserted behind `a2`") as refused:
        deepened(unlike(), ["a*"])
    assert "--where-possible" in str(refused.value.hint)
    plan, teacher, student = deepened(unlike(), ["a*"], DeepenOptions(where_possible=True))
    assert names(plan) == ["a1_deeper1", "a1_deeper1_act", "a3_deeper1", "a3_deeper1_act"]
    assert error(plan, teacher, student) == 0
    assert plan.notes == (
        "passed over: nothing can be inserted behind `a2`: `a3` (Linear) comes before any activation",
    )


def test_a_layer_that_is_named_is_never_passed_over() -> None:
    for layers in (["a2"], ["a*", "a2"]):
        with pytest.raises(GrowthRefusedError, match="behind `a2`"):
            deepened(unlike(), layers, DeepenOptions(where_possible=True))


def test_a_pattern_of_which_nothing_can_be_deepened_is_refused() -> None:
    with pytest.raises(GrowthRefusedError, match="behind any of the layers that match"):
        deepened(unlike(), ["b*"], DeepenOptions(where_possible=True))


def test_a_glob_deepens_every_layer_it_matches() -> None:
    graph = chain((5,), a1=linear(5, 4), r1=RELU, a2=linear(4, 4), r2=RELU, out=linear(4, 2))
    plan, teacher, student = deepened(graph, ["a*"])
    assert names(plan) == ["a1_deeper1", "a1_deeper1_act", "a2_deeper1", "a2_deeper1_act"]
    assert error(plan, teacher, student) == 0


def test_a_repeated_block_does_not_end_in_what_no_gradient_passes() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = x + self.layer(x).detach()
            return found

    net = Net2Net.from_module(nn.Sequential(nn.Linear(3, 4), Detached(), nn.Linear(4, 2)), torch.randn(2, 3))
    with pytest.raises(GrowthRefusedError, match="cannot be repeated"):
        net.deepen(["1"])
