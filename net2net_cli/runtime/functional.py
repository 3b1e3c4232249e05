"""Function calls that the ops themselves say how to read, and function calls with parameters of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.ops.activation import PReLU
from net2net_cli.architecture.ops.arithmetic import (
    Add,
    Binary,
    Div,
    Matmul,
    Mul,
    Parameter,
    Pow,
    ReverseDiv,
    ReversePow,
    ReverseSub,
    Sub,
)
from net2net_cli.architecture.ops.conv import BorrowedLinear, Linear
from net2net_cli.architecture.ops.embedding import Embedding
from net2net_cli.architecture.ops.norm import GroupNorm, LayerNorm, PerChannelNorm, RMSNorm
from net2net_cli.architecture.ops.resize import Interpolate
from net2net_cli.architecture.shapes import Batch
from net2net_cli.runtime import attending, convolutions, filled, noise, sections, views
from net2net_cli.runtime.arrangement import Arrangement, permuted
from net2net_cli.runtime.assigned import assigned
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.owning import ForeignTensorsError, at, is_weight, owned, owned_layer, slots_of, weight_norm
from net2net_cli.runtime.readings import Readings, spoken
from net2net_cli.runtime.site import Arguments, Handler, Site, holds_batch

COUNTER = "num_batches_tracked"
BATCH_NORM_HINT = "use `torch.nn.BatchNorm2d` as it is, and put what follows it into a module of its own"

_REFLECTED: dict[type[Op], type[Binary]] = {Add: Add, Mul: Mul, Sub: ReverseSub, Div: ReverseDiv, Pow: ReversePow}


def call_of(site: Site, op: type[Op], signature: str) -> Draft:
    """A call that an op reads by itself.

    Raises:
        ValueError: the op cannot say what the call means.

    """
    found = site.arguments(signature)
    if any(isinstance(v, tuple) and any(isinstance(i, Draft) for i in v) for v in found.plain.values()):
        raise ValueError("tensors and numbers are mixed in one argument")
    if "training" in signature.split():
        return _following_the_mode(site, op, found)
    if holds_batch(tuple(found.plain.values())):
        raise ValueError("the batch size takes part in the computation")
    if op.arity is not None and len(found.tensors) != op.arity:
        raise ValueError(f"it is given {len(found.tensors)} tensors")
    if issubclass(op, Binary):
        found.plain |= {k: _number(found.plain[k]) for k in ("input", "other") if k in found.plain}
        if "input" in found.plain:
            return site.emit(_reflected(op)(scalar=found.plain["input"]), found.tensors)
    return site.emit(op.from_call(_ascending(found.plain), found.shapes), found.tensors)


def _ascending(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that were not given stay away: an op has its own defaults."""
    return {name: value for name, value in plain.items() if name != "out"}


def _number(value: Any) -> int | float:
    if not isinstance(value, (int, float)):
        raise ValueError(f"`{value}` is neither a tensor nor a real number")
    return int(value) if isinstance(value, bool) else value


def _reflected(op: type[Op]) -> type[Binary]:
    if op not in _REFLECTED:
        raise ValueError("its first operand is a number")
    return _REFLECTED[op]


def _following_the_mode(site: Site, op: type[Op], found: Arguments) -> Draft:
    """Dropout: it is a layer where it acts in training alone, and nothing where it never acts."""
    training = found.plain.get("training")
    training = site.default("training") if training is None else training
    (x,) = found.tensors
    if not training or found.plain.get("p") == 0.0:
        return x
    if site.home.mode == "eval":
        raise site.error(
            f"`{spoken(site.node)}` is active in evaluation too, so that outputs are random",
            "pass `training=self.training`, or use `torch.nn.Dropout`",
        )
    return site.emit(op.from_call(found.plain, found.shapes), (x,))


def interpolate(site: Site) -> Draft:
    """Resampling; its size may be that of another tensor."""
    found = site.arguments(Interpolate.functions["torch.nn.functional.interpolate"])
    size: tuple[Any, ...] | None = None
    tensors: list[Draft] = []
    if found.named.get("size") is not None:
        nodes = site.nodes(Interpolate.functions["torch.nn.functional.interpolate"])
        size, tensors = sections.sizes(site, nodes["size"])
    if holds_batch(size):
        raise ValueError("its size depends on the batch size")
    op = Interpolate.from_call({**found.plain, "size": size}, found.shapes)
    return site.emit(op, (found.tensors[0],), site.shape(), sizes_of=tensors)


def linear(site: Site) -> Draft:
    """`F.linear(x, self.fc.weight, self.fc.bias)`; a bias of another origin is added behind it.

    With any other matrix, computed or of another name, it is a product with that turned over.
    """
    x, slots, _ = slots_of(site, "input weight bias")
    weight, bias = slots["weight"], slots["bias"]
    assert weight is not None
    if len(weight.shape) != 2:
        raise ValueError("its weight is a vector")
    if bias is not None and not _is_bias_beside(weight, bias):
        return site.emit(Add(), (_multiplied(site, x, {"weight": weight, "bias": None}), bias), function="add")
    return _multiplied(site, x, slots)


def _is_bias_beside(weight: Draft, bias: Draft) -> bool:
    """Whether they are the parameters `weight` and `bias` of one module."""
    home = weight.wish.rpartition(".")[0]
    return is_weight(weight) and isinstance(bias.op, Parameter) and bias.wish == at(home, "bias")


def _multiplied(site: Site, x: Draft, slots: Mapping[str, Draft | None]) -> Draft:
    weight = slots["weight"]
    assert weight is not None
    if slots["bias"] is None and _is_of_another(site, weight):
        return _borrowed(site, x, weight)
    if not is_weight(weight):
        turned = site.emit(permuted(weight.shape, [1, 0]), (weight,), function="transpose")
        return site.emit(Matmul(), (x, turned), site.shape(), function="linear")
    owned(site, slots)
    out, inner = (int(n) for n in weight.shape if isinstance(n, int))
    return owned_layer(site, Linear(in_features=inner, out_features=out, bias=slots["bias"] is not None), x, slots)


def _is_of_another(site: Site, weight: Draft) -> bool:
    """Whether a matrix is the parameter of a module that does something else with it, as an embedding does."""
    if not isinstance(weight.op, Parameter) or len(weight.shape) != 2:
        return False
    cls = Readings().base_of(site.home.model.get_submodule(weight.wish.rpartition(".")[0]))
    return cls is not None and cls is not Linear


def _borrowed(site: Site, x: Draft, weight: Draft) -> Draft:
    out, inner = (int(n) for n in weight.shape if isinstance(n, int))
    made = site.emit(BorrowedLinear(inner, out), (x, weight), site.shape(), function="linear")
    made.tensors = {"weight": weight.tensors[""]}
    return made


def matmul(site: Site) -> Draft:
    """`x @ self.embed.weight.T` is a linear layer with the weights of another; other products are of activations."""
    second = site.arguments(Matmul.functions["torch.matmul"]).named.get("other")
    if isinstance(second, Draft) and isinstance(second.op, Arrangement) and second.op.transposes:
        (weight,) = second.inputs
        if _is_of_another(site, weight):
            return _borrowed(site, site.arguments("input other").tensors[0], weight)
    return call_of(site, Matmul, Matmul.functions["torch.matmul"])


def layer_norm(site: Site) -> Draft:
    """`F.layer_norm(x, shape, self.weight, self.bias)`."""
    x, slots, found = slots_of(site, "input normalized_shape weight bias eps")
    affine = slots["weight"] is not None
    op = LayerNorm(
        tuple(found.plain["normalized_shape"]), found.plain.get("eps", 1e-5), affine, slots["bias"] is not None
    )
    return owned_layer(site, op, x, slots)


def rms_norm(site: Site) -> Draft:
    """`F.rms_norm(x, shape, self.weight)`."""
    found = site.arguments("input normalized_shape weight eps")
    slots = {"weight": found.named.get("weight")}
    op = RMSNorm(tuple(found.plain["normalized_shape"]), found.plain.get("eps"), slots["weight"] is not None)
    return owned_layer(site, op, found.named["input"], slots)


def embedding(site: Site) -> Draft:
    """`F.embedding(indices, self.embed.weight)`."""
    found = site.arguments("input weight padding_idx max_norm norm_type scale_grad_by_freq sparse")
    if found.plain.get("max_norm") is not None:
        raise ValueError("`max_norm` rescales its rows in place when they are read")
    weight = found.named["weight"]
    rows, width = weight.shape
    padding, by_frequency = found.plain.get("padding_idx"), found.plain.get("scale_grad_by_freq", False)
    padding = padding + rows if padding is not None and padding < 0 else padding
    op = Embedding(rows, width, padding, by_frequency, found.plain.get("sparse", False))
    return owned_layer(site, op, found.named["input"], {"weight": weight})


def batch_norm(site: Site) -> Draft:
    """`F.batch_norm` in a subclass of a batch norm, which says its forward anew."""
    found = site.arguments("input running_mean running_var weight bias training momentum eps")
    slots = {name: found.named.get(name) for name in ("weight", "bias", "running_mean", "running_var")}
    if slots["weight"] is None or slots["running_mean"] is None:
        error = site.error("`torch.nn.functional.batch_norm` has no weight or no statistics", BATCH_NORM_HINT)
        of_samples = any(isinstance(dim, Batch) for dim in found.named["input"].shape)
        raise error if of_samples else ForeignTensorsError(error)  # weights may be standardised so
    path, tensors = owned(site, slots)
    module = site.home.model.get_submodule(path)
    cls = Readings().base_of(module)
    if cls is None or not issubclass(cls, PerChannelNorm):
        raise site.error(f"`torch.nn.functional.batch_norm` is called in a `{type(module).__name__}`", BATCH_NORM_HINT)
    op = cls.from_module(module)
    told = (found.plain.get("training", False), found.plain.get("momentum", 0.1), found.plain.get("eps", 1e-5))
    if told != (site.home.mode == "train", op.momentum, op.eps) or not op.track_running_stats:
        raise site.error("`torch.nn.functional.batch_norm` does not do what its module says", BATCH_NORM_HINT)
    made = site.emit(op, (found.named["input"],), site.shape())
    made.owner = made.wish = path
    made.tensors = tensors | {COUNTER: id(getattr(module, COUNTER))}
    return made


def group_norm(site: Site) -> Draft:
    """`F.group_norm(x, groups, self.weight, self.bias)`."""
    x, slots, found = slots_of(site, "input num_groups weight bias eps")
    if (slots["weight"] is None) != (slots["bias"] is None):
        raise ValueError("it has a weight without a bias, or a bias without a weight")
    channels = x.shape[1]
    assert isinstance(channels, int)
    affine = slots["weight"] is not None
    op = GroupNorm(found.plain["num_groups"], channels, found.plain.get("eps", 1e-5), affine)
    return owned_layer(site, op, x, slots)


def prelu(site: Site) -> Draft:
    """`F.prelu(x, self.act.weight)`."""
    x, slots, _ = slots_of(site, "input weight")
    weight = slots["weight"]
    assert weight is not None
    size = weight.shape[0]
    assert isinstance(size, int)
    return owned_layer(site, PReLU(num_parameters=size), x, slots)


_F = "torch.nn.functional"
HANDLERS: dict[str, Handler] = {
    **views.HANDLERS,
    **sections.HANDLERS,
    **attending.HANDLERS,
    **filled.HANDLERS,
    **noise.HANDLERS,
    "net2net_cli.runtime.assigning.assign": assigned,
    f"{_F}.interpolate": interpolate,
    f"{_F}.upsample": interpolate,
    **convolutions.HANDLERS,
    "torch._weight_norm": weight_norm,
    f"{_F}.linear": linear,
    **dict.fromkeys(Matmul.functions, matmul),
    f"{_F}.layer_norm": layer_norm,
    "torch.layer_norm": layer_norm,
    f"{_F}.rms_norm": rms_norm,
    "torch.rms_norm": rms_norm,
    f"{_F}.embedding": embedding,
    f"{_F}.batch_norm": batch_norm,
    f"{_F}.group_norm": group_norm,
    "torch.group_norm": group_norm,
    f"{_F}.prelu": prelu,
    "torch.prelu": prelu,
}
"""All calls that are read here and not by an op, by dotted name."""
