"""Modules that `net2net import` cannot read, or keep."""

from __future__ import annotations

from dataclasses import replace
from textwrap import indent
from typing import Any

from messages.areas.tracing import net
from messages.example import Area, Example

QUANTISED = "class Own(nn.Linear):\n    __module__ = 'torch.ao.nn.quantized.modules.linear'"

MVIT = """from torchvision.models.video.mvit import MultiscaleAttention


def norm(width):
    return nn.LayerNorm(width, bias=False)"""
MVIT_MADE = """one, three = [1, 1, 1], [3, 3, 3]
self.a = MultiscaleAttention([1, 2, 2], 8, 8, 2, three, three, one, one, False, False, False, 0.0, norm)"""

ENCODER = "self.t = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 1)"

MODULES = (
    net(
        "return self.a(x, (1, 2, 2))[0]",
        more=MVIT,
        init=MVIT_MADE,
        row="torchvision's MultiscaleAttention with another norm, and a hook",
        hook="a",
        shape="5x8",
    ),
    net(
        "return self.up(x, [7])",
        init="self.up = nn.ConvTranspose1d(4, 4, 2)",
        row="nn.ConvTranspose1d called with an output size, and a hook",
        hook="up",
    ),
    net(
        "return self.up(x, output_size=[7])",
        init="self.up = nn.ConvTranspose1d(4, 4, 2)",
        row="the same, by name",
        hook="up",
    ),
    net("return self.rnn(x)[0]", init="self.rnn = nn.GRU(6, 6)", row="nn.GRU of inputs without a time axis", shape="6"),
    net(
        "return self.fc(x)",
        init="self.fc = nn.Linear(6, 6)",
        row="a `state_dict` that leaves parameters out",
        state=True,
    ),
    net(
        "return self.fc(x)",
        init="self.fc = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))",
        row="nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))",
    ),
    net(
        "return x @ self.fc.weight",
        init="self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))",
        row="its fc has weight norm",
    ),
    net(
        "return x @ torch._weight_norm(self.fc.weight, self.fc.weight.norm(dim=1, keepdim=True), 0)",
        init="self.fc = nn.Linear(6, 6)",
        row="torch._weight_norm(…) of weights and their norms",
    ),
    net(
        "return self.fc(x)",
        init="self.fc = nn.utils.spectral_norm(nn.Linear(6, 6))",
        row="nn.utils.spectral_norm(nn.Linear(6, 6))",
    ),
    net("return self.fc(x)", init="self.fc = nn.LazyLinear(6)", row="nn.LazyLinear(6)"),
    net("return self.fc(x)", init="self.fc = nn.DataParallel(nn.Linear(6, 6))", row="nn.DataParallel(…)"),
    net(
        "return self.fc(x)",
        init="self.fc = torch.jit.trace(nn.Linear(6, 6), torch.zeros(2, 6))",
        row="torch.jit.trace(…)",
    ),
    net(
        "return self.fc(x)",
        more='class OptimizedModule(nn.Linear):\n    __module__ = "torch._dynamo.eval_frame"',
        init="self.fc = OptimizedModule(6, 6)",
        row="torch.compile(…)",
    ),
    net(
        "return self.rnn(x)[0]",
        init="self.rnn = nn.GRU(6, 6, batch_first=True)\nself.rnn.bias_hh_l0 = self.rnn.bias_ih_l0",
        row="rnn.bias_hh_l0 = rnn.bias_ih_l0",
    ),
    net("return x", init="self.register_forward_hook(lambda m, x, y: y * 2)", row="self.register_forward_hook(…)"),
    net("return self.fc(x)", more=QUANTISED, init="self.fc = Own(6, 6)", row="a quantised layer"),
    net(
        "return self.bn(x)",
        init="self.bn = nn.BatchNorm1d(4)",
        more="",
        row="a batch norm, and `def train(self, mode=True): self.bn.eval()`",
        train=True,
    ),
    net(
        "return self.rnn(x)[0]",
        init="self.rnn = nn.LSTM(6, 6, proj_size=3, batch_first=True)",
        row="nn.LSTM(…, proj_size=3), with a hook",
        hook="rnn",
    ),
    net(
        "return self.pool(x)[0]",
        init="self.pool = nn.MaxPool1d(2, return_indices=True)",
        row="nn.MaxPool1d(…, return_indices=True), with a hook",
        hook="pool",
    ),
    net(
        "return self.e(x)",
        init="self.e = nn.Embedding(9, 4, max_norm=1.0)",
        row="nn.Embedding(…, max_norm=1.0), with a hook",
        hook="e",
        shape="6:int64",
    ),
    net(
        "y, w = self.a(x, x, x)\nreturn w @ y",
        init="self.a = nn.MultiheadAttention(6, 2, batch_first=True)",
        row="the weights of nn.MultiheadAttention are read",
    ),
    net(
        "return self.t(x, mask=self.m)",
        init=ENCODER + "\nself.register_buffer('m', torch.rand(4, 4))",
        row="nn.TransformerEncoderLayer with a mask of numbers",
    ),
    net(
        "return self.t(x, src_key_padding_mask=y)",
        init=ENCODER,
        row="nn.TransformerEncoder with padded places",
        shape="4x6 4:bool",
    ),
    net(
        "return self.bn(x)",
        more="class Frozen(nn.BatchNorm1d):\n    def train(self, mode=True):\n        return super().train(False)",
        init="self.bn = Frozen(4)",
        row="a batch norm whose `train` does nothing",
    ),
)


OWN = """class Own(nn.Module):
    def __init__(self{arguments}):
        super().__init__()
{made}

    def forward(self, x):
{ran}
"""


def module(
    row: str,
    body: str,
    *,
    init: str = "",
    call: str = "return self.m(x)",
    make: str = "self.m = Own()",
    leaf: bool = False,
    after: str = "",
    **more: Any,
) -> Example:
    """A network with a module of a class `Own`."""
    made, ran = indent(after or "pass", " " * 8), indent(body, " " * 8)
    text = OWN.format(arguments=f", {init}" if init else "", made=made, ran=ran)
    found = net(call, init=make, more=text, row=row, **more)
    return replace(found, command=found.command.replace(" -o ", " --leaf m -o ")) if leaf else found


LEAF = "net2net import net.py:Net --input 4x6 --leaf m -o net.safetensors"
DECIDES = "return x if x.sum() > 0 else -x"

EXTRA = """class Own(nn.Module):
    def forward(self, x, scale=1):
        return x if x.sum() > 0 else -x * scale

    def get_extra_state(self):
        return {"epoch": 3}
"""

KEPT = (
    replace(
        net("return self.m(x)", more=EXTRA, init="self.m = Own()", row="`--leaf m` of a module with `get_extra_state`"),
        command=LEAF,
    ),
    replace(
        net(
            "return self.m(x, 1j)",
            more=EXTRA.partition("    def get")[0],
            init="self.m = Own()",
            row="`--leaf m` of a module that is called with a complex number",
        ),
        command=LEAF,
    ),
    module(
        "`--leaf m` of a module that is called without a tensor",
        "return torch.ones(2, 4)",
        call="return x.sum(2) + self.m(5)[:1]",
        leaf=True,
    ),
    module(
        "`--leaf m` of a module with hooks",
        DECIDES,
        make="self.m = Own()\nself.m.register_forward_hook(lambda m, x, y: y * 2)",
        leaf=True,
    ),
    module(
        "`--leaf m` of a module that returns a dict",
        "return {'out': x if x.sum() > 0 else -x}",
        call="return self.m(x)['out']",
        leaf=True,
    ),
    module(
        "`--leaf m` of a module that returns two tensors, and the second is read",
        "return (x, x * 2) if x.sum() > 0 else (-x, x)",
        call="return self.m(x)[1]",
        leaf=True,
    ),
    module(
        "`--leaf m` of a module that is changed after it was made with `*sizes`",
        DECIDES,
        init="*sizes",
        make="self.m = Own(1)\nself.m.k = torch.rand(1).item()",
        leaf=True,
    ),
    module(
        "`--leaf m` of a module that draws random numbers in evaluation", "return x + torch.rand(x.shape)", leaf=True
    ),
)

AREAS = (
    Area("tracing-kept", "Import: modules that cannot be kept", 3, "", KEPT, "where the network has"),
    Area("tracing-modules", "Import: modules", 3, "", MODULES, "where the network has"),
)
