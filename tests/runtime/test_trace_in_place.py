"""Writing in place: later reads see what was written, or the network is refused; never silently something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from net2net_cli.errors import TraceError
from runtime.tracing import Calls, assert_same, graph_of, ops_of

X = (2, 4, 6, 6)


class PreActivation(nn.Module):
    """The shortcut is read after an activation in place, so that it is activated too."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y: Tensor = self.conv(self.relu(x))
        y += x
        return y.mul_(2)


def test_a_shortcut_that_was_activated_in_place_is_read_activated() -> None:
    graph = assert_same(PreActivation(), torch.randn(X))
    assert graph.by_name["add"].inputs == ("conv_1", "relu")


def twice(x: Tensor) -> Tensor:
    y = x * 1
    z = y.relu_()
    y -= 1
    return z + y


def through_the_same_view(x: Tensor) -> Tensor:
    y = x * 1
    z = y.contiguous()
    z += 1
    return y * 2


@pytest.mark.parametrize(
    "function",
    [
        twice,
        through_the_same_view,
        lambda x: F.relu(x - 1, inplace=True),
        lambda x: F.hardswish(F.leaky_relu_(x * 3), True),
        lambda x: (x * 2).add_(x).sub_(1).div_(2).sigmoid_(),
        lambda x: (x.chunk(2, 1)[0] * 1).relu_(),
        lambda x: x.clone().relu_() + x,
    ],
)
def test_values_written_in_place_are_read_afterwards(function: Callable[[Tensor], Tensor]) -> None:
    assert_same(Calls(function, times=1.5), torch.randn(X))


def test_a_part_that_alone_is_read_may_be_written() -> None:
    def gate(x: Tensor) -> Tensor:
        a = x[:, :2]
        a *= 2
        return a

    assert ops_of(assert_same(Calls(gate, times=2), torch.randn(X))) == ["mul", "slice", "mul"]


def written_part(x: Tensor) -> Tensor:
    x[:, :2].relu_()
    return x


def written_whole(x: Tensor) -> Tensor:
    part = x.flatten(1)
    x += 1
    return part


def written_sibling(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    a += 1
    return a + b


def written_transposed(x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1)
    y.mul_(3)
    return x


def written_expanded(x: Tensor) -> Tensor:
    y = x[:, :1]
    wide = y.expand(-1, 4, -1, -1)
    y += 1
    return wide * 1


@pytest.mark.parametrize(
    "function", [written_part, written_whole, written_sibling, written_transposed, written_expanded]
)
def test_memory_that_is_read_through_another_view_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(TraceError, match=r"writes in place into memory that .* shares") as caught:
        graph_of(Calls(function, times=2), torch.randn(X))
    assert __file__ in caught.value.message
    assert "out of place" in str(caught.value.hint)


def test_dropout_that_shares_memory_in_evaluation_alone_is_refused() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            x = x * 2
            y: Tensor = self.drop(x)
            y += 1
            return x + y

    with pytest.raises(TraceError, match="computed in evaluation, but not in training"):
        graph_of(Drops(), torch.randn(X))


@pytest.mark.parametrize("write", [lambda b: b.add_(1), lambda b: b.view(-1).mul_(2)])
def test_buffers_that_forward_updates_are_refused(write: Callable[[Tensor], Tensor]) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                write(self.count)  # type: ignore[arg-type]
            return x * 2

    model = Counts()
    with pytest.raises(TraceError, match="writes in place into `count`"):
        graph_of(model, torch.randn(X))
    assert torch.equal(model.count, torch.zeros(4, 1, 1))  # type: ignore[arg-type]
