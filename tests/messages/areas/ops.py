"""Layers of a spec that do not go with their attributes or inputs."""

from __future__ import annotations

from typing import Any

from messages.areas.specs import holds, short, text
from messages.example import Area, Example

NAMES = ("x", "y", "z", "m")
CHANNELS = {"in_channels": 4, "out_channels": 8, "bias": True, "padding_mode": "zeros"}
ONES = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
CONV = {**CHANNELS, **ONES, "kernel_size": [3, 3]}
POOL = {"stride": [2, 2], "padding": [0, 0], "dilation": [1, 1], "ceil_mode": False}
ATTENTION = {"embed_dim": 8, "num_heads": 2, "dropout": 0.0, "bias": True, "batch_first": True, "need_weights": False}
PRODUCT = {"dropout_p": 0.0, "is_causal": False, "enable_gqa": False}
LSTM = {
    "input_size": 8,
    "hidden_size": 4,
    "num_layers": 1,
    "bias": True,
    "batch_first": True,
    "dropout": 0.0,
    "bidirectional": False,
}
WINDOWS = {
    "embed_dim": 8,
    "num_heads": 2,
    "window_size": [2, 2],
    "shift_size": [0, 0],
    "qkv_bias": True,
    "proj_bias": True,
    "attention_dropout": 0.0,
    "dropout": 0.0,
}
RELATIVE = {"embed_dim": 8, "head_dim": 4, "num_heads": 2, "side": 2, "key_scale": 0.5}
MULTISCALE = {
    "in_features": 8,
    "out_features": 8,
    "num_heads": 2,
    "head_dim": 4,
    "grid": [1, 2, 2],
    "query_scale": 1.0,
    "residual_pool": False,
    "residual_with_cls_embed": False,
    "dropout": 0.0,
}
EMBEDDING = {
    "num_embeddings": 10,
    "embedding_dim": 4,
    "padding_idx": None,
    "scale_grad_by_freq": False,
    "sparse": False,
}
OPAQUE = {"kind": "function", "rebuild": "torch:cumsum", "output_shape": ["n", 4], "args": [{"input": 0}, 1]}
MODULE = {**OPAQUE, "kind": "module", "rebuild": "model:Net", "args": [{"input": 0}]}
IMAGE = ["n", 4, 8, 8]
TOKENS = ["n", 6, 8]
ROWS = ["n", 4]


def op(name: str, *shapes: list[Any], common: dict[str, Any] | None = None, **told: Any) -> Example:
    """One layer that reads inputs of these shapes; its row shows the attributes that are told, and the shapes."""
    layer = {"name": "layer", "op": name, "inputs": list(NAMES[: len(shapes)]), **(common or {}), **told}
    inputs = [{"name": n, "shape": s, "dtype": "float32"} for n, s in zip(NAMES, shapes or (ROWS,), strict=False)]
    spec = text(inputs=inputs, layers=[layer], outputs={"out": "layer"})
    row = ", ".join(f'"{k}": {short(v)}' for k, v in {"op": name, **told}.items())
    reads = " and ".join("×".join(map(str, s)) for s in shapes)
    return Example("net2net inspect net.json", {".net.json": spec}, row=f"{row} of {reads}" if reads else row)


def product(matrix: dict[str, Any] | None = None, output: str = "by", **changes: Any) -> Example:
    """A matrix of one's own, and the product with it."""
    own = {"name": "W", "op": "Matrix", "inputs": [], "size": [8, 4], "summed": 0, **(matrix or {})}
    by = {"name": "by", "op": "matrix_product", "inputs": ["x", "W"], "in_features": 8, "out_features": 4, "summed": 0}
    by |= {"tied": {"weight": ["W", ""]}, **changes}
    own, by = ({k: v for k, v in one.items() if (k, v) != ("summed", None)} for one in (own, by))
    told = [{key: own[key] for key in ("name", "op", *(matrix or {})) if key in own}]
    told += [{"op": by["op"], "inputs": by["inputs"]}] if output == "by" else [{"outputs": {"out": output}}]
    shape = [{"name": "x", "shape": ["n", 8], "dtype": "float32"}]
    return holds(", ".join(map(short, told)), inputs=shape, layers=[own, by], outputs={"out": output})


def borrowed(**changes: Any) -> Example:
    """A parameter whose value is another layer's tensor."""
    norm = {"name": "norm", "op": "Linear", "inputs": ["x"], "in_features": 4, "out_features": 8, "bias": True}
    layer = {"name": "value", "op": "BorrowedParameter", "inputs": [], "size": [8, 4], "trainable": True, **changes}
    add = {"name": "head", "op": "ReLU", "inputs": ["value"]}
    inputs = [{"name": "x", "shape": ROWS, "dtype": "float32"}]
    spec = text(inputs=inputs, layers=[norm, layer, add], outputs={"out": "norm"})
    shown = {"op": "BorrowedParameter", "size": [8, 4], **changes}
    return Example("net2net inspect net.json", {".net.json": spec}, row=short(shown))


TIES = (
    borrowed(),
    product(
        {"op": "Parameter", "size": [4, 8], "trainable": True, "dtype": None, "summed": None},
        op="linear",
        inputs=["x", "x"],
        summed=None,
    ),
    product({"summed": 2}),
    product({"summed": 1, "size": [8, 8]}, out_features=8),
    product(inputs=["W", "W"]),
    product(output="W"),
    borrowed(tied=[]),
    borrowed(tied={"": "norm"}),
    borrowed(tied={"weight": ["norm", "weight"], "": ["norm", "weight"]}),
    borrowed(tied={"": ["linear", "weight"]}),
    borrowed(tied={"": ["norm", "scale"]}),
    borrowed(tied={"": ["norm", "bias"]}),
)


def sharing(layer: dict[str, Any], *others: dict[str, Any]) -> Example:
    """A layer behind others, one of which owns a tensor."""
    owner = {"name": "norm", "op": "Linear", "inputs": ["x"], "in_features": 4, "out_features": 8, "bias": False}
    inputs = [{"name": "x", "shape": ROWS, "dtype": "float32"}]
    spec = text(inputs=inputs, layers=[owner, *others, layer], outputs={"out": "norm"})
    return Example("net2net inspect net.json", {".net.json": spec}, row=short(layer))


TIE = {"weight": ["norm", "weight"]}
FC = {"op": "Linear", "inputs": ["x"], "in_features": 4, "out_features": 8, "bias": False}
VALUE = {
    "name": "value",
    "op": "BorrowedParameter",
    "inputs": [],
    "size": [8, 4],
    "trainable": True,
    "tied": {"": ["norm", "weight"]},
}
SHARED = (
    sharing({"name": "twin", **FC, "weights_of": "head", "tied": TIE}, {"name": "head", **FC, "bias": False}),
    sharing(
        {"name": "head", "op": "linear", "inputs": ["norm", "value"], "in_features": 4, "out_features": 8, "tied": TIE},
        VALUE,
    ),
)

OPS = (
    op("rearrange", ["n", "n"], pattern="n m -> (n m)"),
    op("opaque", ROWS, common=OPAQUE, args=[{"input": 0}, 2**70]),
    op("ShiftedWindowAttention", ["n", 4, 4, 6], common=WINDOWS, embed_dim=8),
    op("Conv2d", ["n", 3, 8, 8], common=CONV, in_channels=4),
    op("Conv2d", ["n", 4, 8], common=CONV, kernel_size=[3, 3]),
    op("Conv2d", ["n", 4, 2, 2], common=CONV, kernel_size=[3, 3]),
    op("Conv2d", IMAGE, common=CONV, in_channels=4, out_channels=8, groups=3),
    op("Conv2d", IMAGE, common=CONV, kernel_size=[3, 3, 3]),
    op("ReLU", ["n", 4], ["n", 4]),
    op("Linear", ["n", 5], in_features=4, out_features=8, bias=True),
    op("filter2d", IMAGE, IMAGE, stride=[1, 1], padding=[0, 0], dilation=[1, 1]),
    op("WeightNormLinear", ROWS, in_features=4, out_features=8, bias=True, norm_dim=1, stored="hook"),
    op("GroupNorm", IMAGE, num_groups=3, num_channels=4, eps=1e-5, affine=True),
    op("LayerNorm", IMAGE, normalized_shape=[4], eps=1e-5, elementwise_affine=True, bias=True),
    op("MaxPool2d", ["n", 4, 2, 2], common=POOL, kernel_size=[3, 3]),
    op("interpolate", IMAGE, mode="nearest", antialias=False),
    op("Embedding", ["n", 6], common=EMBEDDING, num_embeddings=10, padding_idx=10),
    op("Parameter", size=[4], trainable=True, dtype="int64"),
    op("add", ["n", 4], ["n", 5]),
    op("add", ["n", 4], ["n", 4], ["n", 4]),
    op("maximum", ["n", 4], scalar=0.5),
    op("rsub", ["n", 4], ["n", 4]),
    op("matmul", ["n", 6], [4]),
    op("matmul", ["n", 2, 6, 8], ["n", 2, 6, 8]),
    op("baddbmm", ["n", 6, 6], ["n", 6, 8], ["n", 6, 8], beta=1, alpha=1),
    op("baddbmm", [2, "n", 6, 6], ["n", 6, 8], ["n", 8, 6], beta=1, alpha=1),
    op("einsum", ["n", 6, 8], ["n", 6, 8], equation="nij nkj"),
    op("einsum", ["n", 6, 8], ["n", 6, 8], equation="nij,nkj->nkk"),
    op("einsum", ["n", 6, 8], ["n", 6, 8], equation="ij,kj->ik"),
    op("einsum", ["n", 6, 8], ["n", 5, 8], equation="nij,nij->nj"),
    op("einsum", ["n", 6, 8], ["n", 6, 8], equation="nij,nkj->ik"),
    op("rearrange", IMAGE, pattern="n c h w"),
    op("rearrange", IMAGE, pattern="n c h w -> n (c [h] w)"),
    op("rearrange", IMAGE, pattern="n c h h -> n c h"),
    op("rearrange", IMAGE, pattern="n c h w -> n c h v"),
    op("rearrange", TOKENS, pattern="n c h w -> n (c h w)"),
    op("rearrange", IMAGE, pattern="n (g c) h w -> n g c h w"),
    op("rearrange", IMAGE, pattern="n (g c) h w -> n g c h w", axes={"g": 3}),
    op("rearrange", IMAGE, pattern="n c h w -> n (c h w)", axes={"g": 2}),
    op("cat", ["n", 4], ["n", 4], dim=2),
    op("cat", ["n", 4, 8], ["n", 4, 7], dim=1),
    op("cat", ["n", 4], ["n", 4], dim=0),
    op("split", ROWS, sizes=[2, 3], dim=1, index=0),
    op("slice", ROWS, dim=1, start=2, stop=6, step=1),
    op("slice", ROWS, dim=0, start=0, stop=1, step=1),
    op("index_select", ROWS, dim=1, index=[0, 4]),
    op("select", ROWS, dim=1, index=4),
    op("expand", ["n", 1, 8], size=[-1, 4]),
    op("expand", ["n", 2, 8], size=[-1, 4, -1]),
    op("pad", ROWS, pad=[1], mode="constant"),
    op("roll", ROWS, dims=[2], shifts=[1]),
    op("roll", ROWS, dims=[0], shifts=[1]),
    op("roll", ROWS, dims=[1], shifts=[1, 2]),
    op("constant", size=[2**24], dtype="int64", data="eJwDAAAAAAE="),
    op("constant", size=[2], dtype="int64", data="eJwDAAAAAAE="),
    op("triangle", ROWS, rows=6, columns=6, diagonal=0, below=0.0, above=True),
    op("where", ["n", 4], ["n", 4], ["n", 4], other=0.0),
    op("scaled_dot_product_attention", TOKENS, TOKENS, TOKENS, ["n", 1, 6, 6], common=PRODUCT),
    op("rearrange", ["n", 4, 8], pattern="n (g) 1 -> n g"),
    op("LSTM", ["n", 6, 4], common=LSTM, input_size=8),
    op("LSTM", ["n", 6, 8], common=LSTM, batch_first=False),
    op("LSTM", ["n", 6, 8], common={**LSTM, "num_layers": 10**9}),
    op("LSTM", ["n", 6, 8], [1, "n", 4], common=LSTM, batch_first=True),
    op("MultiheadAttention", TOKENS, TOKENS, TOKENS, common=ATTENTION, kdim=4),
    op("MultiheadAttention", TOKENS, TOKENS, TOKENS, common=ATTENTION, masks=["key_padding_mask", "attn_mask"]),
    op("MultiheadAttention", TOKENS, TOKENS, TOKENS, common=ATTENTION, is_causal=True),
    op("MultiheadAttention", TOKENS, TOKENS, TOKENS, common=ATTENTION, masks=["attn_mask"]),
    op("MultiheadAttention", ["n", 6, 4], TOKENS, TOKENS, common=ATTENTION, embed_dim=8),
    op("MultiheadAttention", TOKENS, TOKENS, ["n", 5, 8], common=ATTENTION, embed_dim=8),
    op("MultiheadAttention", TOKENS, TOKENS, TOKENS, ["n", 6, 6], common=ATTENTION, masks=["attn_mask"]),
    op("scaled_dot_product_attention", [8], TOKENS, TOKENS, common=PRODUCT),
    op("scaled_dot_product_attention", TOKENS, ["n", 6, 4], TOKENS, common=PRODUCT),
    op("scaled_dot_product_attention", TOKENS, TOKENS, ["n", 2, 6, 8], common=PRODUCT, enable_gqa=True),
    op("scaled_dot_product_attention", ["n", 3, 6, 8], ["n", 2, 6, 8], ["n", 2, 6, 8], common=PRODUCT, enable_gqa=True),
    op("ShiftedWindowAttention", ["n", 4, 4, 8], common=WINDOWS, window_size=[2]),
    op("ShiftedWindowAttention", ["n", 4, 4, 8], common=WINDOWS, window_size=[2, 2], shift_size=[2, 2]),
    op("ShiftedWindowAttention", ["n", 4, 4, 8], common=WINDOWS, embed_dim=8, num_heads=3),
    op("RelativePositionalMultiHeadAttention", ["n", 9, 4, 8], common=RELATIVE, embed_dim=8, head_dim=3),
    op("RelativePositionalMultiHeadAttention", ["n", 9, 5, 8], common=RELATIVE, side=2),
    op("MultiscaleAttention", ["n", 5, 8], common=MULTISCALE, grid=[2, 2]),
    op("MultiscaleAttention", ["n", 5, 8], common=MULTISCALE, kernel_q=[3, 3, 3]),
    op("MultiscaleAttention", ["n", 6, 8], common=MULTISCALE, grid=[1, 2, 2]),
    op("MultiscalePositionalEncoding", ["n", 4, 8], embed_dim=8, grid=[2, 2], absolute=True),
    op("MultiscalePositionalEncoding", ["n", 5, 8], embed_dim=8, grid=[1, 2, 2], absolute=True),
    op("mean", IMAGE, dim=[4], keepdim=False),
    op("Softmax2d", ROWS),
    op("Normal", ROWS, training_only=False, mean=0.0, std=-1.0),
    op("Uniform", ROWS, training_only=False, low=1.0, high=0.0),
    op("InTraining", ["n", 1], ROWS, operator="add"),
    op("MultiheadAttention", TOKENS, TOKENS, TOKENS, common=ATTENTION, num_heads=3),
    op("opaque", ROWS, common=OPAQUE, rebuild="cumsum"),
    op("opaque", ROWS, common=OPAQUE, submodule="mixer"),
    op("opaque", ROWS, common=MODULE, made_with={"width": {"input": 0}}),
    op("opaque", ROWS, common=MODULE, made_with={"two words": 1}),
    op("opaque", ROWS, common=MODULE, submodule="blocks..mixer"),
    op("opaque", ROWS, common=MODULE, parameters={"weight": [-1]}),
    op("opaque", ROWS, common=OPAQUE, output_shape=["n", "1234567890123"]),
    op("opaque", ROWS, common=OPAQUE, output_shape=["n", "four"]),
    op("opaque", ROWS, common=MODULE, output=-1),
    op("opaque", ROWS, common=OPAQUE, args=[{"input": 0}, {"value": 1}]),
    op("opaque", ROWS, ROWS, common=OPAQUE, args=[{"input": 0}]),
)

AREAS = (
    Area("spec-ties", "Specs: tensors that layers share", 3, "", TIES, "where `net.json` has the layer"),
    Area("spec-shared", "Specs: layers that share tensors", 3, "", SHARED, "where `net.json` has the layer"),
    Area("spec-ops", "Specs: attributes and inputs of a layer", 3, "", OPS, "where `net.json` has the layer"),
)
