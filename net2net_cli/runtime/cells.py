"""PyTorch's recurrent cells, which networks call step by step: said by the linear layers and gates inside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional


def lstm_cell(m: Any, input: Any, hx: Any = None) -> tuple[Any, Any]:  # noqa: A002 - as users may name it
    """`nn.LSTMCell` (Hochreiter & Schmidhuber 1997): hidden and cell state, `(n, hidden)` each."""
    hidden, cell = hx if hx is not None else (_zeros(m, input),) * 2
    i, f, g, o = (_read(m, input) + _kept(m, hidden)).chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def gru_cell(m: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002
    """`nn.GRUCell` (Cho et al. 2014, arXiv:1406.1078), its reset gate behind the matrix, as PyTorch has it."""
    hidden = _zeros(m, input) if hx is None else hx
    reset, update, new = _read(m, input).chunk(3, dim=1)
    reset_kept, update_kept, new_kept = _kept(m, hidden).chunk(3, dim=1)
    reset, update = torch.sigmoid(reset + reset_kept), torch.sigmoid(update + update_kept)
    new = torch.tanh(new + reset * new_kept)
    return (1 - update) * new + update * hidden


def rnn_cell(m: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002
    """`nn.RNNCell` (Elman 1990)."""
    hidden = _zeros(m, input) if hx is None else hx
    return getattr(torch, m.nonlinearity)(_read(m, input) + _kept(m, hidden))


def _zeros(m: Any, x: Any) -> Any:
    return x.new_zeros(x.shape[0], m.hidden_size)


def _read(m: Any, x: Any) -> Any:
    if x.dim() != 2:
        raise x.tracer.fail(
            "a recurrent cell is called without a batch axis", "give it tensors of shape `(n, features)`"
        )
    return functional.linear(x, m.weight_ih, m.bias_ih)


def _kept(m: Any, hidden: Any) -> Any:
    return functional.linear(hidden, m.weight_hh, m.bias_hh)


FORWARDS: dict[str, Callable[..., Any]] = {
    "torch.nn.modules.rnn.LSTMCell": lstm_cell,
    "torch.nn.modules.rnn.GRUCell": gru_cell,
    "torch.nn.modules.rnn.RNNCell": rnn_cell,
}
"""What is traced in place of a class's own forward."""
