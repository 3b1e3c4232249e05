"""Modules and literals as Python text: short, and meaning the same to PyTorch."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
from torch import nn

from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.python_layout import flat, literal, quoted
from net2net_cli.architecture.python_modules import MODULE_ATTRIBUTES, constructor, defaults


def make(op: str, *args: Any) -> Any:
    return REGISTRY[op](*args)


def test_attributes_that_are_left_out_are_what_pytorch_assumes() -> None:
    classes: dict[str, Any] = dict(REGISTRY)
    for name, op in classes.items():
        if op.module is None or not op.module.startswith("torch.nn."):
            continue
        signature = inspect.signature(getattr(nn, op.module.rpartition(".")[2])).parameters
        for key, value in defaults(op).items():
            if key in op.__dataclass_fields__:
                assert signature[key].default == value, (name, key)


def test_names_that_modules_refuse_are_known() -> None:
    public = {name for name in dir(nn.Module()) if not name.startswith("__")}
    assert public <= MODULE_ATTRIBUTES


def test_constructors_are_short() -> None:
    convolution = make("Conv2d", 3, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1, True, "zeros")
    assert flat(constructor(convolution)) == "nn.Conv2d(3, 4, kernel_size=3, padding=1)"
    assert flat(constructor(make("BatchNorm2d", 4, 1e-5, 0.1, True, True))) == "nn.BatchNorm2d(4)"


@pytest.mark.parametrize("value", ['a"b', "a\\", "\n", "\u2028", "\ud800", (1,), (1, "a"), [], 1e-5, -0.0, True, None])
def test_literals_mean_what_they_were_made_of(value: Any) -> None:
    assert repr(ast.literal_eval(literal(value))) == repr(value)
    assert quoted("a") == '"a"'
