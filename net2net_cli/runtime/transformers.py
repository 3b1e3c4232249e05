"""PyTorch's own transformer layers, said by the modules inside them.

In evaluation without gradients PyTorch runs a whole layer as one kernel, and may drop padded places on the way. Traced
is what the layers mean: attention, linear layers, norms and additions, in the order of Vaswani et al. 2017
(arXiv:1706.03762) or, with `norm_first`, of Xiong et al. 2020 (arXiv:2002.04745).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

Mask = Any
"""A mask as it is traced, or None."""


def encoder_layer(
    m: Any, src: Any, src_mask: Mask = None, src_key_padding_mask: Mask = None, is_causal: bool = False
) -> Any:
    """`nn.TransformerEncoderLayer`: self-attention, then an MLP."""
    _refuse_numbers(m, src, src_mask)

    def attend(x: Any) -> Any:
        return m.dropout1(_attended(m.self_attn, x, x, src_mask, src_key_padding_mask, is_causal))

    def transform(x: Any) -> Any:
        return m.dropout2(_transformed(m, x))

    x = _residual(src, attend, m.norm1, first=m.norm_first)
    return _residual(x, transform, m.norm2, first=m.norm_first)


def decoder_layer(
    m: Any,
    tgt: Any,
    memory: Any,
    tgt_mask: Mask = None,
    memory_mask: Mask = None,
    tgt_key_padding_mask: Mask = None,
    memory_key_padding_mask: Mask = None,
    tgt_is_causal: bool = False,
    memory_is_causal: bool = False,
) -> Any:
    """`nn.TransformerDecoderLayer`: self-attention, attention to the encoder's output, then an MLP."""

    def attend(x: Any) -> Any:
        return m.dropout1(_attended(m.self_attn, x, x, tgt_mask, tgt_key_padding_mask, tgt_is_causal))

    def cross(x: Any) -> Any:
        return m.dropout2(
            _attended(m.multihead_attn, x, memory, memory_mask, memory_key_padding_mask, memory_is_causal)
        )

    def transform(x: Any) -> Any:
        return m.dropout3(_transformed(m, x))

    x = _residual(tgt, attend, m.norm1, first=m.norm_first)
    x = _residual(x, cross, m.norm2, first=m.norm_first)
    return _residual(x, transform, m.norm3, first=m.norm_first)


def encoder(
    m: Any, src: Any, mask: Mask = None, src_key_padding_mask: Mask = None, is_causal: bool | None = None
) -> Any:
    """`nn.TransformerEncoder`: its layers in turn."""
    if src_key_padding_mask is not None and getattr(m, "use_nested_tensor", False):
        raise src.tracer.fail(
            "`nn.TransformerEncoder` returns zeros at padded places in evaluation, and not in training",
            "make it with `enable_nested_tensor=False`, and set padded places to zero yourself where that is meant",
        )
    causal = _is_causal(mask, is_causal)
    for layer in m.layers:
        src = layer(src, src_mask=mask, is_causal=causal, src_key_padding_mask=src_key_padding_mask)
    return src if m.norm is None else m.norm(src)


def decoder(
    m: Any,
    tgt: Any,
    memory: Any,
    tgt_mask: Mask = None,
    memory_mask: Mask = None,
    tgt_key_padding_mask: Mask = None,
    memory_key_padding_mask: Mask = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    """`nn.TransformerDecoder`: its layers in turn, each with the encoder's output."""
    masks = {
        "tgt_mask": tgt_mask,
        "memory_mask": memory_mask,
        "tgt_key_padding_mask": tgt_key_padding_mask,
        "memory_key_padding_mask": memory_key_padding_mask,
    }
    causal = _is_causal(tgt_mask, tgt_is_causal)
    for layer in m.layers:
        tgt = layer(tgt, memory, **masks, tgt_is_causal=causal, memory_is_causal=memory_is_causal)
    return tgt if m.norm is None else m.norm(tgt)


def transformer(
    m: Any,
    src: Any,
    tgt: Any,
    src_mask: Mask = None,
    tgt_mask: Mask = None,
    memory_mask: Mask = None,
    src_key_padding_mask: Mask = None,
    tgt_key_padding_mask: Mask = None,
    memory_key_padding_mask: Mask = None,
    src_is_causal: bool | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    """`nn.Transformer`: an encoder, and a decoder that reads what it returns."""
    memory = m.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
    return m.decoder(
        tgt,
        memory,
        tgt_mask=tgt_mask,
        memory_mask=memory_mask,
        tgt_key_padding_mask=tgt_key_padding_mask,
        memory_key_padding_mask=memory_key_padding_mask,
        tgt_is_causal=tgt_is_causal,
        memory_is_causal=memory_is_causal,
    )


def _residual(x: Any, branch: Callable[[Any], Any], norm: nn.Module, *, first: bool) -> Any:
    return x + branch(norm(x)) if first else norm(x + branch(x))


def _attended(attention: Any, x: Any, memory: Any, mask: Mask, padding: Mask, is_causal: bool) -> Any:
    return attention(
        x, memory, memory, attn_mask=mask, key_padding_mask=padding, need_weights=False, is_causal=is_causal
    )[0]


def _transformed(m: Any, x: Any) -> Any:
    return m.linear2(m.dropout(m.activation(m.linear1(x))))


def _refuse_numbers(m: Any, src: Any, mask: Mask) -> None:
    """PyTorch's kernel for a whole layer takes every number in a mask but 0 for a place that is hidden."""
    value = _value(mask)
    if value is None or not value.is_floating_point() or not m.self_attn.batch_first or m.self_attn.num_heads % 2:
        return
    if not ((value == 0) | (value == -torch.inf)).all():
        raise src.tracer.fail(
            "`nn.TransformerEncoderLayer` adds the numbers of this mask in training, and takes them for yes and no in "
            "evaluation",
            "make the layer with `batch_first=False`, or give a mask of 0 and -inf",
        )


def _is_causal(mask: Mask, said: bool | None) -> bool:
    """Whether a mask hides all later places; where nobody said so, by the values of a buffer.

    It chooses among kernels that compute the same, so that a mask whose values are not known may count as any other.
    """
    if said is not None or mask is None:
        return bool(said)
    value = _value(mask)
    if value is None or value.ndim != 2 or value.shape[0] != value.shape[1]:
        return False
    causal = nn.Transformer.generate_square_subsequent_mask(len(value), dtype=value.dtype, device=value.device)
    return torch.equal(value, causal)


def _value(mask: Mask) -> Tensor | None:
    """The values of a mask that is a tensor of the network, or that was made without one."""
    if isinstance(mask, Tensor):
        return mask
    if not isinstance(mask, fx.Proxy) or mask.node.op != "get_attr":
        return None
    home, _, name = str(mask.node.target).rpartition(".")
    module: Any = mask.tracer.root.get_submodule(home)  # type: ignore[attr-defined] # a tracer has the traced module
    held: dict[str, Tensor] = module._parameters | module._buffers  # `getattr` would give the proxy again
    return held[name]


FORWARDS: dict[str, Callable[..., Any]] = {
    "torch.nn.modules.transformer.TransformerEncoderLayer": encoder_layer,
    "torch.nn.modules.transformer.TransformerDecoderLayer": decoder_layer,
    "torch.nn.modules.transformer.TransformerEncoder": encoder,
    "torch.nn.modules.transformer.TransformerDecoder": decoder,
    "torch.nn.modules.transformer.Transformer": transformer,
}
"""What is traced in place of a class's own forward."""
