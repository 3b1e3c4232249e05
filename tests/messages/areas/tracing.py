"""What `net2net import` cannot read in a network."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any

from messages.example import Area, Example

FRAME = """import torch
from torch import nn
from torch.nn import functional as F
{more}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
{init}

    def forward(self, x{y}):
{body}
{train}"""


STATE_DICT = """
    def state_dict(self, *args, **kwargs):
        return {}
"""

TRAIN = """
    def train(self, mode=True):
        super().train(mode)
        self.bn.eval()
        return self
"""


def net(
    body: str,
    *,
    init: str = "",
    more: str = "",
    row: str | None = None,
    shape: str = "4x6",
    train: bool = False,
    hook: str = "",
    state: bool = False,
    **kept: Any,
) -> Example:
    """A network whose forward is this."""
    init += f"\nself.{hook}.register_forward_hook(lambda m, x, y: None)" if hook else ""
    text = FRAME.format(
        init=indent(dedent(init).strip() or "self.fc = nn.Linear(6, 6)", " " * 8),
        body=indent(dedent(body).strip(), " " * 8),
        y=", y" if " " in shape else "",
        train=TRAIN if train else STATE_DICT if state else "",
        more=dedent(more).strip() and f"\n\n{dedent(more).strip()}\n",
    )
    shown = row or "; ".join(line.strip() for line in dedent(body).strip().splitlines())
    inputs = " ".join(f"--input {s}" for s in shape.split())
    return Example(f"net2net import net.py:Net {inputs} -o net.safetensors", {".net.py": text}, row=shown, **kept)


DATA = (
    net("return x if x.sum() > 0 else -x"),
    net("return x * x.max().item()"),
    net("return x * float(x.sum())"),
    net("return x * torch.is_nonzero(x.sum())"),
    net("return x * torch.bernoulli(x)"),
    net("return x + torch.randint(9, (1,))"),
    net("return x + torch.randn(x.shape, generator=torch.Generator())"),
    net("return x + torch.randn_like(x, dtype=torch.float64)"),
    net("return self.fc(x * torch.rand_like(x) if self.training else x)"),
    net("with torch.random.fork_rng():\n    torch.manual_seed(0)\n    return x + torch.randn_like(x)"),
    net("return F.dropout(x, 0.5)"),
    net("return F.scaled_dot_product_attention(x, x, x, dropout_p=0.1)"),
    net("return torch.nonzero(x)"),
    net("return x.max(1)[1]"),
    net("return self.fc(x) @ torch.linalg.cholesky(x.transpose(1, 2) @ x - 9 * torch.eye(6))", shape="4x6"),
)

BATCH = (
    net("return x * 2 if x.shape[0] > 1 else x"),
    net("return torch.stack([row * 2 for row in x])"),
    net("return x * range(x.shape[0])[-1]"),
    net("return x / x.shape[0]"),
    net("return x[:1] * 2"),
    net("return x[:, : x.shape[0]] * 2"),
    net("return x.sum()"),
    net("return x.sum(0)"),
    net("return torch.linalg.norm(x)"),
    net("return x.view(2, -1) * 2"),
    net("return x.view(7, -1) * 2", vague=r"(?<=fails: ).*?(?=, at)"),
)

STATE = (
    net("return x * torch.arange(6.0, dtype=torch.float64)"),
    net("return nn.ReLU()(x)"),
    net("return F.conv1d(x, x[:, :, :3])"),
    net(
        "return x - self.mean",
        init='self.register_buffer("mean", torch.zeros(6).double(), persistent=False)',
        row='self.register_buffer("mean", …, persistent=False) in another precision',
    ),
    net("y = x * 2\ny[:, ::2] = 0\nreturn y", row="y[:, ::2] = 0"),
    net("y = x * 2\ny[:, None] = 0\nreturn y", row="y[:, None] = 0"),
    net("y = x * 2\ny[torch.tensor([0])] = 0\nreturn y", row="y[torch.tensor([0])] = 0"),
    net("y = x * 2\ny[:, 0] = x[None, :, 0]\nreturn y", row="y[:, 0] = x[None, :, 0]"),
    net("y = x * 2\ny[:, 0] = x.shape[0]\nreturn y", row="y[:, 0] = x.shape[0]"),
    net("return x + x.new_full((x.shape[0], 4, 6), x.shape[0])"),
    net("return x.reshape(-1, 1) + x.new_zeros(x.shape[0] * 24, 1)"),
    net("return x + torch.zeros(x.shape[0], 4, 6, dtype=torch.float64)"),
    net("return x[:, :1, :1] + x.new_ones(x.shape[0], 4096, 4096)"),
    net("y = x * 2\ny[:] = x > 0\nreturn y + 1", row="y[:] = x > 0"),
    net("t = torch.ones(4, 6)\nt[:2] = self.fc.weight[:2]\nreturn x * t", row="t[:2] = self.fc.weight[:2]"),
    net("return F.linear(x, self.fc.bias)"),
    net("return x + self.fc.bias.repeat(x.shape[0], 4, 2)[:, :, :6]"),
    net("return self.cell(x[0, 0])", init="self.cell = nn.GRUCell(6, 4)"),
    net("y = x[:, :2]\nx.mul_(2)\nreturn x.sum(1) + y.sum(1)", row="y = x[:, :2]; x.mul_(2); … + y"),
    net(
        "self.steps.add_(1)\nreturn x * self.steps",
        init='self.register_buffer("steps", torch.zeros(1))',
        row="self.steps.add_(1)",
    ),
    net("return x.double() * 2"),
    net("return x.cumsum_(1)"),
    net("return torch.cumsum(x, 1, dtype=torch.float64)"),
)

RETURNS = (
    net("return self.fc(x) if torch.is_grad_enabled() else x"),
    net("return x, 3"),
    net("return x.shape"),
    net("return None"),
    net("x = x * 2\nreturn x if self.training else x.softmax(1)", row="return x if self.training else x.softmax(1)"),
    net("return 1 / 0"),
)

NORM = """class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))"""

CALLS = (
    net(
        "return x[:, self.chosen]",
        init="self.register_buffer('chosen', torch.tensor([True, False, True, True]))",
        row="x[:, condition]",
    ),
    net("return x[:, :1].expand(-1, 2 * x.shape[0], -1)"),
    net("return x.repeat((1,) * x.shape[0] + (1, 1, 1))"),
    net("return x * (1 / x.shape[0])"),
    net("return torch.layer_norm(x, (6,), None, None, 1e-5, True)"),
    net("return x.sum(1, dtype=torch.float64)"),
    net("return x.clamp_(min=x)"),
    net("return F.interpolate(x, size=2 * x.shape[0])"),
    net("return F.softmax(x, dtype=torch.float64)"),
    net("return torch.histogramdd(x[:, 0, :2], bins=[3, 3])[0]"),
    net("return torch.ops.aten.cumsum.default(x, 1)"),
    net("return einops.reduce(x, 'n (c 2) w -> n c w', 'mean')", more="import einops"),
    net(
        "return x.add_(self.counts)",
        init="self.register_buffer('counts', torch.zeros(6, dtype=torch.int64))",
        row="x.add_(whole numbers)",
    ),
    net("return x.div_(x + 2, rounding_mode='floor')"),
    net("return x.mul_(1j)"),
    net("return x.softmax(1, dtype=torch.float64)"),
    net(
        "return F.embedding(x, self.e.weight, max_norm=1.0)",
        init="self.e = nn.Embedding(9, 4)",
        shape="6:int64",
        row="F.embedding(x, self.e.weight, max_norm=1.0)",
    ),
    net(
        "return F.group_norm(x, 2, self.g.weight)",
        init="self.g = nn.GroupNorm(2, 4)",
        row="F.group_norm(x, 2, self.g.weight)",
    ),
    net("return F.batch_norm(x, None, None, training=True)"),
    net(
        "return F.batch_norm(x, self.m.running_mean, self.m.running_var, self.m.weight)",
        more=NORM,
        init="self.m = Own()",
        row="F.batch_norm(x, …) with the tensors of a class of one's own",
    ),
    net("return torch.einsum('...i->i', x)"),
    net("return einops.reduce(x, 'n c w -> n c', 'prod')", more="import einops"),
    net("return x.masked_fill(x > 0, True)"),
    net("return torch.where(x > 0)[0]"),
    net("return torch.where(x > 0, x, 1j)"),
    net("return x.long() & 1"),
    net("return x.repeat_interleave(2)"),
    net("return x[:, x[0, :, 0] > 0]"),
    net("return x[:, :1].expand(-1, 2 * x.shape[0] + 1, -1)"),
    net("return x[(slice(None),) * x.shape[0]]"),
)

AREAS = (
    Area("tracing-data", "Import: values, random numbers, gradients", 3, "", DATA, "where `forward` has"),
    Area("tracing-batch", "Import: the batch axis", 3, "", BATCH, "where `forward` has"),
    Area("tracing-state", "Import: tensors that are made or written to", 3, "", STATE, "where the network has"),
    Area("tracing-returns", "Import: what the network returns", 3, "", RETURNS, "where `forward` has"),
    Area("tracing-calls", "Import: calls that a spec cannot say", 3, "", CALLS, "where `forward` has"),
)
