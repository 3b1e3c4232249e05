"""What all ops have in common."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.ops.activation import ReLU6, Tanh
from net2net_cli.architecture.ops.norm import LayerNorm


@pytest.mark.parametrize("name", REGISTRY)
def test_ops_that_differ_in_any_attribute_are_different(name: str) -> None:
    cls: Any = REGISTRY[name]
    names = [field.name for field in dataclasses.fields(cls)]
    same = [object.__new__(cls) for _ in range(2)]
    for one in same:
        for attribute in names:
            object.__setattr__(one, attribute, 1)
    assert same[0] == same[1]
    for attribute in names:
        other = object.__new__(cls)
        for each in names:
            object.__setattr__(other, each, 2 if each == attribute else 1)
        assert other != same[0], attribute
        assert f"{attribute}=2" in repr(other)


def test_ops_of_different_kinds_are_different_and_equal_ones_have_one_hash() -> None:
    norm = LayerNorm((4,), 1e-5, True, True)
    assert norm != LayerNorm((4,), 1e-3, True, True)
    assert hash(norm) == hash(LayerNorm((4,), 1e-5, True, True))
    assert ReLU6() != Tanh()
