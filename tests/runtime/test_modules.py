"""Our own modules compute and draw what torchvision's do."""

from __future__ import annotations

import pytest
import torch
import torchvision

from net2net_cli.runtime import modules


@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_stochastic_depth_draws_what_torchvision_draws(mode: str, p: float) -> None:
    x = torch.randn(8, 3, 2)
    torch.manual_seed(3)
    expected = torchvision.ops.stochastic_depth(x, p, mode, training=True)
    torch.manual_seed(3)
    assert torch.equal(modules.StochasticDepth(p, mode)(x), expected)
    assert torch.equal(modules.StochasticDepth(p, mode).eval()(x), x)


def test_frozen_batch_norm_computes_what_torchvision_computes() -> None:
    theirs, ours = torchvision.ops.FrozenBatchNorm2d(4), modules.FrozenBatchNorm2d(4, eps=1e-5)
    state = {k: torch.rand(4) for k in theirs.state_dict()}
    theirs.load_state_dict(state)
    ours.load_state_dict(state, strict=True)
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(ours(x), theirs(x))
